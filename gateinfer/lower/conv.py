"""Conv over one or two axes as packed products over windows, their weights packed per group."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from math import prod

import numpy as np

from gateinfer._core import pack_dense
from gateinfer.errors import ShapeError, UnsupportedOp
from gateinfer.graph.ir import Node
from gateinfer.lower.context import Lowering, aligned
from gateinfer.lower.embedding_conv import lower_embedding_conv
from gateinfer.lower.mirror import Side, lower_mirrored, sides_of
from gateinfer.lower.registry import lowers
from gateinfer.lower.scales import following
from gateinfer.lower.tensor import BLOCK, Tensor
from gateinfer.lower.window import WINDOW_ATTRS, Sliding, crop, planar, sliding

SHORT_LINE = 8
"""Fewer positions do not fill a vector."""

STRIPED = 4
"""Up to so many channels, the order of summation may depend on the window's size (gi_dense_is_striped)."""

Part = Callable[[np.ndarray, np.ndarray | None], tuple[np.ndarray, np.ndarray | None]]
"""Weights and bias -> those of one product."""

ONE_TAP = Sliding((1,), (1,), (1,), ((0, 0),))


@lowers("Conv", attrs=(*WINDOW_ATTRS, "group"))
def lower_conv(ctx: Lowering, node: Node) -> None:
    weights, bias, groups = parameters(ctx, node, len(ctx.shape(node.input(0))))
    if (found := ctx.embeddings.get(node.input(0))) is not None:
        lower_embedding_conv(ctx, node, found, weights, bias)
        return
    x = ctx.value(node.input(0))
    _check(weights, x.shape[1], groups)
    scales = following(ctx, node, 1, (weights, bias))
    out = ctx.out(scales.last, reads=node.inputs, channels_last=_is_product(ctx, node, x, weights, groups))
    x, window = crop(x, sliding(node, x, out, weights.shape[2:]))

    def product(out: Tensor, x: Tensor, window: Sliding, options: Hashable, part: Part) -> None:
        names, sources = (node.input(1), node.input(2), *scales.names), (weights, bias, *scales.sources)
        packed = ctx.packed(
            "conv", names, sources, options, lambda: pack(*part(*scales.into(weights, bias, 0)), groups)
        )
        ctx.builder.conv(planar(out).view, planar(x).view, packed, groups, window.core())

    if out.size and (sides := sides_of(weights, groups, window, plain=bias is None and not scales.names)):

        def product_of(out: Tensor, x: Tensor, side: Side) -> None:
            product(out, x, ONE_TAP, side, side.of)

        lower_mirrored(ctx, sides, x, out, window, product_of)
        return
    taps = tuple(_seen(window, axis, x.shape[2 + axis], out.shape[2 + axis]) for axis in range(x.rank - 2))
    if len(weights) // groups > STRIPED:
        x, window = crop(x, _without(window, taps))
    else:
        taps = tuple(slice(0, extent) for extent in window.kernel)
    options = (groups, tuple((t.start, t.stop) for t in taps))
    product(out, x, window, options, lambda w, b: (w[(slice(None), slice(None), *taps)], b))


def _is_product(ctx: Lowering, node: Node, x: Tensor, weights: np.ndarray, groups: int) -> bool:
    """True when positions are few or x lies channel by channel: windows are rows of a product, results lie that way."""
    if len(weights) // groups < BLOCK:
        return False
    channels_last = x.shape[1] >= BLOCK and x.strides[1] == 1 and x.strides[-1] != 1
    return channels_last or prod(ctx.shape(node.output(0))[2:]) < SHORT_LINE


def _seen(window: Sliding, axis: int, extent: int, positions: int) -> slice:
    """The taps along `axis` without those, at either end, that lie in the padding at every position."""
    seen = [tap for tap in range(window.kernel[axis]) if window.places(axis, tap, extent, positions)]
    return slice(seen[0], seen[-1] + 1) if seen else slice(0, window.kernel[axis])


def _without(window: Sliding, taps: tuple[slice, ...]) -> Sliding:
    """`window` reduced to `taps`."""
    axes = zip(taps, window.dilation, window.pads, strict=True)
    pads = tuple((begin - taps.start * dilation, end) for taps, dilation, (begin, end) in axes)
    return window._replace(kernel=tuple(t.stop - t.start for t in taps), pads=pads)


def parameters(ctx: Lowering, node: Node, rank: int) -> tuple[np.ndarray, np.ndarray | None, int]:
    """Weights, bias and groups of a Conv or ConvTranspose of an input of `rank`."""
    weights, bias = ctx.need_const(node, 1, "W"), ctx.need_const(node, 2, "B")
    if weights is None or weights.ndim != rank:
        raise UnsupportedOp(f"needs constant weights of rank {rank}")
    return weights, bias, int(node.attrs.get("group", 1))


def _check(weights: np.ndarray, channels: int, groups: int) -> None:
    if groups < 1 or weights.shape[0] % groups or weights.shape[1] * groups != channels:
        raise ShapeError(
            f"weights {weights.shape} with group = {groups} do not fit {channels} input channels;"
            " expected [M, channels / group, ..] with M a multiple of group"
        )


def pack(weights: np.ndarray, bias: np.ndarray | None, groups: int) -> np.ndarray:
    """Weights [M, C / groups, ..], bias [M] -> per group the panels of K = window * C / groups to M / groups.

    A bias of -0 becomes 0: sums that begin with it would tell whether products with zeros of the padding were made.
    """
    out_channels, channels = weights.shape[:2]
    taps_last = weights.reshape(groups, out_channels // groups, channels, -1)
    rows = taps_last.swapaxes(2, 3).reshape(groups, out_channels // groups, -1)
    biases = [None] * groups if bias is None else np.ascontiguousarray(bias + np.float32(0)).reshape(groups, -1)
    return aligned(np.concatenate([pack_dense(w.T, b) for w, b in zip(rows, biases, strict=True)]))
