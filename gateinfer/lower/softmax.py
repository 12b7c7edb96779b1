"""Softmax and LogSoftmax along one axis, or before opset 13 along all axes from one on."""

from __future__ import annotations

from math import prod

from gateinfer.errors import UnsupportedOp
from gateinfer.graph.ir import Node
from gateinfer.lower.context import Lowering
from gateinfer.lower.elementwise import FLOAT
from gateinfer.lower.registry import lowers
from gateinfer.lower.tensor import Tensor, collapse


@lowers("Softmax", "LogSoftmax", attrs=("axis",))
def lower_softmax(ctx: Lowering, node: Node) -> None:
    x, out = ctx.value(node.input(0)), ctx.out(node)
    if x.dtype != FLOAT:
        raise UnsupportedOp(f"works on {x.dtype}; softmax runs on float32")
    logarithm = node.op == "LogSoftmax"
    if ctx.graph.opset >= 13:
        axis = node.attrs.get("axis", -1) % x.rank
        _softmax(ctx, logarithm, out.move_last([axis]), x.move_last([axis]))
        return
    axis = node.attrs.get("axis", 1)
    axis = axis % x.rank if axis < x.rank else axis
    rows = (prod(x.shape[:axis]), prod(x.shape[axis:]))
    target = out.reshape(rows) or ctx.new(out.dtype, rows)
    _softmax(ctx, logarithm, target, ctx.reshaped(x, rows))
    if target.id != out.id:
        ctx.copy(out, ctx.reshaped(target, out.shape))


def _softmax(ctx: Lowering, logarithm: bool, out: Tensor, x: Tensor) -> None:
    """Over the last axis; the others become as few as strides allow."""
    heads = collapse(*(t.window(t.shape[:-1], t.strides[:-1]) for t in (out, x)))
    target, source = (
        t.window(h.shape + t.shape[-1:], h.strides + t.strides[-1:]) for h, t in zip(heads, (out, x), strict=True)
    )
    ctx.builder.softmax(logarithm, target.view, source.view)
