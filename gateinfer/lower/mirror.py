"""Filters that mirror themselves, as front ends write a Fourier transform down as a Conv: half the multiply-adds.

Where w[k] = w[c - k] for every tap, w[k] x[k] + w[c - k] x[c - k] = w[k] (x[k] + x[c - k]); where w[k] = -w[c - k],
it is the difference: the direct-form structures of linear-phase FIR systems (Oppenheim, Schafer: Discrete-Time Signal
Processing). Whether filters are such is a property of their bits, so no answer depends on lengths or chunks. Sums of
two inputs overflow where these are above 1.7e38.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gateinfer.lower.context import Lowering
from gateinfer.lower.tensor import Tensor
from gateinfer.lower.window import Sliding

FEWEST_TAPS, BLOCK = 32, 16
"""Shorter filters gain less than it costs to add their inputs up; fewer of them do not fill a vector."""


class Side(NamedTuple):
    """`filters` that are symmetric (sign 1) or antisymmetric (sign -1).

    Tap k belongs to tap taps - 1 + alone - k, the one in the middle to itself; `alone` first ones (0 or 1) belong to
    none: a periodic window has one.
    """

    filters: range
    sign: int
    taps: int
    alone: int

    @property
    def pairs(self) -> int:
        return (self.taps - self.alone + 1) // 2

    def of(self, weights: np.ndarray, bias: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
        """Weights [M, 1, taps], bias [M] -> this side's [m, pairs + alone, 1], [m]: in the order of `fold_windows`."""
        own = slice(self.filters.start, self.filters.stop)
        alone, pairs = weights[own, 0, : self.alone], weights[own, 0, self.alone : self.alone + self.pairs].copy()
        if (self.taps - self.alone) % 2:
            pairs[:, -1] *= 0.5
        folded = np.concatenate([pairs, alone] if self.sign > 0 else [alone, pairs], axis=1)
        return folded[:, :, None], None if bias is None else bias[own]


def sides_of(weights: np.ndarray, groups: int, window: Sliding) -> list[Side]:
    """The sides of filters [M, 1, taps] that mirror themselves: all of one kind, or the first ones and the others.

    None where some do not, or where there is nothing to gain.
    """
    if weights.ndim != 3 or weights.shape[1] != 1 or groups != 1 or window.dilation != (1,):
        return []
    if weights.shape[2] < FEWEST_TAPS or len(weights) < BLOCK:
        return []
    for alone in (1, 0):
        paired = weights[:, 0, alone:]
        kinds = {sign: (paired == sign * paired[:, ::-1]).all(axis=1) for sign in (1, -1)}
        for first in (1, -1):
            at = _boundary(kinds[first], kinds[-first])
            if at is not None:
                halves = ((range(at), first), (range(at, len(weights)), -first))
                return [Side(filters, sign, weights.shape[2], alone) for filters, sign in halves if filters]
    return []


def _boundary(first: np.ndarray, second: np.ndarray) -> int | None:
    """How many filters are of the first kind, if all behind them are of the second.

    Filters of zeros are of both: with a choice, blocks are filled.
    """
    most, least = _leading(first), len(second) - _leading(second[::-1])
    count = len(first)
    return min(range(least, most + 1), key=lambda at: -(-at // BLOCK) - (at - count) // BLOCK, default=None)


def _leading(flags: np.ndarray) -> int:
    """How many are true before the first that is not."""
    return len(flags) if flags.all() else int(flags.argmin())


def fold_windows(ctx: Lowering, sides: list[Side], x: Tensor, window: Sliding, positions: int) -> list[Tensor]:
    """What the filters of each side multiply, [N, pairs + alone, positions], for windows of x [N, 1, L].

    A position has sums, what stands alone, differences: for either side, its own are a run of memory.
    """
    (stride,), (_, _, taps, alone), pairs = window.stride, sides[0], sides[0].pairs
    length = (positions - 1) * stride + taps
    x = _stretched(ctx, x, window.pads[0][0], length)
    turned = ctx.copied(x.slice(2, length - 1, length, -1))
    ahead = _windows(x, 0, stride, (positions, alone + pairs))
    behind = _windows(turned, length - taps, -stride, (positions, pairs))
    start = {side.sign: 0 if side.sign > 0 or len(sides) == 1 else pairs for side in sides}
    room = ctx.new(x.dtype, (x.shape[0], positions, -(-(len(sides) * pairs + alone) // BLOCK) * BLOCK))
    if alone:
        ctx.copy(room.slice(2, pairs if 1 in start else 0, 1), ahead.slice(2, 0, 1))
    for side in sides:
        fn, at = ("add", 0) if side.sign > 0 else ("sub", start[-1] + alone)
        ctx.binary(fn, ahead.slice(2, alone, pairs), behind, out=room.slice(2, at, pairs))
    return [room.slice(2, start[side.sign], pairs + alone).transpose((0, 2, 1)) for side in sides]


def _windows(x: Tensor, start: int, stride: int, shape: tuple[int, int]) -> Tensor:
    """X [N, 1, L] as [N, *shape]: windows that overlap, the first of which begins at `start`."""
    batch, _, step = x.strides
    return x.window((x.shape[0], *shape), (batch, stride * step, step), x.offset + start * step)


def _stretched(ctx: Lowering, x: Tensor, begin: int, length: int) -> Tensor:
    """`length` elements of x [N, 1, L], with `begin` zeros before it and as many behind it as are missing."""
    if begin == 0 and x.shape[2] >= length:
        return x.slice(2, 0, length)
    kept = min(x.shape[2], length - begin)
    room = ctx.new(x.dtype, (x.shape[0], 1, length))
    ctx.fill(room, 0.0)
    ctx.copy(room.slice(2, begin, kept), x.slice(2, 0, kept))
    return room
