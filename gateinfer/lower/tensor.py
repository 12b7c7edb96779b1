"""Tensors of a program as strided windows, and the view arithmetic that lets shape operators cost nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gateinfer.errors import UnsupportedOp

if TYPE_CHECKING:
    from gateinfer._core import View

Shape = tuple[int, ...]

MAX_RANK = 8
"""GI_MAX_RANK of the C core."""

BLOCK = 16
"""GI_BLOCK of the C core: outputs of a product that are computed together."""


def dense_strides(shape: Sequence[int]) -> Shape:
    """Strides in elements of a C-contiguous array of `shape`."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * max(shape[axis + 1], 1)
    return tuple(strides)


class Tensor(NamedTuple):
    """A strided window on tensor `id` of a program: element (i0, i1, ..) is at offset + i0 * strides[0] + ..

    Offset and strides count elements. Strides may be 0 (broadcast) or negative. The methods return new windows on the
    same memory.
    """

    id: int
    dtype: np.dtype
    offset: int
    shape: Shape
    strides: Shape

    @classmethod
    def dense(cls, id: int, dtype: np.dtype, shape: Sequence[int]) -> Tensor:
        """The whole of a C-contiguous tensor."""
        return cls(id, np.dtype(dtype), 0, tuple(shape), dense_strides(shape))

    def window(self, shape: Shape, strides: Shape, offset: int | None = None) -> Tensor:
        """Another window on the same memory."""
        return Tensor(self.id, self.dtype, self.offset if offset is None else offset, shape, strides)

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def is_dense(self) -> bool:
        """True when the elements follow each other in C order."""
        expected = dense_strides(self.shape)
        return self.size == 0 or all(
            s == e for n, s, e in zip(self.shape, self.strides, expected, strict=True) if n != 1
        )

    @property
    def is_unit_stride(self) -> bool:
        """True when neighbours along the last axis are neighbours in memory."""
        return self.size == 0 or self.rank == 0 or self.shape[-1] == 1 or self.strides[-1] == 1

    @property
    def view(self) -> View:
        """The tuple the builder takes."""
        if self.rank > MAX_RANK:
            raise UnsupportedOp(f"needs a window of rank {self.rank}; the engine handles up to {MAX_RANK} axes")
        return self.id, self.offset, self.shape, _tidy_strides(self.shape, self.strides)

    def same(self, other: Tensor) -> bool:
        """True when both windows show the same elements in the same order."""
        if (self.id, self.dtype, self.shape) != (other.id, other.dtype, other.shape):
            return False
        if self.size == 0:
            return True
        moving = [(a, b) for n, a, b in zip(self.shape, self.strides, other.strides, strict=True) if n != 1]
        return self.offset == other.offset and all(a == b for a, b in moving)

    def reshape(self, shape: Sequence[int]) -> Tensor | None:
        """The same elements in C order as `shape`, or None when strides cannot express that."""
        shape = tuple(shape)
        if prod(shape) != self.size:
            raise ValueError(f"cannot reshape {self.shape} to {shape}")
        if self.size == 0:
            return self.window(shape, dense_strides(shape))
        blocks = _blocks(self.shape, self.strides)
        strides = [1] * len(shape)
        axis = len(shape) - 1
        for count, stride in reversed(blocks):
            inside = 1
            while inside < count:
                extent = shape[axis]
                if count % (inside * extent):
                    return None
                strides[axis] = stride * inside
                inside *= extent
                axis -= 1
        return self.window(shape, tuple(strides))

    def transpose(self, perm: Sequence[int]) -> Tensor:
        """Axis i of the result is axis perm[i] of this window."""
        return self.window(tuple([self.shape[p] for p in perm]), tuple([self.strides[p] for p in perm]))

    def move_last(self, axes: Iterable[int]) -> Tensor:
        """Moves `axes` behind all others; both groups keep their order."""
        chosen = sorted(axes)
        return self.transpose([a for a in range(self.rank) if a not in chosen] + chosen)

    def slice(self, axis: int, start: int, count: int, step: int = 1) -> Tensor:
        """`count` positions of `axis` from `start` in steps of `step`, which may be negative or 0."""
        axis %= self.rank
        offset = self.offset + (start * self.strides[axis] if count else 0)
        strides = _put(self.strides, axis, self.strides[axis] * step)
        return self.window(_put(self.shape, axis, count), strides, offset)

    def select(self, axis: int, index: int) -> Tensor:
        """Position `index` of `axis`; the axis disappears."""
        return self.slice(axis, index % self.shape[axis], 1).squeeze(axis)

    def spread(self, axis: int, start: int, shape: Sequence[int], steps: Sequence[int]) -> Tensor:
        """Axis `axis` as axes of `shape`, from position `start` on; the windows on it may overlap, as in unfolding."""
        stride = self.strides[axis]
        return self.window(
            (*self.shape[:axis], *shape, *self.shape[axis + 1 :]),
            (*self.strides[:axis], *(step * stride for step in steps), *self.strides[axis + 1 :]),
            self.offset + start * stride,
        )

    def split(self, axis: int, sizes: Sequence[int]) -> list[Tensor]:
        """Consecutive pieces of `axis` with the given extents."""
        starts = np.cumsum([0, *sizes]).tolist()
        return [self.slice(axis, start, size) for start, size in zip(starts, sizes, strict=False)]

    def squeeze(self, axis: int) -> Tensor:
        """Drops `axis`, whose extent is 1."""
        axis %= self.rank
        return self.transpose([a for a in range(self.rank) if a != axis])

    def unsqueeze(self, axis: int) -> Tensor:
        """Inserts an axis of extent 1 so that it becomes axis `axis` of the result."""
        axis %= self.rank + 1
        return self.window((*self.shape[:axis], 1, *self.shape[axis:]), (*self.strides[:axis], 1, *self.strides[axis:]))

    def broadcast_to(self, shape: Sequence[int]) -> Tensor:
        """Stretches extents of 1, and adds leading axes, with stride 0."""
        shape = tuple(shape)
        if shape == self.shape:
            return self
        lead = len(shape) - self.rank
        if lead < 0 or any(n not in (1, m) for n, m in zip(self.shape, shape[lead:], strict=True)):
            raise ValueError(f"cannot broadcast {self.shape} to {shape}")
        kept = (s if n == m else 0 for n, s, m in zip(self.shape, self.strides, shape[lead:], strict=True))
        return self.window(shape, (0,) * lead + tuple(kept))


def collapse(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The same windows with as few axes as possible: extents of 1 dropped, neighbours merged where every window allows.

    All windows have one shape.
    """
    axes: list[tuple[int, list[int]]] = []
    for axis, extent in enumerate(tensors[0].shape):
        strides = [t.strides[axis] for t in tensors]
        if extent == 1:
            continue
        if axes and all(outer == extent * inner for outer, inner in zip(axes[-1][1], strides, strict=True)):
            axes[-1] = (axes[-1][0] * extent, strides)
        else:
            axes.append((extent, strides))
    shape = tuple(extent for extent, _ in axes)
    return tuple([t.window(shape, tuple([strides[i] for _, strides in axes])) for i, t in enumerate(tensors)])


def _blocks(shape: Shape, strides: Shape) -> list[tuple[int, int]]:
    """Maximal runs of evenly spaced elements, outermost first: (count, stride)."""
    blocks: list[tuple[int, int]] = []
    for extent, stride in zip(shape, strides, strict=True):
        if extent == 1:
            continue
        if blocks and blocks[-1][1] == extent * stride:
            blocks[-1] = (blocks[-1][0] * extent, stride)
        else:
            blocks.append((extent, stride))
    return blocks


def _tidy_strides(shape: Shape, strides: Shape) -> Shape:
    """Gives extents of 1, whose strides are arbitrary, those of contiguous axes, so that tests on strides pass."""
    tidy = list(strides)
    for axis in range(len(shape) - 1, -1, -1):
        if shape[axis] == 1:
            tidy[axis] = 1 if axis + 1 == len(shape) else tidy[axis + 1] * shape[axis + 1]
    return tuple(tidy)


def _put(values: Shape, index: int, value: int) -> Shape:
    return (*values[:index], value, *values[index + 1 :])
