"""A pickle machine on plain data: what PyTorch's files say about their tensors, without unpickling anything.

`Machine` interprets the few opcodes and the few names that dicts of tensors need, and those of TorchScript modules,
which become dicts of their attributes. Every other is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from gateinfer.errors import ModelError

MAX_RANK: Final = 32

STORAGES: Final = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "BFloat16Storage": "<u2", "LongStorage": "<i8",
    "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip
"""Kinds of raw arrays, and their elements."""

_REBUILD: Final = "torch._utils _rebuild_tensor_v2"
_PARAMETER: Final = "torch._utils _rebuild_parameter"
_ORDERED: Final = "collections OrderedDict"
_SCRIPTED: Final = ("__torch__.", "__torch__ ")
"""How TorchScript's names of classes begin."""
_ITSELF: Final = frozenset(
    f"torch.jit._pickle {name}"
    for name in ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag")
)
"""Functions of TorchScript whose result is their first argument."""


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


class Scripted(dict[str, Any]):
    """An object of a TorchScript class: its attributes by name."""


class Machine:
    """A pickle machine on plain data. REDUCE calls nothing: it knows what three names stand for."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}
        """Raw arrays that the pickle names, by key."""

    def run(self, code: bytes | BinaryIO) -> Any:
        """What the pickle describes. A file is left at the pickle's end.

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
        """("storage", type, key, device, count), and None in files before PyTorch 1.6."""
        tag, kind, key, _, count, *rest = self._pop(tuple)
        kind = kind.name.removeprefix("torch ") if isinstance(kind, Name) else kind
        is_plain = tag == "storage" and kind in STORAGES and isinstance(key, str) and not any(rest)
        if not is_plain or type(count) is not int or count < 0:
            raise ModelError(f"data.pkl refers to something other than a plain storage: {str(kind)[:100]!r}")
        storage = self.storages.setdefault(key, Storage(key, kind, count))
        if storage != Storage(key, kind, count):
            raise ModelError(f"data.pkl describes storage {key[:200]!r} twice, in different ways")
        self._stack.append(storage)

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
        elif function in _ITSELF:
            self._stack.append(arguments[0])
        else:
            raise ModelError(f"data.pkl calls {function!r}, which is refused")

    def _new(self) -> None:
        """An object of TorchScript, a dict so far without attributes."""
        arguments, kind = self._pop(tuple), self._pop(Name).name
        if arguments or not kind.startswith(_SCRIPTED):
            raise ModelError(f"data.pkl makes an object of {kind!r}, which is refused")
        self._stack.append(Scripted())

    def _build(self) -> None:
        """Attributes: of a scripted object its content; of a state_dict its _metadata, which is not needed."""
        attributes = self._stack.pop()
        target = self._stack[-1]
        if not isinstance(target, dict):
            raise TypeError("attributes of something that is no dict")
        if isinstance(target, Scripted) and isinstance(attributes, dict):
            target.update(attributes)


def _known(name: str) -> Name:
    allowed = {_ORDERED, _REBUILD, _PARAMETER, *_ITSELF, *(f"torch {kind}" for kind in STORAGES)}
    if name not in allowed and not name.startswith(_SCRIPTED):
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
    "BINPERSID": Machine._persistent, "REDUCE": Machine._reduce, "BUILD": Machine._build, "NEWOBJ": Machine._new,
    "SETITEM": lambda m: m._set_items(2), "SETITEMS": lambda m: m._set_items(None),
    "APPEND": lambda m: m._append(1), "APPENDS": lambda m: m._append(None),
}  # fmt: skip
