"""Operators in which the order of elements counts: positions of extremes, sorting, running sums, reversal."""

from __future__ import annotations

import numpy as np

from gateinfer.errors import ShapeError, UnsupportedOp
from gateinfer.graph.ir import Node
from gateinfer.lower.context import Lowering
from gateinfer.lower.registry import lowers
from gateinfer.lower.tensor import Tensor


@lowers("ArgMax", "ArgMin", attrs=("axis", "keepdims", "select_last_index"))
def lower_arg(ctx: Lowering, node: Node) -> None:
    x, out = ctx.value(node.input(0)), ctx.out(node)
    axis = node.attrs.get("axis", 0) % x.rank
    target = out.squeeze(axis) if node.attrs.get("keepdims", 1) else out
    is_last = bool(node.attrs.get("select_last_index", 0))
    ctx.builder.arg(target.view, x.move_last([axis]).view, node.op == "ArgMin", is_last)


@lowers("Hardmax", attrs=("axis",))
def lower_hardmax(ctx: Lowering, node: Node) -> None:
    x, out = ctx.value(node.input(0)), ctx.out(node)
    axis = node.attrs.get("axis", -1 if ctx.graph.opset >= 13 else 1) % max(x.rank, 1)
    if ctx.graph.opset < 13:  # the axes from `axis` on count as one
        lead = int(np.prod(x.shape[:axis], dtype=int))
        x, out, axis = ctx.reshaped(x, (lead, -1 if not lead else x.size // lead)), out, 1
    if x.size == 0:
        return
    x = x.move_last([axis])
    place, flat = ctx.new(np.int64, x.shape[:-1]), ctx.new(out.dtype, x.shape)
    ctx.builder.arg(place.view, x.view, False, False)
    ctx.fill(flat, 0.0)
    one = ctx.scalar(1.0, out.dtype).broadcast_to((*place.shape, 1))
    ctx.builder.scatter_elements(flat.view, place.unsqueeze(place.rank).view, one.view, x.rank - 1, -1)
    back = [*range(axis), x.rank - 1, *range(axis, x.rank - 1)]
    ctx.copy(out, ctx.reshaped(flat.transpose(back), out.shape))


@lowers("TopK", attrs=("axis", "k", "largest", "sorted"))
def lower_top(ctx: Lowering, node: Node) -> None:
    """Always sorted: an unsorted result may be in any order."""
    x = ctx.value(node.input(0))
    axis = node.attrs.get("axis", -1) % x.rank
    values, places = (
        ctx.out(node, i) if ctx.wanted(node.output(i)) else ctx.new((x.dtype, np.int64)[i], _top_shape(ctx, node))
        for i in range(2)
    )
    top, at, source = (t.move_last([axis]).view for t in (values, places, x))
    ctx.builder.top(top, at, source, not node.attrs.get("largest", 1))


def _top_shape(ctx: Lowering, node: Node) -> tuple[int, ...]:
    return ctx.shape(next(name for name in node.outputs if ctx.wanted(name)))


@lowers("CumSum", attrs=("exclusive", "reverse"))
def lower_cumsum(ctx: Lowering, node: Node) -> None:
    x, out = ctx.value(node.input(0)), ctx.out(node)
    axis = ctx.need_const(node, 1, "axis")
    if axis is None:
        raise UnsupportedOp("has no 'axis'")
    last = int(axis.item()) % x.rank
    if node.attrs.get("reverse", 0):
        x, out = (t.slice(last, t.shape[last] - 1, t.shape[last], -1) for t in (x, out))
    ctx.builder.cumsum(out.move_last([last]).view, x.move_last([last]).view, bool(node.attrs.get("exclusive", 0)))


@lowers("ReverseSequence", attrs=("batch_axis", "time_axis"))
def lower_reverse_sequence(ctx: Lowering, node: Node) -> None:
    """A window where every sequence is turned around as a whole."""
    x, lens = ctx.value(node.input(0)), ctx.const(node.input(1))
    time = node.attrs.get("time_axis", 0)
    if lens is not None and (lens < 0).any() | (lens > x.shape[time]).any():
        raise ShapeError(f"sequence_lens {lens.tolist()} must lie between 0 and {x.shape[time]}")
    if lens is not None and (lens == x.shape[time]).all():
        ctx.define(node.output(0), x.slice(time, x.shape[time] - 1, x.shape[time], -1))
        return
    out = ctx.out(node)
    ctx.builder.reverse(_time_first(out, time).view, _time_first(x, time).view, ctx.value(node.input(1)).view)


def _time_first(x: Tensor, time: int) -> Tensor:
    return x.transpose((time, 1 - time, *range(2, x.rank)))
