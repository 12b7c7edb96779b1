"""From a specialised graph to a finished program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gateinfer._core import Program, Runner, Team
from gateinfer.errors import GateInferError, UnsupportedOp
from gateinfer.graph.infer import has_rule, infer
from gateinfer.graph.ir import Graph, Node, Port, first_output
from gateinfer.lower.context import Cache, Lowering
from gateinfer.lower.embedding import take_over
from gateinfer.lower.overwrite import joined
from gateinfer.lower.placement import place
from gateinfer.lower.registry import check_attrs, rule_for
from gateinfer.lower.target import Target
from gateinfer.lower.tensor import Shape, Tensor

Slot = tuple[int, np.dtype, Shape]
"""External tensor of a port: (tensor id, dtype, shape)."""


class Lowered(NamedTuple):
    """A program and the external tensors that its graph's ports became.

    `sources`: per op the first outputs of the nodes of `graph` it is for, each with its multiply-adds, or "" for copies
    to where outputs belong.
    """

    graph: Graph
    program: Program
    inputs: dict[str, Slot]
    outputs: dict[str, Slot]
    sources: tuple[dict[str, int], ...]
    team: Team | None = None

    def new_runner(self) -> Runner:
        return Runner(self.program, 1, self.team)


def lower(graph: Graph, target: Target, cache: Cache, states: Sequence[tuple[str, str]] = ()) -> Lowered:
    """Lowers a specialised graph.

    Parameters
    ----------
    graph : Graph
        All shapes static, constants folded.
    target : Target
    cache : dict
        Packed weights that the programs of one model share; filled here.
    states : sequence of (input name, output name)
        After each step the output is carried onto the input.

    Raises
    ------
    UnsupportedOp
        The text lists every node that has no lowering.
    ShapeError
        Shapes of the graph contradict each other.
    """
    graph = joined(graph)
    ctx = Lowering(graph, target, cache)
    inputs = {port.name: _input(ctx, port) for port in graph.inputs}
    outputs = {port.name: _output(ctx, port) for port in graph.outputs}
    emit(ctx)
    for source, result in states:
        ctx.builder.carry(outputs[result][0], inputs[source][0])
    return Lowered(graph, ctx.builder.finish(), inputs, outputs, tuple(ctx.sources), target.team)


def emit(ctx: Lowering) -> None:
    """Lowers all nodes of a graph whose inputs are defined, so that its outputs end up in their homes."""
    place(ctx)
    take_over(ctx)
    _lower_nodes(ctx)
    for port in ctx.graph.outputs:
        ctx.define(port.name, ctx.value(port.name))
    ctx.credit("")


def _refusal(ctx: Lowering, node: Node) -> str:
    rule = rule_for(node)
    if rule is None:
        domain = f" of domain {node.domain!r}" if node.domain else ""
        return f"no native operator {node.op}{domain}"
    try:
        check_attrs(node, rule)
        _check_by_shape_rule(ctx, node)
    except UnsupportedOp as error:
        return str(error).removeprefix(f"{node.label()}: ")
    return ""


def _check_by_shape_rule(ctx: Lowering, node: Node) -> None:
    """Raises UnsupportedOp for what the engine's shape rule does not implement.

    The types may come from elsewhere: a node that its own rule refuses may run in onnxruntime, but never here.
    """
    if has_rule(node):
        types = [ctx.graph.types.get(name) if name else None for name in node.inputs]
        infer(node, types, [ctx.const(name) for name in node.inputs], ctx.graph.opset, empty=True)


def _lower_nodes(ctx: Lowering) -> None:
    """Lowers all nodes and collects what is unsupported, so that one error lists every such node."""
    refused: dict[str, str] = {}
    for node in ctx.nodes:
        if node.output(0) in ctx.done:
            continue
        try:
            _lower_node(ctx, node)
            ctx.credit(first_output(node))
        except UnsupportedOp as error:
            refused[first_output(node)] = f"{node.label()}: {error}"
        except GateInferError as error:
            if not refused:  # else it may follow from a refusal further up
                raise type(error)(f"{node.label()}: {error}") from error
        if refused:
            for name in filter(ctx.wanted, node.outputs):
                ctx.define_missing(name)
    if refused:
        listed = "\n  ".join(refused.values())
        refusal = UnsupportedOp(f"{len(refused)} node(s) cannot run natively:\n  {listed}")
        refusal.nodes = tuple(refused)
        raise refusal


def _lower_node(ctx: Lowering, node: Node) -> None:
    refusal = _refusal(ctx, node)
    rule = rule_for(node)
    if refusal or rule is None:
        raise UnsupportedOp(refusal)
    names = [name for name in node.outputs if ctx.wanted(name)]
    if all(0 in ctx.shape(name) for name in names):
        for name in names:
            ctx.define(name, ctx.new(ctx.dtype(name), ctx.shape(name)))
        return
    with np.errstate(all="ignore"):  # weights out of range, such as a negative variance, show in the results
        rule.lower(ctx, node)


def _input(ctx: Lowering, port: Port) -> Slot:
    tensor = _external(ctx, port, "input")
    ctx.define(port.name, tensor)
    return tensor.id, tensor.dtype, tensor.shape


def _output(ctx: Lowering, port: Port) -> Slot:
    tensor = ctx.homes[port.name] = _external(ctx, port, "output")
    return tensor.id, tensor.dtype, tensor.shape


def _external(ctx: Lowering, port: Port, what: str) -> Tensor:
    try:
        return ctx.external(ctx.dtype(port.name), ctx.shape(port.name))
    except UnsupportedOp as error:
        raise UnsupportedOp(f"{what} {port.name!r}: {error}") from error
