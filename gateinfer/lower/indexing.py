"""Gathers and scatters whose places are known at run time only, and what is made of them."""

from __future__ import annotations

from math import inf

import numpy as np

from gateinfer._core import BINARY
from gateinfer.errors import UnsupportedOp
from gateinfer.graph.ir import Node
from gateinfer.lower.context import Lowering
from gateinfer.lower.elementwise import BOOL, FLOAT
from gateinfer.lower.registry import lowers
from gateinfer.lower.tensor import Tensor

REDUCTIONS = {"none": -1, "add": BINARY["add"], "mul": BINARY["mul"], "max": BINARY["max"], "min": BINARY["min"]}


@lowers("GatherND", attrs=("batch_dims",))
def lower_gather_nd(ctx: Lowering, node: Node) -> None:
    x, index = (ctx.value(name) for name in node.inputs)
    ctx.builder.gather_nd(ctx.out(node).view, x.view, index.view, node.attrs.get("batch_dims", 0))


@lowers("GatherElements", attrs=("axis",))
def lower_gather_elements(ctx: Lowering, node: Node) -> None:
    x, index = (ctx.value(name) for name in node.inputs)
    ctx.builder.gather_elements(ctx.out(node).view, x.view, index.view, node.attrs.get("axis", 0) % x.rank)


@lowers("ScatterElements", "Scatter", attrs=("axis", "reduction"))
def lower_scatter_elements(ctx: Lowering, node: Node) -> None:
    index, updates = (ctx.value(name) for name in node.inputs[1:3])
    out = scattered(ctx, node)
    axis = node.attrs.get("axis", 0) % out.rank
    if updates.size:
        ctx.builder.scatter_elements(out.view, index.view, updates.view, axis, reduction(node))


def scattered(ctx: Lowering, node: Node) -> Tensor:
    """The output of a scatter with what its first input holds: that very memory if nothing needs it any more."""
    out = ctx.over(node, 0)
    if out is None:
        out = ctx.out(node)
        ctx.copy(out, ctx.value(node.input(0)))
    return out


def scatter_nd(ctx: Lowering, node: Node) -> None:
    """ScatterND at any places."""
    index, updates = (ctx.value(name) for name in node.inputs[1:3])
    out = scattered(ctx, node)
    if updates.size:
        ctx.builder.scatter_nd(out.view, index.view, updates.view, reduction(node))


def reduction(node: Node) -> int:
    """How a scatter joins old and new elements, as the builder takes it."""
    name = node.attrs.get("reduction", "none")
    if name not in REDUCTIONS:
        raise UnsupportedOp(f"attribute 'reduction' = {name!r} is not implemented")
    return REDUCTIONS[name]


@lowers("Compress", attrs=("axis",))
def lower_compress(ctx: Lowering, node: Node) -> None:
    x, condition = ctx.value(node.input(0)), ctx.need_const(node, 1, "condition")
    if condition is None:
        raise UnsupportedOp("has no 'condition'")
    places = np.flatnonzero(condition)
    if "axis" not in node.attrs:
        x = ctx.reshaped(x, (x.size,))
    gather_known(ctx, x, node.attrs.get("axis", 0) % x.rank, places, ctx.out(node))


def gather_known(ctx: Lowering, x: Tensor, axis: int, places: np.ndarray, out: Tensor) -> None:
    """Out = x at constant `places` along `axis`."""
    if out.size:
        ctx.builder.gather(out.view, x.view, ctx.constant(np.ascontiguousarray(places, np.int64)).view, axis)


# ---- masks -----------------------------------------------------------------------------------------------------------


@lowers("OneHot", attrs=("axis",))
def lower_one_hot(ctx: Lowering, node: Node) -> None:
    """The second value where a count along the new axis equals the index, which may be negative, else the first."""
    index, values, out = ctx.value(node.input(0)), ctx.value(node.input(2)), ctx.out(node)
    axis = node.attrs.get("axis", -1) % out.rank
    depth = out.shape[axis]
    count = ctx.constant(np.arange(depth).astype(index.dtype).reshape(-1, *(1,) * (out.rank - 1 - axis)))
    index = index.unsqueeze(axis)
    wrapped = ctx.binary("add", index, ctx.scalar(depth, index.dtype))
    direct, around = (ctx.binary("equal", i, count, dtype=BOOL) for i in (index, wrapped))
    hit = ctx.binary("or", direct, around)
    ctx.where(out, hit, values.select(0, 1), values.select(0, 0))


@lowers("Trilu", attrs=("upper",))
def lower_trilu(ctx: Lowering, node: Node) -> None:
    x, out = ctx.value(node.input(0)), ctx.out(node)
    known = ctx.need_const(node, 1, "k")
    offset = 0 if known is None else int(np.clip(known.item(), -x.shape[-2] - 1, x.shape[-1] + 1))
    upper = bool(node.attrs.get("upper", 1))
    lower_part = np.tri(x.shape[-2], x.shape[-1], offset - 1 if upper else offset, dtype=bool)
    mask = ctx.constant(~lower_part if upper else lower_part)
    ctx.where(out, mask, x, ctx.scalar(0, x.dtype))


@lowers("IsInf", attrs=("detect_negative", "detect_positive"))
def lower_is_inf(ctx: Lowering, node: Node) -> None:
    x, out = ctx.value(node.input(0)), ctx.out(node)
    if x.dtype != FLOAT:
        raise UnsupportedOp(f"works on {x.dtype}; IsInf runs on float32")
    wanted = [s for key, s in (("detect_positive", inf), ("detect_negative", -inf)) if node.attrs.get(key, 1)]
    found = [ctx.binary("equal", x, ctx.scalar(sign, FLOAT), dtype=BOOL) for sign in wanted]
    if len(found) == 2:
        ctx.binary("or", found[0], found[1], out=out)
    elif found:
        ctx.copy(out, found[0])
    else:
        ctx.fill(out, 0)
