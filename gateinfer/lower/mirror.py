"""Filters that mirror themselves, as front ends write a Fourier transform down as a Conv: half the multiply-adds.

Where w[k] = w[c - k] for every tap, w[k] x[k] + w[c - k] x[c - k] = w[k] (x[k] + x[c - k]); where w[k] = -w[c - k],
it is the difference: the direct-form structures of linear-phase FIR systems (Oppenheim, Schafer: Discrete-Time Signal
Processing). Only weights and attributes decide, so no answer depends on lengths or chunks. The sum of two inputs
overflows where it is above 3.4e38, whatever it is multiplied with.

What the filters multiply is made for all positions before the products, which takes about taps / filters times the
memory of the result.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gateinfer.lower.context import Lowering
from gateinfer.lower.tensor import BLOCK, Tensor
from gateinfer.lower.window import Sliding, padded

FEWEST_TAPS, FEWEST_FILTERS, MOST_TAPS_PER_FILTER = 128, 64, 2
"""Measured: adding the inputs up costs more than half of the products where these are fewer. The last bounds memory."""


class Side(NamedTuple):
    """`filters` that are symmetric (sign 1) or antisymmetric (sign -1).

    Tap k belongs to tap taps - 1 + alone - k. `alone` first taps (0 or 1) belong to none: a periodic window has one.
    """

    filters: range
    sign: int
    taps: int
    alone: int

    @property
    def pairs(self) -> int:
        return (self.taps - self.alone) // 2

    @property
    def singles(self) -> list[int]:
        """Taps without another one: the first, the middle."""
        middle = [self.alone + self.pairs] if (self.taps - self.alone) % 2 else []
        return [*range(self.alone), *middle]

    def of(self, weights: np.ndarray, bias: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
        """Weights [M, 1, taps], bias [M] -> this side's [m, pairs + singles, 1], [m], as `fold_windows` says."""
        own = weights[self.filters.start : self.filters.stop, 0]
        pairs, singles = own[:, self.alone : self.alone + self.pairs], own[:, self.singles]
        folded = np.concatenate([pairs, singles] if self.sign > 0 else [singles, pairs], axis=1)
        return folded[:, :, None], None if bias is None else bias[self.filters.start : self.filters.stop]


def sides_of(weights: np.ndarray, groups: int, window: Sliding) -> list[Side]:
    """The sides of filters [M, 1, taps] that mirror themselves: all of one kind, or the first ones and the others.

    None where some do not, or where there is nothing to gain.
    """
    if weights.ndim != 3 or weights.shape[1] != 1 or groups != 1 or window.dilation != (1,):
        return []
    count, _, taps = weights.shape
    if (
        taps < FEWEST_TAPS
        or count < FEWEST_FILTERS
        or taps > MOST_TAPS_PER_FILTER * count
        or not np.isfinite(weights).all()
    ):
        return []
    for alone in (1, 0):
        paired = weights[:, 0, alone:]
        kinds = {sign: (paired == sign * paired[:, ::-1]).all(axis=1) for sign in (1, -1)}
        for first in (1, -1):
            at = _boundary(kinds[first], kinds[-first])
            if at is not None:
                halves = ((range(at), first), (range(at, count), -first))
                return [Side(filters, sign, taps, alone) for filters, sign in halves if filters]
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
    """What the filters of each side multiply, [N, pairs + singles, positions], for windows of x [N, 1, L].

    A position has sums, singles, differences: for either side, its own are a run of memory.
    """
    (stride,), (_, _, taps, alone), pairs, singles = window.stride, sides[0], sides[0].pairs, sides[0].singles
    length = (positions - 1) * stride + taps
    if any(window.pads[0]):
        x, window = padded(ctx, x, window)
    turned = ctx.copied(x.slice(2, length - 1, length, -1))
    ahead = x.spread(2, alone, (positions, pairs), (stride, 1)).squeeze(1)
    behind = turned.spread(2, length - taps, (positions, pairs), (-stride, 1)).squeeze(1)
    sums = pairs if any(side.sign > 0 for side in sides) else 0
    width = len(sides) * pairs + len(singles)
    room = ctx.new(x.dtype, (x.shape[0], positions, -(-width // BLOCK) * BLOCK))
    for at, tap in enumerate(singles, start=sums):
        ctx.copy(room.slice(2, at, 1), x.spread(2, tap, (positions, 1), (stride, 1)).squeeze(1))
    folded = []
    for side in sides:
        fn, at, first = ("add", 0, 0) if side.sign > 0 else ("sub", sums + len(singles), sums)
        ctx.binary(fn, ahead, behind, out=room.slice(2, at, pairs))
        folded.append(room.slice(2, first, pairs + len(singles)).transpose((0, 2, 1)))
    return folded
