"""ONNX tensors to NumPy arrays, trusting nothing the file says about itself."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from typing import Any, Final

import numpy as np

from gateinfer.errors import ModelError, UnsupportedOp

MAX_RANK: Final = 32
MAX_ELEMENTS: Final = 2**31
"""Elements of one tensor, counting a zero extent as one, so that no declared shape overflows."""
MAX_WEIGHT_BYTES: Final = 2**32
"""Bytes of all tensors of one model together: many tensors may name the same region of one data file."""

# ONNX element type -> (dtype as stored, field of the typed data, dtype that field holds)
_KINDS: Final[dict[int, tuple[str, str, str]]] = {
    1: ("<f4", "float_data", "f4"),
    2: ("u1", "int32_data", "i4"),
    3: ("i1", "int32_data", "i4"),
    4: ("<u2", "int32_data", "i4"),
    5: ("<i2", "int32_data", "i4"),
    6: ("<i4", "int32_data", "i4"),
    7: ("<i8", "int64_data", "i8"),
    8: ("O", "string_data", "O"),
    9: ("?", "int32_data", "i4"),
    10: ("<f2", "int32_data", "i4"),
    11: ("<f8", "double_data", "f8"),
    12: ("<u4", "uint64_data", "u8"),
    13: ("<u8", "uint64_data", "u8"),
}
_TYPED_FIELDS: Final = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
_REFUSED: Final = {
    14: "COMPLEX64", 15: "COMPLEX128", 16: "BFLOAT16", 17: "FLOAT8E4M3FN", 18: "FLOAT8E4M3FNUZ", 19: "FLOAT8E5M2",
    20: "FLOAT8E5M2FNUZ", 21: "UINT4", 22: "INT4", 23: "FLOAT4E2M1", 24: "FLOAT8E8M0", 25: "UINT2", 26: "INT2",
}  # fmt: skip


def dtype_of(elem_type: int, what: str) -> np.dtype:
    """The NumPy dtype of an ONNX element type; `what` names its owner in errors."""
    if elem_type in _KINDS:
        return np.dtype(_KINDS[elem_type][0])
    if elem_type in _REFUSED:
        raise UnsupportedOp(f"{what}: element type {_REFUSED[elem_type]} is not implemented; convert it to FLOAT")
    raise ModelError(f"{what}: {elem_type} is not an ONNX element type")


class TensorReader:
    """Reads the tensors of one model and counts their bytes. External data may lie in `folder`, None for nowhere."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._left = MAX_WEIGHT_BYTES

    def read(self, tensor: Any, what: str) -> np.ndarray:
        """The array of a TensorProto. `what` names it in errors. The result may be read-only."""
        shape = _shape(tensor, what)
        dtype = dtype_of(tensor.data_type, what)
        if tensor.HasField("segment"):
            raise UnsupportedOp(f"{what}: segmented tensors are not implemented")
        self._left -= math.prod(shape) * dtype.itemsize
        if self._left < 0:
            raise ModelError(f"{what}: the model's tensors exceed {MAX_WEIGHT_BYTES} bytes in total")
        return self._data(tensor, what, shape, dtype).reshape(shape)

    def _data(self, tensor: Any, what: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        filled = [name for name in _TYPED_FIELDS if len(getattr(tensor, name))]
        raw = bytes(tensor.raw_data) if tensor.HasField("raw_data") else b""
        external = tensor.data_location == 1
        if bool(raw) + len(filled) + external > 1:
            sources = filled + ["raw_data"] * bool(raw) + ["external data"] * external
            raise ModelError(f"{what}: data in {' and '.join(sources)}, expected exactly one of them")
        if external:
            return _from_bytes(self._external(tensor, what, math.prod(shape) * dtype.itemsize), what, shape, dtype)
        if filled:
            return _from_field(tensor, filled[0], what, shape, dtype)
        return _from_bytes(raw, what, shape, dtype)

    def _external(self, tensor: Any, what: str, size: int) -> bytes:
        if self._folder is None:
            raise ModelError(f"{what}: external data in a model given as bytes; load it from its file's path instead")
        entries = {str(e.key): str(e.value) for e in tensor.external_data}
        offset = _count(entries.get("offset", "0"), f"{what}: external data offset")
        length = _count(entries.get("length", str(size)), f"{what}: external data length")
        if length != size:
            raise ModelError(f"{what}: external data length is {length} bytes, its shape and type need {size}")
        path = _inside(self._folder, entries.get("location", ""), what)
        return _read_region(path, offset, size, what)


def _shape(tensor: Any, what: str) -> tuple[int, ...]:
    dims = tuple(tensor.dims)
    if len(dims) > MAX_RANK:
        raise ModelError(f"{what}: rank {len(dims)}, at most {MAX_RANK} expected")
    if any(d < 0 for d in dims):
        raise ModelError(f"{what}: negative extent in shape {list(dims)}")
    if math.prod(max(d, 1) for d in dims) > MAX_ELEMENTS:
        raise ModelError(f"{what}: shape {list(dims)} has more than {MAX_ELEMENTS} elements")
    return dims


def _from_bytes(raw: bytes, what: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    if math.prod(shape) == 0 and not raw:
        return np.empty(0, dtype.newbyteorder("="))
    if dtype.kind == "O":
        raise ModelError(f"{what}: STRING data must be in string_data")
    expected = math.prod(shape) * dtype.itemsize
    if len(raw) != expected:
        raise ModelError(f"{what}: {len(raw)} bytes of data, shape {list(shape)} of {dtype} needs {expected}")
    if dtype.kind == "b" and max(raw) > 1:
        raise ModelError(f"{what}: BOOL data with bytes other than 0 and 1")
    return np.frombuffer(raw, dtype).astype(dtype.newbyteorder("="), copy=False)


def _from_field(tensor: Any, field: str, what: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    _, expected_field, held = _KINDS[tensor.data_type]
    if field != expected_field:
        raise ModelError(f"{what}: data of type {dtype} in {field}, expected in {expected_field}")
    data = getattr(tensor, field)
    if len(data) != math.prod(shape):
        raise ModelError(f"{what}: {len(data)} elements of data, shape {list(shape)} needs {math.prod(shape)}")
    if dtype.kind == "O":
        return np.array([s.decode("utf-8", "replace") for s in data], dtype=object)
    values = np.array(data, dtype=held)
    if tensor.data_type == 10:  # FLOAT16 travels as its bits in the low half of an int32
        return _narrow(values, np.dtype("u2"), what).view("f2")
    return values if values.dtype == dtype else _narrow(values, dtype, what)


def _narrow(values: np.ndarray, dtype: np.dtype, what: str) -> np.ndarray:
    narrowed = values.astype(dtype)
    if not np.array_equal(narrowed.astype(values.dtype), values):
        raise ModelError(f"{what}: values outside the range of {dtype}")
    return narrowed


def _count(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ModelError(f"{what} must be a number >= 0, got {text[:40]!r}")
    return int(text)


def _inside(folder: Path, location: str, what: str) -> Path:
    """The real path of `location`, which must lie in `folder` after every symbolic link is followed."""
    what = f"{what}: external data location {location[:200]!r}"
    parts = location.replace("\\", "/").split("/")
    # A colon is a drive or a scheme somewhere; an empty or "~" first part is an absolute path.
    if parts[0] in ("", "~") or ".." in parts or any(c in location for c in "\0:"):
        raise ModelError(f"{what} is not a plain path inside the model's folder")
    try:
        root, path = folder.resolve(), (folder / location).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelError(f"{what} cannot be resolved: {error}") from None
    if not path.is_relative_to(root):
        raise ModelError(f"{what} leads out of the model's folder")
    return path


def _read_region(path: Path, offset: int, size: int, what: str) -> bytes:
    try:
        # O_NONBLOCK: opening a pipe that somebody put there must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ModelError(f"{what}: external data {path.name!r} is not a plain file")
            if offset + size > status.st_size:
                raise ModelError(
                    f"{what}: external data {path.name!r} has {status.st_size} bytes, "
                    f"offset {offset} and length {size} reach past its end"
                )
            file.seek(offset)
            return file.read(size)
    except OSError as error:
        raise ModelError(f"{what}: external data {path.name!r} cannot be read: {error.strerror}") from None
