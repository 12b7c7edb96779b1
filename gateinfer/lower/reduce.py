"""Reductions over any axes, as reductions over trailing ones."""

from __future__ import annotations

from math import inf

import numpy as np

from gateinfer.errors import UnsupportedOp
from gateinfer.graph.ir import Node
from gateinfer.lower.context import Lowering
from gateinfer.lower.elementwise import FLOAT
from gateinfer.lower.registry import lowers
from gateinfer.lower.tensor import Tensor
from gateinfer.lower.views import integers

FUNCTIONS = {
    "ReduceSum": "sum", "ReduceMean": "mean", "ReduceMax": "max", "ReduceMin": "min", "ReduceProd": "prod",
    "ReduceL2": "l2", "ReduceL1": "sum", "ReduceSumSquare": "sum", "ReduceLogSum": "sum",
}  # fmt: skip

LARGEST = float(np.finfo(np.float32).max)

EMPTY = {"sum": 0.0, "mean": 0.0, "max": -inf, "min": inf, "prod": 1.0, "l2": 0.0}
"""What a reduction over no elements gives. ONNX leaves the mean undefined; 0 is what onnxruntime answers."""


@lowers(*FUNCTIONS, attrs=("axes", "keepdims", "noop_with_empty_axes"))
def lower_reduce(ctx: Lowering, node: Node) -> None:
    x, out = _before(ctx, node.op, ctx.value(node.input(0))), ctx.out(node)
    target = ctx.new(out.dtype, out.shape) if node.op == "ReduceLogSum" else out
    axes = _axes(ctx, node, x.rank)
    if axes:
        _reduce(ctx, FUNCTIONS[node.op], target, x, axes)
    elif FUNCTIONS[node.op] == "l2":
        ctx.unary("abs", x, out=target)
    else:
        ctx.copy(target, x)
    if node.op == "ReduceLogSum":
        ctx.unary("log", target, out=out)


@lowers("ReduceLogSumExp", attrs=("axes", "keepdims", "noop_with_empty_axes"))
def lower_log_sum_exp(ctx: Lowering, node: Node) -> None:
    """M + log(sum(exp(x - m))) with m the maximum, so that exp does not overflow; finite, as inf - inf is none."""
    x, out, axes = ctx.value(node.input(0)), ctx.out(node), _axes(ctx, node, len(ctx.shape(node.input(0))))
    if x.dtype != FLOAT:
        raise UnsupportedOp(f"works on {x.dtype}; ReduceLogSumExp runs on float32: cast the input")
    if x.size == 0:
        ctx.fill(out, -inf)
        return
    if not axes:
        ctx.copy(out, x)
        return
    kept = tuple(1 if axis in axes else extent for axis, extent in enumerate(x.shape))
    top, total = ctx.new(x.dtype, kept), ctx.new(x.dtype, kept)
    _reduce(ctx, "max", top, x, axes)
    top = ctx.unary("clip", top, -LARGEST, LARGEST)
    _reduce(ctx, "sum", total, ctx.unary("exp", ctx.binary("sub", x, top)), axes)
    ctx.binary("add", ctx.reshaped(top, out.shape), ctx.reshaped(ctx.unary("log", total), out.shape), out=out)


def _before(ctx: Lowering, op: str, x: Tensor) -> Tensor:
    """What some reductions do to every element first."""
    if op == "ReduceSumSquare":
        return ctx.binary("mul", x, x)
    return ctx.unary("abs", x) if op == "ReduceL1" else x


def _axes(ctx: Lowering, node: Node, rank: int) -> list[int]:
    """Axes to reduce; empty when the node asks for none."""
    axes = integers(ctx, node, 1, "axes")
    if axes:
        return sorted({axis % rank for axis in axes})
    return [] if node.attrs.get("noop_with_empty_axes", 0) else list(range(rank))


def _reduce(ctx: Lowering, fn: str, out: Tensor, x: Tensor, axes: list[int]) -> None:
    if x.size == 0:
        if x.dtype.kind != "f" and fn in ("max", "min", "mean"):
            raise UnsupportedOp(f"has no {fn} of no elements in {x.dtype}")
        ctx.fill(out, EMPTY[fn])
        return
    moved = x.move_last(axes)
    kept = moved.shape[: x.rank - len(axes)]
    target = out.reshape(kept)
    if target is not None:
        ctx.reduce(fn, target, moved)
    else:
        fresh = ctx.new(out.dtype, kept)
        ctx.reduce(fn, fresh, moved)
        ctx.copy(out, ctx.reshaped(fresh, out.shape))
