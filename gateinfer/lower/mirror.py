"""Filters that mirror themselves, as front ends write a Fourier transform down as a Conv: a half or a quarter of the
multiply-adds.

Where w[k] = w[c - k] for every tap, w[k] x[k] + w[c - k] x[c - k] = w[k] (x[k] + x[c - k]); where w[k] = -w[c - k],
it is the difference: the direct-form structures of linear-phase FIR systems (Oppenheim, Schafer: Discrete-Time Signal
Processing). The sum of two inputs overflows where it is above 3.4e38, whatever it is multiplied with.

Where filters also mirror each other, the last one having the even taps of the first and its odd ones negated (or the
other way round), one sum over even and one over odd taps serve two filters: added they are the answer of one,
subtracted that of the other, which is the butterfly of a fast Fourier transform (Cooley, Tukey 1965).

Only weights and attributes decide, so no answer depends on lengths or chunks. What the filters multiply is made for all
positions before the products, which takes about taps / filters times the memory of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from gateinfer.lower.context import Lowering
from gateinfer.lower.tensor import BLOCK, Tensor
from gateinfer.lower.window import Sliding, padded

FEWEST_TAPS, FEWEST_FILTERS, MOST_TAPS_PER_FILTER = 128, 64, 2
"""Measured: adding the inputs up costs more than half of the products where these are fewer. The last bounds memory."""

FEWEST_SHARED_TAPS = 256
"""Measured: sums for two filters take 0.7 to 0.8 of the time from here on, 0.55 at 1024, and gain nothing at 128."""


class Side(NamedTuple):
    """`filters` whose `taps` are symmetric (sign 1) or antisymmetric (sign -1).

    Of these taps, the k-th belongs to number len(taps) - 1 + alone - k. `alone` first ones (0 or 1) belong to none: a
    periodic window has one. `shared` is the parity of the taps that are the same in filters that mirror each other.
    """

    filters: range
    taps: range
    sign: int
    alone: int
    shared: int | None = None

    @property
    def pairs(self) -> int:
        return (len(self.taps) - self.alone) // 2

    @property
    def singles(self) -> list[int]:
        """Taps without another one: the first, the middle."""
        middle = [self.alone + self.pairs] if (len(self.taps) - self.alone) % 2 else []
        return [*range(self.alone), *middle]

    def of(self, weights: np.ndarray, bias: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
        """Weights [M, 1, taps], bias [M] -> this side's [m, pairs + singles, 1], [m], as `_fold_windows` says."""
        own = weights[_slice(self.filters), 0, _slice(self.taps)]
        pairs, singles = own[:, self.alone : self.alone + self.pairs], own[:, self.singles]
        folded = np.concatenate([pairs, singles] if self.sign > 0 else [singles, pairs], axis=1)
        return folded[:, :, None], None if bias is None else bias[_slice(self.filters)]

    def phase(self, parity: int) -> Side:
        """The even (0) or odd (1) taps of the first half of the filters, and of the middle one."""
        taps, count = self.taps[parity::2], len(self.filters)
        alone = (len(self.taps) - 1 + self.alone) // 2 - parity + 1 - len(taps)
        return Side(self.filters[: (count + 1) // 2], taps, self.sign, alone)


Product = Callable[[Tensor, Tensor, Side], None]
"""(out [N, filters, positions], what they multiply [N, pairs + singles, positions], their side)."""


def sides_of(weights: np.ndarray, groups: int, window: Sliding, *, plain: bool) -> list[Side]:
    """The sides of filters [M, 1, taps] that mirror themselves: all of one kind, or the first ones and the others.

    Empty where some do not, or where there is nothing to gain. Filters mirror each other only where their products are
    `plain`: without anything that is added or multiplied and differs between them.
    """
    if not _may_gain(weights, groups, window):
        return []
    count, _, taps = weights.shape
    for alone in (1, 0):
        paired = weights[:, 0, alone:]
        kinds = {sign: (paired == sign * paired[:, ::-1]).all(axis=1) for sign in (1, -1)}
        may_share = plain and taps >= FEWEST_SHARED_TAPS and (taps + alone) % 2 == 1 and window.stride[0] % 2 == 0
        for first in (1, -1):
            cuts = range(count - _leading(kinds[-first][::-1]), _leading(kinds[first]) + 1)
            if cuts:
                shared = _sharing(weights, cuts, first, alone) if may_share else []
                return shared or _cut(weights, _fullest(cuts, count), first, alone)
    return []


def _may_gain(weights: np.ndarray, groups: int, window: Sliding) -> bool:
    if weights.ndim != 3 or weights.shape[1] != 1 or groups != 1 or window.dilation != (1,):
        return False
    count, _, taps = weights.shape
    enough = count >= FEWEST_FILTERS and FEWEST_TAPS <= taps <= MOST_TAPS_PER_FILTER * count
    return enough and bool(np.isfinite(weights).all())


def _cut(weights: np.ndarray, at: int, first: int, alone: int) -> list[Side]:
    """`at` filters of sign `first`, and the others."""
    count, _, taps = weights.shape
    halves = ((range(at), first), (range(at, count), -first))
    return [Side(filters, range(taps), sign, alone) for filters, sign in halves if filters]


def _fullest(cuts: range, count: int) -> int:
    """Filters of zeros are of both kinds: with a choice, blocks are filled."""
    return min(cuts, key=lambda at: -(-at // BLOCK) - (at - count) // BLOCK)


def _sharing(weights: np.ndarray, cuts: range, first: int, alone: int) -> list[Side]:
    """The sides, if the filters of each mirror each other."""
    half = len(weights) // 2
    sides = _cut(weights, half if half in cuts else cuts.start, first, alone)
    found = [_shared_parity(weights[_slice(side.filters), 0]) for side in sides]
    if None in found:
        return []
    return [side._replace(shared=parity) for side, parity in zip(sides, found, strict=True)]


def _shared_parity(filters: np.ndarray) -> int | None:
    """Of filters [m, taps], the parity of the taps that the last has from the first, if it has the others negated."""
    same, negated = ((filters == sign * filters[::-1]).all(axis=0) for sign in (1, -1))
    return next((p for p in (0, 1) if same[p::2].all() and negated[1 - p :: 2].all()), None)


def _leading(flags: np.ndarray) -> int:
    """How many are true before the first that is not."""
    return len(flags) if flags.all() else int(flags.argmin())


def _slice(numbers: range) -> slice:
    return slice(numbers.start, numbers.stop, numbers.step)


def lower_mirrored(ctx: Lowering, sides: list[Side], x: Tensor, out: Tensor, window: Sliding, product: Product) -> None:
    """Convolves x [N, 1, L] to out [N, M, positions]; `product` appends a product."""
    if any(window.pads[0]):
        x, window = padded(ctx, x, window)
    (stride,), positions = window.stride, out.shape[2]
    if sides[0].shared is None:
        for side, folded in zip(sides, _fold_windows(ctx, sides, x, stride, positions), strict=True):
            product(_own(out, side), folded, side)
        return
    halves = []
    for parity in (0, 1):
        line = ctx.copied(x.slice(2, parity, (x.shape[2] + 1 - parity) // 2, 2))
        phases = [side.phase(parity) for side in sides]
        windows = _fold_windows(ctx, phases, line, stride // 2, positions)
        halves.append(list(zip(phases, windows, strict=True)))
    for index, side in enumerate(sides):
        _lower_shared(ctx, side, _own(out, side), [half[index] for half in halves], product)


def _own(out: Tensor, side: Side) -> Tensor:
    return out.slice(1, side.filters.start, len(side.filters))


def _lower_shared(ctx: Lowering, side: Side, out: Tensor, phases: list[tuple[Side, Tensor]], product: Product) -> None:
    """The filters of `side`: a + b, and b taken from a for those that mirror them; a are the sums over shared taps.

    `phases`: of the even and of the odd taps, the filters that are multiplied, and with what.
    """
    assert side.shared is not None
    (kept, kept_windows), (crossed, crossed_windows) = phases[side.shared], phases[1 - side.shared]
    count, half = len(kept.filters), len(side.filters) // 2  # a middle filter mirrors itself
    a = out.slice(1, 0, count)
    b = ctx.new(out.dtype, a.shape, channels_last=out.strides[1] == 1)
    product(a, kept_windows, kept)
    product(b, crossed_windows, crossed)
    mirrored = out.slice(1, len(side.filters) - 1, half, -1)
    ctx.binary("sub", a.slice(1, 0, half), b.slice(1, 0, half), out=mirrored)
    ctx.binary("add", a, b, out=a)


def _fold_windows(ctx: Lowering, sides: Sequence[Side], x: Tensor, stride: int, positions: int) -> list[Tensor]:
    """What the filters of each side multiply, [N, pairs + singles, positions], for windows of x [N, 1, L].

    A position has sums, singles, differences: for either side, its own are a run of memory.
    """
    taps, alone, pairs, singles = len(sides[0].taps), sides[0].alone, sides[0].pairs, sides[0].singles
    length = (positions - 1) * stride + taps
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
