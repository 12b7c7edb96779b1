"""Reductions over any axes, as reductions over trailing ones."""

from __future__ import annotations

from math import inf, nan

from gateinfer.errors import UnsupportedOp
from gateinfer.graph.ir import Node
from gateinfer.lower.context import Lowering
from gateinfer.lower.registry import lowers
from gateinfer.lower.tensor import Tensor
from gateinfer.lower.views import integers

FUNCTIONS = {
    "ReduceSum": "sum", "ReduceMean": "mean", "ReduceMax": "max", "ReduceMin": "min", "ReduceProd": "prod",
    "ReduceL2": "l2", "ReduceL1": "sum", "ReduceSumSquare": "sum", "ReduceLogSum": "sum",
}  # fmt: skip

EMPTY = {"sum": 0.0, "mean": nan, "max": -inf, "min": inf, "prod": 1.0, "l2": 0.0}
"""What a reduction over no elements gives."""


@lowers(*FUNCTIONS, attrs=("axes", "keepdims", "noop_with_empty_axes"))
def lower_reduce(ctx: Lowering, node: Node) -> None:
    x, out = ctx.value(node.input(0)), ctx.out(node)
    x = _before(ctx, node.op, x)
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
