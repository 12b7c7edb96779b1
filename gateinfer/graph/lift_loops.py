"""State of loops along time: carried values that start from constants become inputs of the graph, before it is folded.

A loop of one turn is folded away and a recognised cell is no loop any more, so that the ports have to be there first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from gateinfer.errors import GateInferError
from gateinfer.graph.ir import UNKNOWN_DTYPE, Graph, Node, Port, TensorType


class LoopEnd(NamedTuple):
    """One carried value of a loop: node by its first output, positions of the value before and behind it."""

    node: str
    before: int
    after: int
    source: str
    output: str
    shape: tuple[int, ...]

    def changed(self, node: Node) -> tuple[Node, list[Node]]:
        """`node` that starts from the input `source`, and a copy of its last value if the graph uses that already."""
        inputs, outputs = list(node.inputs), list(node.outputs)
        inputs[self.before] = self.source
        outputs += [""] * (self.after + 1 - len(outputs))
        copies = [Node("Identity", (outputs[self.after],), (self.output,))] if outputs[self.after] else []
        outputs[self.after] = outputs[self.after] or self.output
        return replace(node, inputs=tuple(inputs), outputs=tuple(outputs)), copies


def open_loops(graph: Graph, ends: Sequence[LoopEnd]) -> Graph:
    """`graph`, folded, with inputs and outputs for `ends`."""
    wanted = {end.node for end in ends}
    nodes: list[Node] = []
    copies: list[Node] = []
    for node in graph.nodes:
        first = first_output(node)
        for end in ends if first in wanted else ():
            if end.node == first:
                node, copy = end.changed(node)
                copies += copy
        nodes.append(node)
    sources = [Port(end.source, TensorType(np.dtype(np.float32), end.shape)) for end in ends]
    results = [Port(end.output, TensorType(np.dtype(np.float32), end.shape)) for end in ends]
    return replace(graph, nodes=nodes + copies, inputs=[*graph.inputs, *sources], outputs=[*graph.outputs, *results])


def first_output(node: Node) -> str:
    return next(filter(None, node.outputs), "")


def find_loop_ends(
    graph: Graph, constants_of: Callable[[Graph], Mapping[str, np.ndarray]], fresh: Callable[[str], str]
) -> tuple[tuple[LoopEnd, ...], dict[str, np.ndarray]]:
    """The carried values of loops in the main graph that start from constants, and their initial values by input.

    `constants_of` evaluates the outputs of a graph as far as they are constant and of the same shape at all lengths.
    """
    carried = [(node, *places) for node in graph.nodes for places in _carried(node)]
    if not carried:
        return (), {}
    unknown = TensorType(UNKNOWN_DTYPE, None)
    wanted = dict.fromkeys(node.inputs[before] for node, before, _ in carried)
    try:
        starts = constants_of(replace(graph, outputs=[Port(name, unknown) for name in wanted]))
    except GateInferError:
        return (), {}
    ends, initial = [], {}
    for node, before, after in carried:
        start = starts.get(node.inputs[before])
        if start is None or start.dtype != np.float32 or start.ndim == 0:
            continue
        called = f"{node.name or first_output(node)}.{before - _first_carried(node)}"
        end = LoopEnd(first_output(node), before, after, fresh(called), fresh(f"{called}n"), start.shape)
        ends.append(end)
        initial[end.source] = start
    return tuple(ends), initial


def _first_carried(node: Node) -> int:
    return 2 if node.op == "Loop" else 0


def _carried(node: Node) -> Iterator[tuple[int, int]]:
    """(input, output) of the carried values of a loop that its body changes."""
    body = node.attrs.get("body")
    if node.op not in ("Loop", "Scan") or node.domain or not isinstance(body, Graph):
        return
    first = _first_carried(node)
    count = len(node.inputs) - (first or int(node.attrs.get("num_scan_inputs", 0)))
    moved = {n.outputs[0]: n.inputs[0] for n in body.nodes if n.op == "Identity"}
    for index in range(count):
        source = body.outputs[index + (first > 0)].name
        while source in moved:
            source = moved[source]
        if source != body.inputs[index + first].name and node.inputs[index + first]:
            yield index + first, index
