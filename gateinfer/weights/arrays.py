"""Arrays that callers and files hand over, as float32 with a key that errors can name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from gateinfer.errors import ModelError

MAX_EXTENT: Final = 2**31 - 1
_NAMES_SHOWN: Final = 8


@dataclass(frozen=True, slots=True)
class Weight:
    """One array of a weight set. `array` is float32; `key` is what its owner calls it."""

    key: str
    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def expect(self, shape: Sequence[int], meaning: str) -> np.ndarray:
        """The array, which must have `shape`; `meaning` spells it in letters for the error, such as "[4H, I]"."""
        if self.shape != tuple(shape):
            raise ModelError(f'weight "{self.key}": expected shape {list(shape)} {meaning}, got {list(self.shape)}')
        return self.array

    def expect_rank(self, rank: int, meaning: str) -> np.ndarray:
        """The array, which must have `rank` axes, none of them empty."""
        if self.array.ndim != rank or 0 in self.shape:
            raise ModelError(
                f'weight "{self.key}": expected {rank} axes {meaning}, none of them empty, got shape {list(self.shape)}'
            )
        return self.array


def as_float32(key: str, value: Any, *, allow_nonfinite: bool = False) -> np.ndarray:
    """`value` as a float32 array. float16 and integers must fit exactly, float64 is rounded.

    Raises
    ------
    ModelError
        For objects, text, complex numbers, values that float32 cannot hold, and NaN or infinity unless allowed.
    """
    array = as_array(key, value)
    if array.dtype.kind not in "fiub":
        raise ModelError(f'weight "{key}": expected numbers, got an array of {array.dtype}')
    with np.errstate(over="ignore"):
        narrowed = np.ascontiguousarray(array, np.float32).reshape(array.shape)
    if array.dtype.kind in "iu" and not np.array_equal(narrowed.astype(array.dtype), array):
        raise ModelError(f'weight "{key}": its {array.dtype} values do not fit float32 exactly; convert them first')
    if not np.isfinite(narrowed).all():
        if np.isfinite(array).all():
            raise ModelError(f'weight "{key}": its {array.dtype} values exceed the range of float32')
        if not allow_nonfinite:
            raise ModelError(f'weight "{key}" {list(array.shape)} holds NaN or infinity; pass allow_nonfinite=True')
    return narrowed


def as_array(key: str, value: Any) -> np.ndarray:
    """`value` as an array of numbers, never of objects. Tensors of other libraries convert themselves."""
    try:
        array = np.asarray(value)
    except Exception as error:  # __array__ of another library raises what it likes
        raise ModelError(f'weight "{key}": {type(value).__name__} cannot become an array: {error}') from None
    if array.dtype.hasobject:
        raise ModelError(f'weight "{key}": expected an array of numbers, got objects ({type(value).__name__})')
    return array


def as_weights(arrays: Mapping[str, Any], *, allow_nonfinite: bool = False) -> dict[str, Weight]:
    """All arrays as weights by key."""
    return {
        str(key): Weight(str(key), as_float32(str(key), value, allow_nonfinite=allow_nonfinite))
        for key, value in arrays.items()
    }


def listed(names: Iterable[str]) -> str:
    """Names for an error, at most eight of them."""
    names = list(names)
    shown = ", ".join(f'"{name}"' for name in names[:_NAMES_SHOWN])
    return (shown + (f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else "")) or "none"


def near_misses(name: str, names: Iterable[str]) -> str:
    """A hint with the keys most like `name`, or an empty string."""
    close = difflib.get_close_matches(name, list(names)[:1000], n=2, cutoff=0.75)
    return f"; is it {' or '.join(f'{c!r}' for c in close)}?" if close else ""
