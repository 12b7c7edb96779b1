"""NumPy's .npy format, without objects: header and bytes have to agree before an array is made."""

from __future__ import annotations

import ast
import math
import re
from typing import Any, Final

import numpy as np

from gateinfer.errors import ModelError

MAGIC: Final = b"\x93NUMPY"
MAX_HEADER: Final = 10_000
MAX_RANK: Final = 32

_DTYPE = re.compile(r"[<>|=](?:f[248]|[iu][1248]|b1)")
_KEYS: Final = {"descr", "fortran_order", "shape"}


def parse_npy(content: bytes, what: str) -> np.ndarray:
    """The array in `content`; read-only, without a copy where possible.

    Raises
    ------
    ModelError
        For anything but a plain array of numbers whose header says exactly what follows.
    """
    header, start = _header(content, what)
    dtype = _dtype(header["descr"], what)
    shape, fortran = header["shape"], header["fortran_order"]
    if not isinstance(fortran, bool):
        raise ModelError(f"{what}: fortran_order must be True or False, got {fortran!r}")
    if not isinstance(shape, tuple) or len(shape) > MAX_RANK or not all(type(d) is int and d >= 0 for d in shape):
        raise ModelError(f"{what}: shape must be a tuple of up to {MAX_RANK} numbers >= 0, got {str(shape)[:200]}")
    size = math.prod(shape) * dtype.itemsize
    if size != len(content) - start:
        raise ModelError(f"{what}: shape {shape} of {dtype} takes {size} bytes, got {len(content) - start}")
    array = np.frombuffer(content, dtype, math.prod(shape), start) if size else np.zeros(math.prod(shape), dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def _header(content: bytes, what: str) -> tuple[dict[str, Any], int]:
    """The header and where the elements begin."""
    if content[:6] != MAGIC or len(content) < 10:
        raise ModelError(f"{what} is not a .npy array")
    major = content[6]
    if major not in (1, 2, 3):
        raise ModelError(f"{what}: .npy version {major} is not known")
    width = 2 if major == 1 else 4
    length, start = int.from_bytes(content[8 : 8 + width], "little"), 8 + width
    if length > MAX_HEADER or start + length > len(content):
        raise ModelError(
            f"{what}: a .npy header of {length} bytes, at most {min(MAX_HEADER, len(content) - start)} expected"
        )
    try:
        header = ast.literal_eval(content[start : start + length].decode("utf-8" if major == 3 else "latin1").strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        raise ModelError(f"{what}: its .npy header cannot be read") from None
    if not isinstance(header, dict) or set(header) != _KEYS:
        raise ModelError(f"{what}: its .npy header must have descr, fortran_order and shape")
    return header, start + length


def _dtype(descr: Any, what: str) -> np.dtype:
    if isinstance(descr, str) and _DTYPE.fullmatch(descr):
        return np.dtype(descr)
    if isinstance(descr, str) and "O" in descr:
        raise ModelError(f"{what} holds Python objects, which are never unpickled; save it as an array of numbers")
    raise ModelError(f"{what}: element type {str(descr)[:200]!r} is not implemented; numbers of up to 64 bits are")
