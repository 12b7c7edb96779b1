"""Paths made to hurt: model files that are none, and external data outside the model's folder or unlike its tensor."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import pytest
from hostile import assert_refused, ingest
from onnx import TensorProto
from onnx_models import lstm


def _external(folder: Path, location: str, **entries: str) -> Path:
    """A model whose W (128 bytes) lies in `location`."""
    proto = lstm()
    tensor = proto.graph.initializer[0]
    tensor.raw_data = b""
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": location} | entries).items():
        tensor.external_data.add(key=key, value=value)
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder with 200 bytes in data.bin, and a secret of the same size next to it."""
    inside = tmp_path / "model"
    inside.mkdir()
    (inside / "data.bin").write_bytes(bytes(200))
    (tmp_path / "secret.bin").write_bytes(bytes(200))
    return inside


def test_external_data_that_is_right_loads(folder: Path) -> None:
    ingest(_external(folder, "data.bin", offset="72", length="128"))


@pytest.mark.parametrize(
    "location",
    ["", ".", "..", "../secret.bin", "sub/../../secret.bin", "/etc/passwd", "/dev/zero", "~/x", "..\\secret.bin",
     "C:\\x", "C:/x", "file:///etc/passwd", "\\\\host\\share", "data.bin\0", "\0", "missing.bin", "data.bin/x",
     "x" * 5000, "//etc/passwd", "./../secret.bin", "model.onnx/../../secret.bin"],
    ids=lambda location: repr(location[:30]),
)  # fmt: skip
def test_external_locations(folder: Path, location: str) -> None:
    assert_refused(_external(folder, location))


@pytest.mark.parametrize(
    "entries",
    [{"offset": "-1"}, {"offset": "73"}, {"offset": "99999999999999999999"}, {"offset": "0x0"}, {"offset": "1e1"},
     {"offset": ""}, {"offset": "²"}, {"length": "127"}, {"length": "129"}, {"length": "-128"}, {"length": "many"},
     {"length": str(2**62)}, {"offset": str(2**63 - 1)}],
    ids=str,
)  # fmt: skip
def test_external_regions(folder: Path, entries: dict[str, str]) -> None:
    assert_refused(_external(folder, "data.bin", **entries))


def test_external_data_in_bytes(folder: Path) -> None:
    assert_refused(_external(folder, "data.bin").read_bytes())


def test_external_link_out_of_the_folder(folder: Path) -> None:
    (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
    assert_refused(_external(folder, "link.bin"))


def test_external_link_through_a_folder(folder: Path) -> None:
    (folder / "sub").symlink_to(folder.parent)
    assert_refused(_external(folder, "sub/secret.bin"))


def test_external_links_in_a_circle(folder: Path) -> None:
    (folder / "a").symlink_to(folder / "b")
    (folder / "b").symlink_to(folder / "a")
    assert_refused(_external(folder, "a"))


def test_external_data_in_a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert_refused(_external(folder, "pipe"))


def test_external_data_is_a_folder(folder: Path) -> None:
    (folder / "sub").mkdir()
    assert_refused(_external(folder, "sub"))


def test_external_terabytes_in_a_sparse_file(folder: Path) -> None:
    path = _external(folder, "sparse.bin")
    proto = onnx.load_model(path, load_external_data=False)
    del proto.graph.initializer[0].dims[:]
    proto.graph.initializer[0].dims.extend([2**31, 1])
    path.write_bytes(proto.SerializeToString())
    with open(folder / "sparse.bin", "wb") as file:
        file.truncate(2**33)
    assert_refused(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    for path in (tmp_path, tmp_path / "missing.onnx", tmp_path / "pipe.onnx", Path("/dev/zero"), tmp_path / "a\0b"):
        assert_refused(path)


def test_a_file_beyond_the_limit(tmp_path: Path) -> None:
    with open(tmp_path / "huge.onnx", "wb") as file:
        file.truncate(2**31)
    assert_refused(tmp_path / "huge.onnx")
