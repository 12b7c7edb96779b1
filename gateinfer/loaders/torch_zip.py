"""PyTorch's .pt files as zip archives of raw arrays.

The file says with pickle opcodes which bytes are which tensor. They are never unpickled: `Machine` interprets the few
opcodes and the few names that a state_dict needs, on plain lists and dicts, and refuses every other.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from gateinfer.errors import ModelError
from gateinfer.loaders.archive import Archive
from gateinfer.loaders.safetensors import from_bfloat16

MAX_PICKLE: Final = 2**22
"""Bytes of the description of all tensors."""
MAX_TENSORS: Final = 2**14
MAX_DEPTH: Final = 8
"""Dicts inside dicts."""
MAX_RANK: Final = 32

_STORAGES: Final = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "BFloat16Storage": "<u2", "LongStorage": "<i8",
    "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip

_REBUILD: Final = "torch._utils _rebuild_tensor_v2"
_PARAMETER: Final = "torch._utils _rebuild_parameter"
_ORDERED: Final = "collections OrderedDict"


@dataclass(frozen=True, slots=True)
class Name:
    """A global the pickle names. It is never imported."""

    name: str


@dataclass(frozen=True, slots=True)
class Storage:
    """A raw array of the archive."""

    key: str
    kind: str
    count: int


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A window on a storage: offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch(content: bytes) -> dict[str, np.ndarray]:
    """All tensors of a .pt file by key; keys of nested dicts are joined by dots.

    Raises
    ------
    ModelError
        For anything but nested dicts of tensors over raw storages, such as whole pickled modules.
    """
    archive = Archive(content)
    descriptions = [name for name in archive.names if name.endswith("/data.pkl")]
    if len(descriptions) != 1:
        raise ModelError("not a PyTorch weight file: it needs exactly one data.pkl; TorchScript files are not read")
    folder = descriptions[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.names and archive.read(f"{folder}byteorder") != b"little":
        raise ModelError("the PyTorch file is not little-endian")
    if archive.size(descriptions[0]) > MAX_PICKLE:
        raise ModelError(f"data.pkl has {archive.size(descriptions[0])} bytes, at most {MAX_PICKLE} expected")
    root = Machine().run(archive.read(descriptions[0]))
    if not isinstance(root, dict):
        raise ModelError("the PyTorch file holds no dict of tensors; save model.state_dict()")
    references = dict(_tensors(root))
    reader = _StorageReader(archive, folder)
    return {key: reader.array(key, reference) for key, reference in references.items()}


def is_torch(names: list[str]) -> bool:
    """Whether these members are those of a .pt file."""
    return any(name.endswith("/data.pkl") for name in names)


def _tensors(root: dict[Any, Any]) -> Iterator[tuple[str, TensorRef]]:
    """Tensors of nested dicts. Dicts may be shared, even by themselves, so depth and number are bounded."""
    stack: list[tuple[str, Any, int]] = [("", root, 0)]
    visited, seen = 0, set()
    while stack:
        prefix, value, depth = stack.pop()
        visited += 1
        if visited > MAX_TENSORS or depth > MAX_DEPTH:
            raise ModelError(
                f"the PyTorch file nests more than {MAX_DEPTH} dicts or has more than {MAX_TENSORS} entries"
            )
        if isinstance(value, TensorRef):
            if prefix in seen:
                raise ModelError(f"two tensors are called {prefix[:200]!r}")
            seen.add(prefix)
            yield prefix, value
        elif isinstance(value, dict):
            entries = [(f"{prefix}.{key}" if prefix else str(key), v, depth + 1) for key, v in value.items()]
            stack.extend(reversed(entries))


class _StorageReader:
    """Turns references into arrays on the archive's bytes."""

    def __init__(self, archive: Archive, folder: str) -> None:
        self._archive = archive
        self._folder = folder
        self._storages: dict[Storage, np.ndarray] = {}
        self._copied = 0

    def array(self, key: str, ref: TensorRef) -> np.ndarray:
        what = f"tensor {key[:200]!r}"
        storage = self._storage(ref.storage, what)
        if 0 in ref.shape:
            return np.zeros(ref.shape, np.float32)
        last = ref.offset + sum((d - 1) * s for d, s in zip(ref.shape, ref.strides, strict=True))
        size = math.prod(ref.shape)
        if last >= len(storage) or size > len(storage):
            raise ModelError(f"{what}: shape {ref.shape} does not fit its storage of {len(storage)} elements")
        window = np.lib.stride_tricks.as_strided(
            storage[ref.offset :], ref.shape, [s * storage.itemsize for s in ref.strides], writeable=False
        )
        if not window.flags.c_contiguous or ref.storage.kind == "BFloat16Storage":
            self._spend(size * 4, what)
        return from_bfloat16(window) if ref.storage.kind == "BFloat16Storage" else np.ascontiguousarray(window)

    def _storage(self, storage: Storage, what: str) -> np.ndarray:
        if storage not in self._storages:
            name = f"{self._folder}data/{storage.key}"
            if name not in self._archive.names:
                raise ModelError(f"{what}: the archive has no storage {storage.key[:200]!r}")
            dtype = np.dtype(_STORAGES[storage.kind])
            if self._archive.size(name) != storage.count * dtype.itemsize:
                raise ModelError(
                    f"{what}: a {storage.kind} of {storage.count} elements, but {self._archive.size(name)} bytes"
                )
            self._spend(storage.count * dtype.itemsize, what)
            self._storages[storage] = np.frombuffer(self._archive.read(name), dtype)
        return self._storages[storage]

    def _spend(self, size: int, what: str) -> None:
        """Views on one storage cost nothing; copies, and one storage read as several types, are counted."""
        self._copied += size
        if self._copied > 4 * sum(self._archive.size(name) for name in self._archive.names) + 2**20:
            raise ModelError(f"{what}: the tensors need far more memory than the file has")


class Machine:
    """A pickle machine on plain data. REDUCE calls nothing: it knows what three names stand for."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, code: bytes) -> Any:
        """What the pickle describes.

        Raises
        ------
        ModelError
            For opcodes and names that a dict of tensors does not need.
        """
        try:
            for opcode, argument, _ in pickletools.genops(code):
                if opcode.name == "STOP":
                    return self._stack.pop()
                self._step(opcode.name, argument)
        except ModelError:
            raise
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError, RecursionError) as error:
            raise ModelError(f"data.pkl is malformed: {type(error).__name__} {str(error)[:100]}") from None
        raise ModelError("data.pkl is malformed: it has no end")

    def _step(self, op: str, argument: Any) -> None:
        if op in _PUSHES:
            self._stack.append(argument)
        elif op in _CONSTANTS:
            self._stack.append(_CONSTANTS[op]())
        elif op in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memo[len(self._memo) if op == "MEMOIZE" else argument] = self._stack[-1]
        elif op in ("BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        elif op in ("GLOBAL", "STACK_GLOBAL"):
            self._stack.append(
                _known(argument if op == "GLOBAL" else " ".join(reversed([self._pop(str), self._pop(str)])))
            )
        elif op == "MARK":
            self._marks.append(len(self._stack))
        elif op in _TUPLES:
            self._stack.append(tuple(self._take(_TUPLES[op])))
        elif op in _ACTIONS:
            _ACTIONS[op](self)
        elif op not in ("PROTO", "FRAME"):
            raise ModelError(f"data.pkl uses the opcode {op}, which a state_dict does not need: refused")

    def _pop(self, kind: type) -> Any:
        value = self._stack.pop()
        if not isinstance(value, kind):
            raise TypeError(f"expected {kind.__name__}")
        return value

    def _take(self, count: int | None) -> list[Any]:
        """The last `count` values, or all since the last mark."""
        start = self._marks.pop() if count is None else len(self._stack) - count
        if start < 0:
            raise IndexError("stack underflow")
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _set_items(self, count: int | None) -> None:
        values = self._take(count)
        target = self._stack[-1]
        if not isinstance(target, dict):
            raise TypeError("items of something that is no dict")
        target.update(zip(values[::2], values[1::2], strict=True))

    def _append(self, count: int | None) -> None:
        values = self._take(count)
        self._stack[-1].extend(values) if isinstance(self._stack[-1], list) else self._fail_append()

    def _fail_append(self) -> None:
        raise TypeError("appends to something that is no list")

    def _persistent(self) -> None:
        """("storage", type, key, device, count)."""
        tag, kind, key, _, count = self._pop(tuple)
        kind = kind.name.removeprefix("torch ") if isinstance(kind, Name) else kind
        if tag != "storage" or kind not in _STORAGES or not isinstance(key, str) or type(count) is not int or count < 0:
            raise ModelError(f"data.pkl refers to something other than a plain storage: {str(kind)[:100]!r}")
        self._stack.append(Storage(key, kind, count))

    def _reduce(self) -> None:
        arguments, function = self._pop(tuple), self._pop(Name).name
        if function == _ORDERED:
            self._stack.append(dict(*arguments))
        elif function == _REBUILD:
            self._stack.append(_tensor(*arguments[:4]))
        elif function == _PARAMETER:
            if not isinstance(arguments[0], TensorRef):
                raise TypeError("a parameter of something that is no tensor")
            self._stack.append(arguments[0])
        else:
            raise ModelError(f"data.pkl calls {function!r}, which is refused")

    def _build(self) -> None:
        """Attributes of a state_dict, its _metadata: not needed."""
        self._stack.pop()
        if not isinstance(self._stack[-1], dict):
            raise TypeError("attributes of something that is no dict")


def _known(name: str) -> Name:
    allowed = {_ORDERED, _REBUILD, _PARAMETER, *(f"torch {kind}" for kind in _STORAGES)}
    if name not in allowed:
        raise ModelError(
            f"data.pkl names {name[:200]!r}, which is refused: only dicts of tensors are read; save model.state_dict()"
        )
    return Name(name)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> TensorRef:
    numbers = (offset, *shape, *strides)
    plain = isinstance(storage, Storage) and isinstance(shape, tuple) and isinstance(strides, tuple)
    if not plain or len(shape) != len(strides) or len(shape) > MAX_RANK:
        raise TypeError("a tensor of something that is no storage, shape and strides")
    if any(type(n) is not int or n < 0 for n in numbers):
        raise ValueError("offset, shape and strides must be numbers >= 0")
    return TensorRef(storage, offset, shape, strides)


_PUSHES: Final = frozenset(
    "BINUNICODE SHORT_BINUNICODE BINUNICODE8 UNICODE BININT BININT1 BININT2 INT LONG1 LONG BINFLOAT".split()
)
_CONSTANTS: Final[dict[str, Callable[[], Any]]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict,
}  # fmt: skip
_TUPLES: Final = {"TUPLE": None, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_ACTIONS: Final[dict[str, Callable[[Machine], None]]] = {
    "BINPERSID": Machine._persistent, "REDUCE": Machine._reduce, "BUILD": Machine._build,
    "SETITEM": lambda m: m._set_items(2), "SETITEMS": lambda m: m._set_items(None),
    "APPEND": lambda m: m._append(1), "APPENDS": lambda m: m._append(None),
}  # fmt: skip
