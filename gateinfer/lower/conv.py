"""Conv over one or two axes as packed products over windows, their weights packed per group."""

from __future__ import annotations

import numpy as np

from gateinfer._core import pack_dense
from gateinfer.errors import ShapeError, UnsupportedOp
from gateinfer.graph.ir import Node
from gateinfer.lower.context import Lowering, aligned
from gateinfer.lower.registry import lowers
from gateinfer.lower.scales import following
from gateinfer.lower.tensor import Tensor
from gateinfer.lower.window import WINDOW_ATTRS, Sliding, crop, planar, sliding


@lowers("Conv", attrs=(*WINDOW_ATTRS, "group"))
def lower_conv(ctx: Lowering, node: Node) -> None:
    x = ctx.value(node.input(0))
    weights, bias, groups = parameters(ctx, node, x)
    _check(weights, x.shape[1], groups)
    scales = following(ctx, node, 1, (weights, bias))
    out = ctx.out(scales.last, reads=node.inputs)
    x, window = crop(x, sliding(node, x, out, weights.shape[2:]))
    packed = ctx.packed(
        "conv",
        (node.input(1), node.input(2), *scales.names),
        (weights, bias, *scales.sources),
        groups,
        lambda: pack(*scales.into(weights, bias, 0), groups),
    )
    ctx.builder.conv(planar(out).view, planar(x).view, packed, groups, window.core())


def parameters(ctx: Lowering, node: Node, x: Tensor) -> tuple[np.ndarray, np.ndarray | None, int]:
    """Weights, bias and groups of a Conv or ConvTranspose."""
    weights, bias = ctx.need_const(node, 1, "W"), ctx.need_const(node, 2, "B")
    if weights is None or weights.ndim != x.rank:
        raise UnsupportedOp(f"needs constant weights of rank {x.rank}")
    return weights, bias, int(node.attrs.get("group", 1))


def _check(weights: np.ndarray, channels: int, groups: int) -> None:
    if groups < 1 or weights.shape[0] % groups or weights.shape[1] * groups != channels:
        raise ShapeError(
            f"weights {weights.shape} with group = {groups} do not fit {channels} input channels;"
            " expected [M, channels / group, ..] with M a multiple of group"
        )


def pack(weights: np.ndarray, bias: np.ndarray | None, groups: int) -> np.ndarray:
    """Weights [M, C / groups, ..], bias [M] -> per group the panels of K = window * C / groups to M / groups."""
    out_channels, channels = weights.shape[:2]
    rows = weights.reshape(groups, out_channels // groups, channels, -1).swapaxes(2, 3)
    rows = rows.reshape(groups, out_channels // groups, -1)
    biases = [None] * groups if bias is None else np.ascontiguousarray(bias).reshape(groups, -1)
    return aligned(np.concatenate([pack_dense(w.T, b) for w, b in zip(rows, biases, strict=True)]))
