"""The bytes of a model file, from a path or as they are."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from gateinfer.errors import ModelError

MAX_FILE: Final = 2**31 - 1
"""Bytes: protobuf's own limit, and plenty for weights."""

KERAS_ADVICE: Final = "export it to ONNX, or save the list of layer.get_weights() with numpy.savez"

_OTHERS: Final = (
    (b"\x89HDF\r\n", 0, f"this is an HDF5 file, as Keras writes them; {KERAS_ADVICE}"),
    (b"TFL3", 4, "this is a TensorFlow Lite model; export the model it was made from to ONNX"),
    (b"version https://git-lfs", 0, "this is a Git LFS pointer, not the file itself; run git lfs pull"),
    (b"{", 0, "this is a JSON file; give the arrays in it to gateinfer.from_weights or to gateinfer.layers"),
)
"""First bytes of files that are taken for models, where these bytes are, and what to do."""

Source = str | os.PathLike[str] | bytes


def as_path(source: Source) -> Path:
    """`source` as a path; ModelError when it is none."""
    try:
        return Path(os.fsdecode(source))
    except TypeError:
        raise ModelError(f"expected a path or the bytes of a model, got {type(source).__name__}") from None


def refuse_others(content: bytes) -> None:
    """Raises ModelError that says what a file is, and what to do, when it is of a kind that is known and not read."""
    for magic, start, advice in _OTHERS:
        if content[start : start + len(magic)] == magic:
            raise ModelError(advice)


def read_source(source: Source) -> tuple[bytes, Path | None]:
    """The content, and the folder that files next to it are in, which content alone has not.

    Raises
    ------
    ModelError
        For a path that is no plain file, cannot be read or is too large.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        if len(source) > MAX_FILE:
            raise ModelError(f"{len(source)} bytes of model, at most {MAX_FILE} expected")
        return bytes(source), None
    path = as_path(source)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{str(path)!r} is not a plain file")
        if status.st_size > MAX_FILE:
            raise ModelError(f"{str(path)!r} has {status.st_size} bytes, at most {MAX_FILE} expected")
        return path.read_bytes(), path.parent
    except (OSError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{str(path)!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None
