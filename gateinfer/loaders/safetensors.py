"""The safetensors format: a JSON header of types, shapes and byte ranges, then the bytes."""

from __future__ import annotations

import json
import math
from typing import Any, Final

import numpy as np

from gateinfer.errors import ModelError

MAX_HEADER: Final = 2**22
"""Bytes. The format itself allows 100 MB, which no model needs and which takes seconds to parse."""
MAX_RANK: Final = 32

DTYPES: Final = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip


def read_safetensors(content: bytes) -> dict[str, np.ndarray]:
    """All arrays by key, read-only, without a copy; bfloat16 becomes float32.

    Raises
    ------
    ModelError
        For a header that is too long, malformed, or contradicts the bytes: every byte belongs to exactly one array.
    """
    header, start = _header(content)
    arrays, ranges = {}, []
    for key, entry in header.items():
        if key == "__metadata__":
            continue
        what = f"tensor {key[:200]!r}"
        dtype, shape, begin, end = _entry(entry, what)
        if end > len(content) - start:
            raise ModelError(f"{what}: bytes {begin} to {end} reach past the {len(content) - start} bytes of data")
        ranges.append((begin, end, what))
        values = np.frombuffer(content, DTYPES[dtype], math.prod(shape), start + begin).reshape(shape)
        arrays[key] = from_bfloat16(values) if dtype == "BF16" else values
    _check_ranges(ranges, len(content) - start)
    return arrays


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """uint16 bit patterns as float32: bfloat16 is its upper half."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _header(content: bytes) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(MAX_HEADER, len(content) - 8):
        raise ModelError(
            f"a safetensors header of {length} bytes in a file of {len(content)}; at most {MAX_HEADER} expected"
        )
    try:
        header = json.loads(content[8 : 8 + length].decode(), object_pairs_hook=_unique)
    except ModelError:
        raise
    except (ValueError, RecursionError, MemoryError):
        raise ModelError("not a safetensors file: its header is not JSON") from None
    if not isinstance(header, dict):
        raise ModelError("not a safetensors file: its header is not a JSON object")
    return header, 8 + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ModelError(f"the safetensors header has {twice[:200]!r} twice")
    return found


def _entry(entry: Any, what: str) -> tuple[str, list[int], int, int]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ModelError(f"{what}: its header must have dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ModelError(f"{what}: element type {str(dtype)[:50]!r} is not implemented; known: {', '.join(DTYPES)}")
    if not _are_sizes(shape) or len(shape) > MAX_RANK:
        raise ModelError(f"{what}: shape must be a list of up to {MAX_RANK} numbers >= 0, got {str(shape)[:200]}")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ModelError(f"{what}: data_offsets must be two growing numbers >= 0, got {str(offsets)[:200]}")
    size = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
    if size != offsets[1] - offsets[0]:
        raise ModelError(
            f"{what}: shape {shape} of {dtype} takes {size} bytes, data_offsets give {offsets[1] - offsets[0]}"
        )
    return dtype, shape, offsets[0], offsets[1]


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(v) is int and v >= 0 for v in value)


def _check_ranges(ranges: list[tuple[int, int, str]], size: int) -> None:
    """Sorted by position the ranges have to follow each other from the first byte to the last."""
    position = 0
    for begin, end, what in sorted(ranges):
        if begin != position:
            how = "overlaps the tensor before it" if begin < position else "leaves bytes before it unused"
            raise ModelError(f"{what}: its range [{begin}, {end}] {how}")
        position = end
    if position != size:
        raise ModelError(f"the tensors take {position} of {size} bytes of data")
