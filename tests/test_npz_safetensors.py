"""Weight files and saved models: what loads, what comes back bit-equal, and files made to hurt."""

from __future__ import annotations

import io
import json
import pickle
import struct
import time
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hostile import BYTES, SECONDS, damaged_copies
from nets import recurrent_net
from test_weights import sequence, torch_lstm

import gateinfer as gi
from gateinfer.loaders.saved import DESCRIPTION

Arrays = dict[str, np.ndarray]


def npz(arrays: Arrays, **members: bytes) -> bytes:
    """An .npz file; `members` are further members by key, as they are."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    with zipfile.ZipFile(file, "a") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def npy(array: np.ndarray, header: str | None = None) -> bytes:
    """A .npy array, with another header if one is given."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    if header is None:
        return file.getvalue()
    text = header.encode("latin1")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + array.tobytes()


def safetensors(tensors: dict, data: bytes) -> bytes:
    """A .safetensors file from its header and its bytes."""
    header = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return struct.pack("<Q", len(header)) + header + data


SAFE_NAMES = {"float32": "F32", "float16": "F16", "float64": "F64", "int64": "I64", "uint16": "BF16"}


def as_safetensors(arrays: Arrays, metadata: dict | None = None) -> bytes:
    header, data = {"__metadata__": metadata or {"format": "np"}}, b""
    for key, array in arrays.items():
        ends = [len(data), len(data) + array.nbytes]
        header[key] = {"dtype": SAFE_NAMES[array.dtype.name], "shape": list(array.shape), "data_offsets": ends}
        data += array.tobytes()
    return safetensors(header, data)


# ---- .pt files, written without PyTorch ------------------------------------------------------------------------------


class Global:
    """Pickles as a reference to `module.name`, without a call."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Call:
    """Pickles as a call of a global."""

    def __init__(self, function: Global, *arguments) -> None:
        self.function, self.arguments = function, arguments


class Stored:
    """Pickles as a persistent reference to a storage."""

    def __init__(self, key: str, count: int, kind: str = "FloatStorage") -> None:
        self.id = ("storage", Global("torch", kind), key, "cpu", count)


class Pickler(pickle._Pickler):
    """Writes globals and calls of packages that are not there."""

    def persistent_id(self, value):
        return value.id if isinstance(value, Stored) else None

    def save(self, value, save_persistent_id=True):
        if isinstance(value, Global):
            self.write(b"c" + f"{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Call):
            self.save(value.function)
            self.save(value.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(value, save_persistent_id)


REBUILD = Global("torch._utils", "_rebuild_tensor_v2")


def tensor(
    key: str, shape, strides=None, *, offset: int = 0, count: int | None = None, kind: str = "FloatStorage"
) -> Call:
    """A tensor on storage `key`."""
    shape = tuple(shape)
    dense = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
    stored = Stored(key, int(np.prod(shape)) if count is None else count, kind)
    return Call(REBUILD, stored, offset, shape, dense if strides is None else strides, False, OrderedDict())


def pt(root, storages: dict[str, bytes], *, byteorder: bytes = b"little") -> bytes:
    """A .pt file that describes `root`."""
    description = io.BytesIO()
    Pickler(description, 2).dump(root)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("net/data.pkl", root if isinstance(root, bytes) else description.getvalue())
        archive.writestr("net/byteorder", byteorder)
        for key, content in storages.items():
            archive.writestr(f"net/data/{key}", content)
    return file.getvalue()


def as_pt(arrays: Arrays) -> bytes:
    storages = {str(i): array.tobytes() for i, array in enumerate(arrays.values())}
    root = OrderedDict((key, tensor(str(i), a.shape)) for i, (key, a) in enumerate(arrays.items()))
    return pt(root, storages)


WRITERS = {"npz": npz, "safetensors": as_safetensors, "pt": as_pt}


# ---- what loads ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("by", ["path", "content"])
def test_weight_files_are_models(form, by, tmp_path):
    arrays, x = torch_lstm(2), sequence(5, 1, 3)
    content = WRITERS[form](arrays)
    path = tmp_path / f"weights.{form}"
    path.write_bytes(content)
    model = gi.load(path if by == "path" else content)
    np.testing.assert_array_equal(model(x), gi.from_weights(arrays)(x))
    loaded = gi.load_arrays(path)
    assert loaded.keys() == arrays.keys()
    for key, array in arrays.items():
        np.testing.assert_array_equal(loaded[key], array)


def test_options_of_weight_files(tmp_path):
    arrays, x = torch_lstm(), sequence(2, 5, 3)
    path = tmp_path / "weights.npz"
    path.write_bytes(npz({f"lstm.{key}": array for key, array in arrays.items()} | {"fc": x}))
    model = gi.load(path, kind="lstm", layout="torch", prefix="lstm", batch_first=True)
    np.testing.assert_array_equal(model(x), gi.from_weights(arrays, batch_first=True)(x))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model))(x), model(x))


def test_options_are_for_weight_files_only():
    for content in (recurrent_net(), saved(gi.from_weights(torch_lstm()))):
        with pytest.raises(gi.GateInferError, match="batch_first: for weight files only"):
            gi.load(content, batch_first=True)


def test_a_keras_list_in_an_npz():
    arrays = [np.ones((3, 16)), np.ones((4, 16)), np.ones(16)]
    file = io.BytesIO()
    np.savez_compressed(file, *arrays)
    x = sequence(1, 5, 3)
    model = gi.load(file.getvalue(), layout="keras")
    np.testing.assert_array_equal(model(x), gi.from_weights(arrays)(x))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", ">f4", ">i8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_arrays(dtype, order):
    array = np.asarray(np.arange(12).reshape(3, 4) % 5, dtype, order=order)
    got = gi.load_arrays(npz({"a/b:0": array, "empty": array[:0], "scalar": array[1, 1]}))
    np.testing.assert_array_equal(got["a/b:0"], array)
    assert got["empty"].shape == (0, 4)
    assert got["scalar"].shape == () and got["scalar"] == array[1, 1]
    assert got["a/b:0"].dtype == array.dtype


def test_bfloat16_and_float16():
    values = np.array([1.5, -2.25, 0.0, 3.0], np.float32)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    content = as_safetensors({"b": bits, "h": values.astype(np.float16)})
    got = gi.load_arrays(content)
    assert got["b"].dtype == np.float32
    for key in "bh":
        np.testing.assert_array_equal(got[key], values)
    in_pt = pt({"b": tensor("0", (4,), kind="BFloat16Storage")}, {"0": bits.tobytes()})
    np.testing.assert_array_equal(gi.load_arrays(in_pt)["b"], values)


def test_pt_views_nesting_and_parameters():
    storage = np.arange(12, dtype=np.float32)
    parameter = Call(Global("torch._utils", "_rebuild_parameter"), tensor("0", (2,), count=12), True, OrderedDict())
    root = {
        "model": OrderedDict(turned=tensor("0", (4, 3), (1, 4)), tail=tensor("0", (2, 2), offset=8, count=12)),
        "parameter": parameter,
        "epoch": 3,
        "history": [0.5, None, True, (1, 2, 3, 4)],
    }
    got = gi.load_arrays(pt(root, {"0": storage.tobytes()}))
    assert set(got) == {"model.turned", "model.tail", "parameter"}
    np.testing.assert_array_equal(got["model.turned"], storage.reshape(3, 4).T)
    np.testing.assert_array_equal(got["model.tail"], [[8, 9], [10, 11]])
    np.testing.assert_array_equal(got["parameter"], [0, 1])


# ---- saved models ----------------------------------------------------------------------------------------------------


def saved(model: gi.Model) -> bytes:
    return pickle.loads(pickle.dumps(model)).source if model.source is None else b""


def assert_same(model: gi.Model, path: Path, *inputs: np.ndarray) -> gi.Model:
    """Saves the model; what comes back has the same ports and the same bits."""
    model.save(path)
    again = gi.load(path)
    assert (again.inputs, again.outputs) == (model.inputs, model.outputs)
    feeds = dict(zip((port.name for port in model.inputs), inputs, strict=False))
    for got, expected in zip(again.run(None, feeds), model.run(None, feeds), strict=True):
        np.testing.assert_array_equal(got, expected)
    return again


@pytest.mark.parametrize("bidirectional", [False, True])
def test_saved_weights(tmp_path, bidirectional):
    model = gi.from_weights(torch_lstm(2, bidirectional=bidirectional))
    again = assert_same(model, tmp_path / "model.npz", sequence(5, 2, 3))
    assert again.states == model.states
    again.save(tmp_path / "again.npz")
    assert gi.load(tmp_path / "again.npz").states == model.states


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_saved_onnx_model(tmp_path, kind):
    model = gi.load(recurrent_net(kind))
    state = [np.zeros((1, 2, 5), np.float32)] * (2 if kind == "LSTM" else 1)
    again = assert_same(model, tmp_path / "model.npz", sequence(4, 2, 3), *state)
    x = sequence(4, 2, 3)
    np.testing.assert_array_equal(again.stream()(x), model.stream()(x))


@pytest.mark.parametrize("name", ["silero-vad", "gtcrn", "rnnoise"])
def test_saved_zoo_models(tmp_path, zoo, name):
    """Models with branches, integer inputs and convolutions."""
    case = zoo(name)
    model = gi.load(case.model)
    model.save(tmp_path / "model.npz")
    streams = [one.stream(**case.constants) for one in (model, gi.load(tmp_path / "model.npz"))]
    for (feeds, _), _ in zip(case.calls(), range(5), strict=False):
        first, second = (stream(**feeds) for stream in streams)
        for key in first if isinstance(first, dict) else [...]:
            np.testing.assert_array_equal(first[key], second[key])


def description(**changes) -> bytes:
    """A saved model whose description is changed at the top level of its graph."""
    arrays = gi.load_arrays(saved(gi.from_weights(torch_lstm())))
    text = json.loads(arrays[DESCRIPTION].tobytes())
    for key, value in changes.items():
        text["graph" if key == "graph" else key] = value if key in ("graph", "version") else text.get(key)
        if key not in ("graph", "version"):
            text["graph"][key] = value
            text.pop(key)
    return npz(arrays | {DESCRIPTION: np.frombuffer(json.dumps(text).encode(), np.uint8)})


BAD_DESCRIPTIONS = {
    "version": ({"version": 99}, "later version"),
    "no graph": ({"graph": None}, "malformed"),
    "nodes": ({"nodes": [["LSTM"]]}, "malformed"),
    "many nodes": ({"nodes": [0] * 100_001}, "more than 100000 nodes"),
    "undefined": ({"nodes": []}, "nothing defines"),
    "array": ({"constants": {"lstm.W": "a999"}}, "malformed"),
    "tag": ({"nodes": [["Relu", "", "", ["x"], ["y"], {"a": {"pickle": ""}}]]}, "malformed"),
    "two tags": ({"nodes": [["Relu", "", "", ["x"], ["y"], {"a": {"bytes": "", "b": 1}}]]}, "malformed"),
    "port": ({"inputs": [["x", "object", None]]}, "malformed"),
    "shape": ({"inputs": [["x", "float32", [-1]]]}, "malformed"),
    "no outputs": ({"outputs": []}, "no outputs"),
    "opset": ({"opset": "new"}, "malformed"),
    "null": ({"nodes": [["Relu", "", "", ["x"], ["y"], {"a": None}]]}, "malformed"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_DESCRIPTIONS)
def test_bad_descriptions(name):
    changes, text = BAD_DESCRIPTIONS[name]
    refuse(description(**changes), text)


def test_a_description_that_is_no_json():
    for content in (b"{", b"[" * 50_000, b"\xff", b""):
        refuse(npz({DESCRIPTION: np.frombuffer(content, np.uint8)}), "malformed")


# ---- files made to hurt ----------------------------------------------------------------------------------------------


def refuse(source: bytes | Path, text: str, load=gi.load) -> None:
    """A typed error with this text, quickly and without much memory."""
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(gi.ModelError, match=text):
            load(source)
        assert tracemalloc.get_traced_memory()[1] < BYTES
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < SECONDS


def touched(path: Path) -> str:
    """Pickle code that would create `path`."""
    return f"open({str(path)!r}, 'w')"


class Trap:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return eval, (touched(self.path),)


def test_objects_are_never_unpickled(tmp_path):
    mark = tmp_path / "mark"
    trap = npy(np.array([Trap(mark)], object))
    refuse(npz({}, weight_ih_l0=trap), "Python objects, which are never unpickled")
    refuse(npz({}, **{DESCRIPTION: trap}), "never unpickled")
    code = pickle.dumps(Trap(mark), 2)
    for content in (pt(code, {}), pt(pickle.dumps(Trap(mark), 4), {}), pt(pickle.dumps({"w": Trap(mark)}, 0), {})):
        refuse(content, "refused")
    structured = npy(np.zeros(2, [("a", object), ("b", "f4")]))
    refuse(npz({}, a=structured), "element type")
    assert not mark.exists()


HEADER = "{'descr': %s, 'fortran_order': %s, 'shape': %s, }\n"
BAD_HEADERS = {
    "long shape": (HEADER % ("'<f4'", False, "(1000000, 1000000)"), "takes 4000000000000 bytes, got 16"),
    "short shape": (HEADER % ("'<f4'", False, "(3,)"), "takes 12 bytes, got 16"),
    "huge numbers": (HEADER % ("'<f4'", False, "(" + "9" * 4000 + ",)"), "takes 3999"),
    "overflow": (HEADER % ("'<f4'", False, "(4294967296, 4294967296)"), "takes"),
    "negative": (HEADER % ("'<f4'", False, "(-4,)"), "shape must be"),
    "not a tuple": (HEADER % ("'<f4'", False, "[4]"), "shape must be"),
    "bool": (HEADER % ("'<f4'", False, "(True,)"), "shape must be"),
    "rank": (HEADER % ("'<f4'", False, "(" + "1," * 64 + ")"), "shape must be"),
    "order": (HEADER % ("'<f4'", 3, "(4,)"), "fortran_order"),
    "dtype": (HEADER % ("'<c8'", False, "(2,)"), "element type '<c8'"),
    "text": (HEADER % ("'<U4'", False, "(1,)"), "element type"),
    "void": (HEADER % ("'|V16'", False, "(1,)"), "element type"),
    "object": (HEADER % ("'|O'", False, "(2,)"), "never unpickled"),
    "keys": ("{'descr': '<f4'}", "must have descr"),
    "call": ("__import__('os').getcwd()", "cannot be read"),
    "deep": ("(" * 5000, "cannot be read"),
    "no dict": ("[]", "must have descr"),
    "garbage": ("\x00\xff", "cannot be read"),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_lying_npy_headers(name):
    header, text = BAD_HEADERS[name]
    refuse(npz({}, a=npy(np.zeros(4, np.float32), header)), text)


def test_broken_npy_arrays():
    good = npy(np.zeros(4, np.float32))
    refuse(npz({}, a=b""), "not a .npy array")
    refuse(npz({}, a=good[:8]), "not a .npy array")
    refuse(npz({}, a=b"GIF89a" + good[6:]), "not a .npy array")
    refuse(npz({}, a=good[:6] + b"\x09" + good[7:]), "version 9")
    refuse(npz({}, a=good[:8] + b"\xff\xff" + good[10:]), "header of 65535 bytes")
    refuse(npz({}, a=good + b"\x00"), "takes 16 bytes, got 17")


def archive_of(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def bomb() -> bytes:
    """256 MiB of zeros in a quarter of a megabyte."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        zeros = bytes(1 << 22)
        for _ in range(64):
            member.write(zeros)
    return file.getvalue()


def patched(content: bytes, field: int, value: int) -> bytes:
    """The archive with one 32-bit field of its first central directory entry changed."""
    start = content.rindex(b"PK\x01\x02") + field
    return content[:start] + struct.pack("<I", value) + content[start + 4 :]


SIZE_PACKED, SIZE_UNPACKED, OFFSET = 20, 24, 42


def test_archives_made_to_hurt():
    good = npy(np.zeros(4, np.float32))
    refuse(bomb(), "refused as a decompression bomb")
    one = archive_of(("a.npy", good))
    refuse(patched(one, SIZE_UNPACKED, 2**32 - 2), "decompression bomb")
    refuse(patched(one, SIZE_UNPACKED, len(good) - 1), "corrupt|declared|takes")
    refuse(patched(one, SIZE_PACKED, 2**31), "overlap")
    refuse(patched(one, OFFSET, 2**31), "corrupt|not a readable")
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = archive_of(("a.npy", good), ("a.npy", good))
    refuse(twice, "occurs twice")
    for name in ("../a.npy", "/a.npy", "a/../../b.npy", "..\\a.npy"):
        refuse(archive_of((name, good)), "leads out of")
    refuse(archive_of(("a.npy", good), ("readme.txt", b"")), "not a .npy array: this is no .npz")
    refuse(archive_of(("a.npy", good), method=zipfile.ZIP_LZMA), "compression method")
    refuse(one[: len(one) // 2], "not a readable zip")
    flipped = bytearray(archive_of(("a.npy", good)))
    flipped[one.index(good) + len(good) - 1] ^= 1
    refuse(bytes(flipped), "corrupt")
    refuse(archive_of(), "no recurrent weights")


def test_an_encrypted_archive():
    content = bytearray(archive_of(("a.npy", b"x")))
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    refuse(bytes(content), "encrypted")


def entry(begin: int = 0, end: int = 16, shape=(4,), dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


ZEROS = bytes(16)
BAD_SAFETENSORS = {
    "past the end": (safetensors({"a": entry(0, 32, (8,))}, ZEROS), "reach past"),
    "overlap": (safetensors({"a": entry(), "b": entry(8, 16, (2,))}, ZEROS), "overlaps"),
    "same bytes": (safetensors({"a": entry(), "b": entry()}, ZEROS), "overlaps"),
    "hole": (safetensors({"a": entry(8, 16, (2,))}, ZEROS), "unused"),
    "rest": (safetensors({"a": entry(0, 8, (2,))}, ZEROS), "take 8 of 16"),
    "shape": (safetensors({"a": entry(shape=(5,))}, ZEROS), "takes 20 bytes, data_offsets give 16"),
    "huge shape": (safetensors({"a": entry(shape=(10**30, 10**30))}, ZEROS), "takes"),
    "negative": (safetensors({"a": entry(-16, 0)}, ZEROS), "data_offsets"),
    "turned": (safetensors({"a": entry(16, 0)}, ZEROS), "data_offsets"),
    "float": (safetensors({"a": entry(0.0, 16.0)}, ZEROS), "data_offsets"),
    "bool": (safetensors({"a": entry(shape=(True, 4))}, ZEROS), "shape must be"),
    "dtype": (safetensors({"a": entry(dtype="F8_E4M3")}, ZEROS), "'F8_E4M3' is not implemented"),
    "dtype list": (safetensors({"a": entry() | {"dtype": []}}, ZEROS), "is not implemented"),
    "keys": (safetensors({"a": {"dtype": "F32"}}, ZEROS), "must have dtype, shape"),
    "no object": (safetensors({"a": 3}, ZEROS), "must have dtype"),
    "list": (safetensors(b"[]", ZEROS), "not a JSON object"),
    "no json": (safetensors(b"{", ZEROS), "not JSON"),
    "deep": (safetensors(b'{"a":' + b"[" * 100_000, b""), "not JSON"),
    "digits": (safetensors(b'{"a":' + b"1" * 5000 + b"}", b""), "must have dtype|not JSON"),
    "not text": (safetensors(b'{"\xff":1}', b""), "not JSON"),
    "twice": (
        safetensors(f'{{"a":{json.dumps(entry())},"a":{json.dumps(entry())}}}'.encode(), ZEROS),
        "has 'a' twice",
    ),
    "long header": (struct.pack("<Q", 2**40) + b"{}", "header of 1099511627776 bytes"),
    "header past the end": (struct.pack("<Q", 100) + b"{}", "header of 100 bytes"),
    "padded header": (safetensors(b"{" + b" " * 2**23 + b"}", b""), "at most 4194304"),
    "short": (b"\x02\x00", "safetensors header"),
    "empty": (b"", "safetensors header"),
}


@pytest.mark.parametrize("name", BAD_SAFETENSORS)
def test_bad_safetensors(name, tmp_path):
    content, text = BAD_SAFETENSORS[name]
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    refuse(path, text)


def nested(depth: int, width: int) -> dict:
    """Dicts that share their values: width to the power of depth paths in few bytes."""
    value: dict = {"w": tensor("0", (4,))}
    for _ in range(depth):
        value = {str(i): value for i in range(width)}
    return value


def cyclic() -> dict:
    value: dict = {}
    value["again"] = value
    return value


MODULE = Call(Global("torch.nn.modules.rnn", "LSTM"))
BAD_PT = {
    "whole module": (MODULE, {}, "save model.state_dict"),
    "system": (Call(Global("posix", "system"), "true"), {}, "'posix system', which is refused"),
    "builtins": (Call(Global("builtins", "eval"), "1"), {}, "'builtins eval', which is refused"),
    "storage call": (Call(Global("torch", "FloatStorage"), 4), {}, "calls 'torch FloatStorage'"),
    "no dict": ([1, 2], {}, "no dict of tensors"),
    "absent storage": ({"w": tensor("7", (4,))}, {"0": ZEROS}, "no storage '7'"),
    "path": ({"w": tensor("../byteorder", (4,))}, {"0": ZEROS}, "no storage"),
    "short storage": ({"w": tensor("0", (5,))}, {"0": ZEROS}, "FloatStorage of 5 elements, but 16 bytes"),
    "offset": ({"w": tensor("0", (4,), offset=1)}, {"0": ZEROS}, "does not fit its storage"),
    "strides": ({"w": tensor("0", (2, 2), (4, 1), count=4)}, {"0": ZEROS}, "does not fit its storage"),
    "repeated": ({"w": tensor("0", (10**6, 10**6), (0, 0), count=4)}, {"0": ZEROS}, "does not fit its storage"),
    "negative stride": ({"w": tensor("0", (4,), (-1,), offset=3, count=4)}, {"0": ZEROS}, "malformed"),
    "text shape": ({"w": Call(REBUILD, Stored("0", 4), 0, "4", (1,))}, {"0": ZEROS}, "malformed"),
    "kind": ({"w": tensor("0", (4,), kind="ComplexFloatStorage")}, {"0": ZEROS}, "refused"),
    "deep": (nested(40, 1), {"0": ZEROS}, "nests more than 8"),
    "wide": (nested(6, 10), {"0": ZEROS}, "more than 16384 entries"),
    "cyclic": (cyclic(), {}, "nests more than 8"),
    "no end": (b"\x80\x02}", {}, "malformed"),
    "no stack": (b"\x80\x02R.", {}, "malformed"),
    "no mark": (b"\x80\x02t.", {}, "malformed"),
    "empty": (b"", {}, "malformed"),
    "extension": (b"\x80\x02\x82\x01.", {}, "opcode EXT1"),
    "instance": (b"\x80\x02(iposix\nsystem\n.", {}, "opcode INST"),
    "new object": (b"\x80\x02ctorch\nFloatStorage\n)\x81.", {}, "makes an object of 'torch FloatStorage'"),
    "long": (b"\x80\x02\x8b\xff\xff\xff\x7f.", {}, "malformed|opcode"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_PT)
def test_bad_pt(name):
    root, storages, text = BAD_PT[name]
    refuse(pt(root, storages), text)


def test_other_pt_files(tmp_path):
    refuse(pt({}, {}, byteorder=b"big"), "little-endian")
    path = tmp_path / "old.pt"
    path.write_bytes(pickle.dumps({"w": 1}))
    refuse(path, "not a readable zip")
    path.write_bytes(archive_of(("a/data.pkl", b""), ("b/data.pkl", b"")))
    refuse(path, "exactly one data.pkl")
    many = {f"w{i}": tensor("0", (2, 50_000), (1, 2), count=100_000) for i in range(200)}
    refuse(pt(many, {"0": bytes(400_000)}), "far more memory")


def test_paths_that_are_no_files(tmp_path):
    for name in ("absent.npz", "absent.safetensors", "absent.pt"):
        refuse(tmp_path / name, "cannot be read")
    (tmp_path / "folder.npz").mkdir()
    refuse(tmp_path / "folder.npz", "not a plain file")
    refuse(tmp_path / "absent.onnx", "not a weight file", gi.load_arrays)


@pytest.mark.parametrize("form", [*WRITERS, "saved"])
def test_damaged_files_give_typed_errors(form):
    """Any flipped byte or cut is either noticed with a typed error or harmless."""
    model = gi.from_weights(torch_lstm(hidden=2))
    content = saved(model) if form == "saved" else WRITERS[form](torch_lstm(hidden=2))
    for damaged in damaged_copies(content):
        try:
            gi.load(damaged)
        except gi.GateInferError:
            pass
