"""Loops: the body becomes a program of its own, and the node one op that runs it turn after turn.

The form of the node is that of graph/loops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gateinfer.errors import UnsupportedOp
from gateinfer.graph.checks import captures
from gateinfer.graph.ir import Graph, Node
from gateinfer.lower.context import Lowering
from gateinfer.lower.program import emit
from gateinfer.lower.registry import lowers
from gateinfer.lower.tensor import Tensor

if TYPE_CHECKING:
    from gateinfer._core import Program, View

ENDLESS = 2**62
"""Trip count of a loop that only its condition ends."""


class Body(NamedTuple):
    """A lowered body: external tensors by name, of those that enter and of those that come out."""

    program: Program
    entering: dict[str, int]
    leaving: dict[str, int]
    condition: int


@lowers("Loop", "Scan", attrs=None)
def lower_loop(ctx: Lowering, node: Node) -> None:
    graph, trips = node.attrs.get("body"), node.attrs.get("trips")
    if not isinstance(graph, Graph) or trips is None:
        raise UnsupportedOp("is not folded: the number of its turns is not known")
    captured = sorted(captures(graph) - ctx.graph.constants.keys())
    body = _lower_body(ctx, graph, captured, trips < 0)
    carried = len(node.inputs) - 2 - node.attrs["scanned"]
    reads = (*filter(None, node.inputs), *captured)
    outs = [ctx.out(node, i, reads=reads) if ctx.wanted(o) else None for i, o in enumerate(node.outputs)]
    results = [_writable(ctx, out, i >= carried) for i, out in enumerate(outs)]
    entering = [port.name for port in graph.inputs]
    leaving = [body.leaving[port.name] for port in graph.outputs[trips < 0 :]]
    most, trip_count = _turns(ctx, node, trips)
    ctx.builder.loop(
        body.program,
        most,
        trip_count,
        ctx.value(node.inputs[1]).view if node.inputs[1] else None,
        (body.entering.get(entering[0], -1), -1, body.condition),
        [(ctx.contiguous(ctx.value(name)).view, body.entering[name]) for name in captured],
        [
            (ctx.contiguous(ctx.value(outside)).view, body.entering[inside], after, result.view if result else None)
            for outside, inside, after, result in zip(
                node.inputs[2 : 2 + carried], entering[1:], leaving, results, strict=False
            )
        ],
        [
            (_scannable(ctx, ctx.value(outside)).view, body.entering[inside])
            for outside, inside in zip(node.inputs[2 + carried :], entering[1 + carried :], strict=True)
        ],
        [
            (result.view, after)
            for after, result in zip(leaving[carried:], results[carried:], strict=True)
            if result is not None
        ],
    )
    for out, result in zip(outs, results, strict=True):
        if out is not None and result is not None and not out.same(result):
            ctx.copy(out, result)


def _lower_body(ctx: Lowering, graph: Graph, captured: Sequence[str], decides: bool) -> Body:
    """Gives every value that enters or leaves the body an external tensor; one that leaves twice has one."""
    ports = {port.name: port for port in graph.outputs[decides:]}
    condition = graph.outputs[0].name if decides else ""
    own = condition and condition not in ports
    if own:
        ports[condition] = graph.outputs[0]
    inner = ctx.inner(replace(graph, outputs=list(ports.values())))
    entering = {name: _entering(inner, name) for name in [*(p.name for p in graph.inputs[1:]), *captured]}
    if inner.wanted(graph.inputs[0].name):
        entering[graph.inputs[0].name] = _entering(inner, graph.inputs[0].name)
    leaving = {name: inner.external(port.dtype, port.type.extents) for name, port in ports.items()}
    inner.homes.update(leaving)
    emit(inner)
    if condition and not own:
        leaving[""] = inner.external(np.bool_, ())
        inner.copy(leaving[""], inner.reshaped(inner.value(condition), ()))
    ids = {name: tensor.id for name, tensor in leaving.items()}
    decision = ids[condition if own else ""] if decides else -1
    return Body(inner.builder.finish(), entering, ids, decision)


def _entering(inner: Lowering, name: str) -> int:
    tensor = inner.external(inner.dtype(name), inner.shape(name))
    inner.define(name, tensor)
    return tensor.id


def _turns(ctx: Lowering, node: Node, trips: int) -> tuple[int, View | None]:
    """The most turns the loop may take, and where to read a lower number at run time."""
    if trips >= 0:
        return trips, None
    known = ctx.const(node.inputs[0])
    if known is not None:
        return min(max(int(known.item()), 0), ENDLESS), None
    return ENDLESS, ctx.value(node.inputs[0]).view if node.inputs[0] else None


def _has_dense_elements(tensor: Tensor) -> bool:
    return tensor.window(tensor.shape[1:], tensor.strides[1:]).is_dense


def _scannable(ctx: Lowering, tensor: Tensor) -> Tensor:
    """`tensor`, copied only when its elements along axis 0 are not dense."""
    return tensor if _has_dense_elements(tensor) else ctx.copied(tensor)


def _writable(ctx: Lowering, out: Tensor | None, is_stacked: bool) -> Tensor | None:
    """`out`, or a dense stand-in where the op cannot write to it directly."""
    if out is None or (_has_dense_elements(out) if is_stacked else out.is_dense):
        return out
    return ctx.new(out.dtype, out.shape)
