"""What a caller hands over becomes an array the engine can read: native byte order, aligned, contiguous, right dtype.

float64 and float16 become float32 (float64 is rounded; a finite value that would overflow is refused), integers change
width when every value fits. Everything else that does not match is refused by name.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from gateinfer.errors import ModelError, ShapeError
from gateinfer.graph.bind import check_shape
from gateinfer.graph.ir import Port


def as_feed(port: Port, value: Any, what: str = "input") -> np.ndarray:
    """`value` as a contiguous, aligned, native array of the port's dtype that fits its declared shape.

    Raises
    ------
    ShapeError
        Names the port, what it expects and what came.
    """
    try:
        array = _as_array(port, value, what)
        check_shape(port, array.shape, what)
        array = _convert(port, array, what)
        if not (array.flags.c_contiguous and array.flags.aligned):
            array = array.copy(order="C")
    except MemoryError as error:
        raise ShapeError(f"{what} {port.name!r}: too large to be converted: {error}") from None
    return array


def as_mapping(value: Any, what: str) -> dict[str, Any]:
    """A caller's mapping of names as a dict of its own; None is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ShapeError(f"{what}: expected a dict by name, got {type(value).__name__}")
    return dict(value)


def as_names(value: Any, what: str) -> list[str]:
    """A caller's sequence of names as a list."""
    names = list(value) if isinstance(value, (list, tuple, set, frozenset, dict)) else None
    if names is None or not all(isinstance(name, str) for name in names):
        raise ShapeError(f"{what}: expected a list of names, got {type(value).__name__}")
    return names


def refuse_twice(by_position: Iterable[str], by_name: Mapping[str, Any]) -> None:
    """Raises ShapeError for an input that a call gives by position and by name."""
    for name in by_position:
        if name in by_name:
            raise ShapeError(f"{name!r} is given by position and by name; give it once")


def as_extents(value: Any, what: str) -> tuple[int, ...]:
    """A caller's shape as a tuple of extents >= 0."""
    try:
        shape = tuple(operator.index(extent) for extent in value) if isinstance(value, Iterable) else None
    except Exception:  # iterating over a caller's object and reading its items may raise anything
        shape = None
    if shape is None or min(shape, default=0) < 0:
        raise ShapeError(f"{what}: expected a tuple of extents >= 0, got {shape or type(value).__name__}")
    return shape


def as_shape(port: Port, value: Any, what: str) -> tuple[int, ...]:
    """A caller's shape for `port` as a tuple of extents >= 0 that fit."""
    shape = as_extents(value, f"{what} {port.name!r}")
    check_shape(port, shape, what)
    return shape


def new_buffer(shape: tuple[int, ...], dtype: np.dtype, name: str) -> np.ndarray:
    """Zeros for the port `name`, or a ModelError where there is no memory for them.

    A view, because the engine keeps its address: `resize` moves only arrays that own their memory.
    """
    try:
        return np.zeros(shape, dtype).view()
    except (MemoryError, ValueError) as error:  # ValueError: past the address space
        raise ModelError(f"{name!r} of shape {shape} does not fit in memory: {error}") from None


def _as_array(port: Port, value: Any, what: str) -> np.ndarray:
    try:
        if not isinstance(value, np.ndarray) and callable(getattr(value, "numpy", None)):
            value = value.numpy()  # onnxruntime.OrtValue, torch.Tensor
        array = np.asarray(value)
    except Exception as error:  # a caller's object may raise anything
        raise ShapeError(f"{what} {port.name!r}: cannot be read as an array: {error!r}") from error
    # The exact type first: numpy.ma takes longer to import than a small model to load.
    if type(value) is not np.ndarray and isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ShapeError(f"{what} {port.name!r}: masked elements have no value; use .filled(...)")
    if array.dtype.kind not in "fiub":
        raise ShapeError(f"{what} {port.name!r}: expected {port.dtype}, got {array.dtype}; pass a numeric array")
    return array


def _convert(port: Port, array: np.ndarray, what: str) -> np.ndarray:
    wanted = np.dtype(port.dtype)
    if array.dtype == wanted:
        return array if array.dtype.isnative else array.astype(wanted)
    kinds = array.dtype.kind + wanted.kind
    if kinds == "ff":
        return _convert_float(port, array, wanted, what)
    if kinds in ("ii", "ui", "iu", "uu"):
        info = np.iinfo(wanted)
        if array.size and (int(array.min()) < info.min or int(array.max()) > info.max):
            raise ShapeError(f"{what} {port.name!r}: values do not fit in {wanted}; pass {wanted} or smaller numbers")
        return array.astype(wanted)
    if not array.size:
        return array.astype(wanted)
    if array.ndim == 0 and kinds in ("if", "uf"):
        return array.astype(wanted)  # a Python number for a float scalar
    raise ShapeError(f"{what} {port.name!r}: expected {wanted}, got {array.dtype}; use .astype({wanted.name!r})")


def _convert_float(port: Port, array: np.ndarray, wanted: np.dtype, what: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        converted = array.astype(wanted)
    if array.dtype.itemsize > wanted.itemsize and bool(np.any(np.isinf(converted) & np.isfinite(array))):
        raise ShapeError(f"{what} {port.name!r}: {array.dtype} values overflow {wanted}; scale them first")
    return converted
