"""Conv over one or two axes as packed products over windows, and ConvTranspose as a Conv of a spread-out input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gateinfer._core import pack_dense
from gateinfer.errors import ShapeError, UnsupportedOp
from gateinfer.graph.ir import Node
from gateinfer.lower.context import Lowering, aligned
from gateinfer.lower.registry import lowers
from gateinfer.lower.tensor import Tensor
from gateinfer.lower.window import WINDOW_ATTRS, Sliding, crop, planar, sliding


@lowers("Conv", attrs=(*WINDOW_ATTRS, "group"))
def lower_conv(ctx: Lowering, node: Node) -> None:
    x, out = ctx.value(node.input(0)), ctx.out(node)
    weights, bias, groups = _parameters(ctx, node, x)
    _check(weights, x.shape[1], groups)
    x, window = crop(x, sliding(node, x, out, weights.shape[2:]))
    names = (node.input(1), node.input(2))
    packed = ctx.packed("conv", names, (weights, bias), groups, lambda: _pack(weights, bias, groups))
    ctx.builder.conv(planar(out).view, planar(x).view, packed, groups, window.core())


@lowers("ConvTranspose", attrs=(*WINDOW_ATTRS, "group", "output_padding", "output_shape"))
def lower_conv_transpose(ctx: Lowering, node: Node) -> None:
    """Zeros between the elements of x (stride - 1 of them), then a Conv with the window turned around."""
    x, out = ctx.value(node.input(0)), ctx.out(node)
    weights, bias, groups = _parameters(ctx, node, x)
    if groups < 1 or weights.shape[0] != x.shape[1] or weights.shape[0] % groups:
        raise ShapeError(f"weights {weights.shape} with group = {groups} do not fit {x.shape[1]} input channels")
    window = _mirrored(node, sliding(node, x, out, weights.shape[2:]), x, out)
    x, window = crop(_spread(ctx, x, node.attrs.get("strides") or ()), window)
    names = (node.input(1), node.input(2))
    packed = ctx.packed(
        "conv_transpose", names, (weights, bias), groups, lambda: _pack(_turned(weights, groups), bias, groups)
    )
    ctx.builder.conv(planar(out).view, planar(x).view, packed, groups, window.core())


def _parameters(ctx: Lowering, node: Node, x: Tensor) -> tuple[np.ndarray, np.ndarray | None, int]:
    weights, bias = ctx.need_const(node, 1, "W"), ctx.need_const(node, 2, "B")
    if weights is None or weights.ndim != x.rank:
        raise UnsupportedOp(f"needs constant weights of rank {x.rank}")
    return weights, bias, int(node.attrs.get("group", 1))


def _mirrored(node: Node, window: Sliding, x: Tensor, out: Tensor) -> Sliding:
    """The window of the Conv that does what `window` does backwards: stride 1, padding counted from the other side."""
    begins = [begin for begin, _ in window.pads]
    if "output_shape" in node.attrs or node.attrs.get("auto_pad", "NOTSET").startswith("SAME"):
        begins = _begins_for_shape(node, window, x, out)
    reach = [dilation * (kernel - 1) for kernel, dilation in zip(window.kernel, window.dilation, strict=True)]
    pads = tuple((far - begin, 0) for far, begin in zip(reach, begins, strict=True))
    return replace(window, stride=(1,) * len(reach), pads=pads)


def _begins_for_shape(node: Node, window: Sliding, x: Tensor, out: Tensor) -> list[int]:
    """Half of the padding that makes the output as long as asked for; the odd one goes first unless SAME_UPPER."""
    extra = node.attrs.get("output_padding") or (0,) * len(window.kernel)
    axes = zip(x.shape[2:], out.shape[2:], window.kernel, window.stride, window.dilation, extra, strict=True)
    totals = [stride * (n - 1) + more + dilation * (k - 1) + 1 - want for n, want, k, stride, dilation, more in axes]
    upper = node.attrs.get("auto_pad") == "SAME_UPPER"
    return [total // 2 if upper else total - total // 2 for total in totals]


def _spread(ctx: Lowering, x: Tensor, strides: tuple[int, ...]) -> Tensor:
    """`x` with strides - 1 zeros between neighbours of the spatial axes."""
    if all(stride == 1 for stride in strides):
        return x
    extents = [(n - 1) * stride + 1 for n, stride in zip(x.shape[2:], strides, strict=True)]
    spread = places = ctx.new(x.dtype, (*x.shape[:2], *extents))
    ctx.fill(spread, 0.0)
    for axis, stride in enumerate(strides, start=2):
        places = places.slice(axis, 0, x.shape[axis], stride)
    ctx.copy(places, x)
    return spread


def _turned(weights: np.ndarray, groups: int) -> np.ndarray:
    """Weights [C, M / groups, ..] -> [M, C / groups, ..] with every spatial axis reversed."""
    channels, out_channels, *kernel = weights.shape
    split = weights.reshape(groups, channels // groups, out_channels, *kernel).swapaxes(1, 2)
    turned = np.flip(split, tuple(range(3, split.ndim)))
    return turned.reshape(groups * out_channels, channels // groups, *kernel)


def _check(weights: np.ndarray, channels: int, groups: int) -> None:
    if groups < 1 or weights.shape[0] % groups or weights.shape[1] * groups != channels:
        raise ShapeError(
            f"weights {weights.shape} with group = {groups} do not fit {channels} input channels;"
            " expected [M, channels / group, ..] with M a multiple of group"
        )


def _pack(weights: np.ndarray, bias: np.ndarray | None, groups: int) -> np.ndarray:
    """Weights [M, C / groups, ..], bias [M] -> per group the panels of K = C / groups * window to M / groups."""
    out_channels = weights.shape[0]
    rows = weights.reshape(groups, out_channels // groups, -1)
    biases = [None] * groups if bias is None else np.ascontiguousarray(bias).reshape(groups, -1)
    return aligned(np.concatenate([pack_dense(w.T, b) for w, b in zip(rows, biases, strict=True)]))
