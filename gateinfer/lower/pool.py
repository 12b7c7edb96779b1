"""MaxPool and AveragePool over one or two axes, and pooling over whole planes."""

from __future__ import annotations

from gateinfer.errors import UnsupportedOp
from gateinfer.graph.ir import Node
from gateinfer.lower.context import Lowering
from gateinfer.lower.registry import lowers
from gateinfer.lower.tensor import Tensor
from gateinfer.lower.window import WINDOW_ATTRS, Sliding, crop, padded, planar, sliding


@lowers("MaxPool", attrs=(*WINDOW_ATTRS, "ceil_mode", "storage_order"))
def lower_max_pool(ctx: Lowering, node: Node) -> None:
    if ctx.wanted(node.output(1)):
        raise UnsupportedOp("output Indices is not implemented; export the model without it")
    _pool(ctx, node, maximum=True)


@lowers("AveragePool", attrs=(*WINDOW_ATTRS, "ceil_mode", "count_include_pad"))
def lower_average_pool(ctx: Lowering, node: Node) -> None:
    _pool(ctx, node, maximum=False)


@lowers("GlobalAveragePool", "GlobalMaxPool")
def lower_global_pool(ctx: Lowering, node: Node) -> None:
    x, out = ctx.value(node.input(0)), ctx.out(node)
    fn = "mean" if node.op == "GlobalAveragePool" else "max"
    ctx.reduce(fn, ctx.reshaped(out, out.shape[:2]), x)


def _pool(ctx: Lowering, node: Node, *, maximum: bool) -> None:
    x = ctx.value(node.input(0))
    out = ctx.out(node, like=(x,))
    kernel = tuple(node.attrs["kernel_shape"])
    x, window = crop(x, sliding(node, x, out, kernel))
    count_pad = not maximum and bool(node.attrs.get("count_include_pad", 0))
    if count_pad and _overhangs(x, out, window):
        # Padding counts, what ceil_mode adds behind it does not: written-out padding makes only the latter outside.
        x, window = padded(ctx, x, window)
        count_pad = False
    ctx.builder.pool(planar(out).view, planar(x).view, window.core(), maximum, count_pad)


def _overhangs(x: Tensor, out: Tensor, window: Sliding) -> bool:
    """True when some window reaches beyond the padded input."""
    axes = zip(x.shape[2:], out.shape[2:], window.kernel, window.stride, window.dilation, window.pads, strict=True)
    return any(
        (count - 1) * stride + (kernel - 1) * dilation + 1 > extent + begin + end
        for extent, count, kernel, stride, dilation, (begin, end) in axes
    )
