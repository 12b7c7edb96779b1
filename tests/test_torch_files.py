"""PyTorch's other files, written without PyTorch: TorchScript archives and what came before version 1.6."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from hostile import damaged_copies
from test_npz_safetensors import Call, Global, Pickler, Stored, archive_of, pt, refuse, tensor
from test_weights import sequence, torch_lstm

import gateinfer as gi

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
Arrays = dict[str, np.ndarray]


# ---- TorchScript -----------------------------------------------------------------------------------------------------


class Module:
    """Pickles as an object of a TorchScript class with these attributes."""

    def __init__(self, name: str, arguments: tuple = (), **attributes) -> None:
        self.name, self.arguments, self.attributes = name, arguments, attributes


class ScriptPickler(Pickler):
    def save(self, value, save_persistent_id=True):
        if isinstance(value, Module):
            self.save(Global(*value.name.rsplit(".", 1)))
            self.save(value.arguments)
            self.write(pickle.NEWOBJ)
            self.save(value.attributes)
            self.write(pickle.BUILD)
        else:
            super().save(value, save_persistent_id)


def described(root) -> bytes:
    file = io.BytesIO()
    ScriptPickler(file, 2).dump(root)
    return file.getvalue()


def script_of(arrays: Arrays) -> tuple[Module, dict[str, bytes]]:
    """A scripted module with scales, a list, a flag and an LSTM inside, and its storages."""
    tensors = {key: tensor(str(i), a.shape) for i, (key, a) in enumerate(arrays.items())}
    sizes = Call(Global("torch.jit._pickle", "build_intlist"), [3, 4])
    tagged = Call(Global("torch.jit._pickle", "restore_type_tag"), {"a": 1}, "Dict[str, int]")
    lstm = Module("__torch__.torch.nn.modules.rnn.LSTM", training=False, sizes=sizes, extra=tagged, **tensors)
    root = Module("__torch__.models.Actuator", scale=tensor("s", (2,)), lstm=lstm, hook=None, dim=8)
    storages = {str(i): array.tobytes() for i, array in enumerate(arrays.values())}
    return root, storages | {"s": np.array([0.5, 2], np.float32).tobytes()}


@pytest.mark.parametrize("name", ["net.pt", "net.jit", None])
def test_modules_of_torchscript_are_dicts_of_their_attributes(name, tmp_path):
    arrays, x = torch_lstm(2), sequence(5, 1, 3)
    root, storages = script_of(arrays)
    content = pt(described(root), storages)
    source = content if name is None else tmp_path / name
    if name is not None:
        source.write_bytes(content)
    loaded = gi.load_arrays(source)
    assert loaded.keys() == {"scale", *(f"lstm.{key}" for key in arrays)}
    np.testing.assert_array_equal(loaded["scale"], [0.5, 2])
    np.testing.assert_array_equal(gi.load(source, prefix="lstm")(x), gi.from_weights(arrays)(x))


BAD_SCRIPTS = {
    "another class": (Module("os.path.join"), "names 'os.path join', which is refused"),
    "arguments": (Module("__torch__.Net", ("rm",)), "makes an object of '__torch__ Net', which is refused"),
    "called": (Call(Global("__torch__.models", "Net"), 1), "calls '__torch__.models Net', which is refused"),
    "not a class": (Module("collections.OrderedDict"), "makes an object of 'collections OrderedDict'"),
    "tag of nothing": (Call(Global("torch.jit._pickle", "restore_type_tag")), "malformed"),
    "no dict at the top": (Call(Global("torch.jit._pickle", "build_intlist"), [1]), "holds no dict of tensors"),
}


@pytest.mark.parametrize("name", BAD_SCRIPTS)
def test_bad_scripts(name):
    root, text = BAD_SCRIPTS[name]
    refuse(pt(described(root), {}), text)


def test_attributes_that_refer_to_their_own_module():
    module = Module("__torch__.Net")
    root = described(module)[:-1] + pickle.BINPUT + b"\x09" + pickle.EMPTY_DICT + b"X\x04\x00\x00\x00self"
    refuse(pt(root + pickle.BINGET + b"\x09" + pickle.SETITEM + pickle.BUILD + pickle.STOP, {}), "nests more than")


# ---- before version 1.6 ----------------------------------------------------------------------------------------------


class OldStored(Stored):
    """A storage as old files refer to it: no view of another one."""

    def __init__(self, key: str, count: int, kind: str = "FloatStorage", view=None) -> None:
        super().__init__(key, count, kind)
        self.id = (*self.id, view)


def old_tensor(key: str, shape, **options) -> Call:
    call = tensor(key, shape)
    call.arguments = (OldStored(key, int(np.prod(shape)), **options), *call.arguments[1:])
    return call


def old_pt(root, storages: Arrays, *, system: dict | None = None, keys=None, counts=None) -> bytes:
    """A .pt file of PyTorch 1.5 that describes `root`."""
    file = io.BytesIO()
    system = {"protocol_version": PROTOCOL, "little_endian": True} if system is None else system
    for value in (MAGIC, PROTOCOL, system, root, list(storages) if keys is None else keys):
        Pickler(file, 2).dump(value)
    for i, array in enumerate(storages.values()):
        file.write(np.int64(array.size if counts is None else counts[i]).tobytes() + array.tobytes())
    return file.getvalue()


def old_checkpoint(arrays: Arrays) -> bytes:
    root = {"epoch": 3, "model": {key: old_tensor(key, a.shape) for key, a in arrays.items()}}
    return old_pt(root, dict(reversed(arrays.items())))


@pytest.mark.parametrize("name", ["old.pt", "old.ckpt", None])
def test_files_before_version_1_6(name, tmp_path):
    arrays, x = torch_lstm(2), sequence(5, 1, 3)
    source = old_checkpoint(arrays)
    if name is not None:
        (tmp_path / name).write_bytes(source)
        source = tmp_path / name
    loaded = gi.load_arrays(source)
    assert list(loaded) == [f"model.{key}" for key in arrays]
    for key, array in arrays.items():
        np.testing.assert_array_equal(loaded[f"model.{key}"], array)
    np.testing.assert_array_equal(gi.load(source, prefix="model")(x), gi.from_weights(arrays)(x))


def test_old_files_share_storages_and_have_other_types():
    numbers = np.arange(6, dtype=np.int64)
    root = {"a": old_tensor("n", (6,), kind="LongStorage"), "b": old_tensor("n", (6,), kind="LongStorage")}
    loaded = gi.load_arrays(old_pt(root, {"n": numbers}))
    np.testing.assert_array_equal(loaded["a"], numbers)
    np.testing.assert_array_equal(loaded["b"], numbers)


ROW = {"w": np.zeros(4, np.float32)}
BAD_OLD = {
    "big endian": (old_pt({}, {}, system={"little_endian": False}), "little-endian"),
    "no system": (old_pt({}, {}, system=[]), "little-endian"),
    "keys of nothing": (old_pt({"w": old_tensor("w", (4,))}, ROW, keys=["v"]), "lists storages that its tensors"),
    "keys that are no list": (old_pt({"w": old_tensor("w", (4,))}, ROW, keys={"w": 1}), "lists storages"),
    "another count": (old_pt({"w": old_tensor("w", (4,))}, ROW, counts=[5]), "does not hold its 4 elements"),
    "a huge count": (old_pt({"w": old_tensor("w", (2**40,))}, ROW, counts=[2**40]), "does not hold its"),
    "cut off": (old_pt({"w": old_tensor("w", (4,))}, ROW)[:-1], "does not hold its 4 elements"),
    "no storage": (old_pt({"w": old_tensor("w", (4,))}, {}, keys=[]), "has no storage 'w'"),
    "no keys": (old_pt({}, {})[: -len(pickle.dumps([], 2))], "malformed"),
    "a view": (old_pt({"w": old_tensor("w", (4,), view=("x", 0, 1))}, ROW), "other than a plain storage"),
    "two kinds": (
        old_pt({"w": old_tensor("w", (4,)), "v": old_tensor("w", (4,), kind="IntStorage")}, ROW),
        "describes storage 'w' twice",
    ),
    "code": (old_pt(Global("os", "system"), {}), "names 'os system', which is refused"),
    "code before it": (old_pt({}, {}, system=Global("os", "system")), "names 'os system', which is refused"),
}


@pytest.mark.parametrize("name", BAD_OLD)
def test_bad_old_files(name):
    refuse(*BAD_OLD[name])


@pytest.mark.parametrize("form", ["script", "old"])
def test_damaged_files_give_typed_errors(form):
    arrays = torch_lstm(hidden=2)
    root, storages = script_of(arrays)
    content = old_checkpoint(arrays) if form == "old" else pt(described(root), storages)
    for damaged in damaged_copies(content):
        try:
            gi.load_arrays(damaged)
        except gi.GateInferError:
            pass


# ---- files of other kinds --------------------------------------------------------------------------------------------

FOREIGN = {
    "net.h5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5 file.* export it to ONNX"),
    "net.keras": (archive_of(("config.json", b"{}"), ("model.weights.h5", b"")), "Keras model; export it to ONNX"),
    "net.tflite": (b"\x1c\0\0\0TFL3" + bytes(64), "TensorFlow Lite model"),
    "net.json": (b'{"state_dict": {}}', "JSON file.*gateinfer.from_weights"),
    "net.onnx": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_other_kinds_are_named(name, tmp_path):
    content, text = FOREIGN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(gi.ModelError, match=text):
        gi.load(tmp_path / name)
