"""State where the file has none: recurrent nodes along the time of the frames get state inputs and outputs.

What to lift is found once per extents of the frames, by `time_search`; `lift_states` adds the ports to the graph of any
chunk length.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from gateinfer.errors import StateMismatch
from gateinfer.graph.evaluate import can_evaluate, evaluate
from gateinfer.graph.ir import Graph, Node, Port, Shapes, TensorType, all_nodes
from gateinfer.graph.lift_loops import LoopEnd, open_loops
from gateinfer.graph.live import downstream, upstream
from gateinfer.graph.states import C0, H0, RECURRENT, Y_C, Y_H, State

X, R = 0, 2
SLOTS = {"h": (H0, Y_H), "c": (C0, Y_C)}
"""Input and output of a recurrent node by kind of state."""

Axes = dict[str, int]
"""Time axis by frame input."""

Specialize = Callable[[Graph, Shapes, Mapping[str, np.ndarray]], Graph]


class End(NamedTuple):
    """One state of one recurrent node: `number` counts the recurrent nodes of a specialised graph."""

    number: int
    kind: str
    state: State
    row_axis: int


@dataclass(frozen=True, slots=True)
class Lift:
    """What a stream of a whole-sequence model keeps.

    Attributes
    ----------
    axes : time axis by frame input. Its extent is free, whatever the file declares, unless `length` says otherwise.
    length : the only chunk length the file can run at, or 0.
    count : recurrent nodes of a specialised graph, lifted or not.
    ends, loops : states of recurrent nodes of a specialised graph, and of loops of the folded one.
    initial : learned initial states by state name; the others start at zero.
    """

    axes: tuple[tuple[str, int], ...]
    length: int
    count: int
    states: tuple[State, ...]
    ends: tuple[End, ...]
    loops: tuple[LoopEnd, ...]
    initial: dict[str, np.ndarray] = field(compare=False)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Input and output of every state."""
        return tuple((state.input, state.output) for state in self.states)

    @property
    def row_axes(self) -> dict[str, int]:
        """Batch axis by state. Cells in loops multiply [N, H] by weights."""
        flat = {end.source: 0 for end in self.loops if len(end.shape) == 2}
        return flat | {end.state.input: end.row_axis for end in self.ends}

    @property
    def loop_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the inputs that `prepared` adds."""
        return {end.source: end.shape for end in self.loops}

    def opened(self, graph: Graph) -> Graph:
        """`graph` with its time axes free."""
        return graph if self.length else opened(graph, dict(self.axes))

    def prepared(self, graph: Graph) -> Graph:
        """`opened`, with the state of loops as inputs and outputs: what `lift_states` is for, specialised."""
        return open_loops(self.opened(graph), self.loops)


def opened(graph: Graph, axes: Axes) -> Graph:
    """`graph` with free extents along `axes` of its inputs; named ones are free already."""
    if not axes:
        return graph
    inputs = []
    for port in graph.inputs:
        shape = list(port.shape or ())
        if port.name in axes and isinstance(shape[axes[port.name]], int):
            shape[axes[port.name]] = None
            port = Port(port.name, TensorType(port.dtype, tuple(shape)))
        inputs.append(port)
    return replace(graph, inputs=inputs)


def find_lift(
    graph: Graph,
    states: Sequence[State],
    shapes: Shapes,
    values: Mapping[str, np.ndarray],
    specialize: Specialize,
) -> Lift | None:
    """What a stream has to lift for frames of these shapes; None when the file's own states are all there is.

    Parameters
    ----------
    graph : folded.
    states : pairs the file has.
    shapes : of all inputs that stay inputs, states included; extents along time do not matter.
    values : of the inputs that are constants.
    specialize : as `fold.specialize`.

    Raises
    ------
    StateMismatch
        Frames could not equal one long run: names the node that mixes over time and what to do.
    GateInferError
        The graph cannot be specialised for these shapes.
    """
    if not may_lift(graph, states) and not _has_found_cells(graph, states, shapes, values, specialize):
        return None
    from gateinfer.graph.time_search import Search

    return Search(graph, states, shapes, values, specialize).find()


def _has_found_cells(
    graph: Graph, states: Sequence[State], shapes: Shapes, values: Mapping[str, np.ndarray], specialize: Specialize
) -> bool:
    """True when cells written out step by step became recurrent nodes that start anew, in a file without states."""
    if states or any(node.op in RECURRENT for node in graph.nodes):
        return False
    found = specialize(graph, shapes, values)
    starts = [node.input(SLOTS[kind][0]) for node in recurrent_nodes(found) for kind in free_slots(node, set())]
    return any(not start or constant_value(found, start) is not None for start in starts)


def may_lift(graph: Graph, states: Sequence[State]) -> bool:
    """False when every recurrent node of a folded graph surely starts from a state input, and ends in an output."""
    nodes = list(all_nodes(graph))
    held = {state.input for state in states}
    fed = downstream(nodes, held)
    if any(node.op in ("Loop", "Scan") or any(free_slots(node, fed)) for node in nodes):
        return True
    return bool(stray_nodes(graph, held, {state.output for state in states}))


def stray_nodes(graph: Graph, held: Collection[str], carried: Collection[str]) -> set[int]:
    """Recurrent nodes of the main graph, by id, that start from a state input and end in no state output.

    Where they get to is lost between chunks.
    """
    fed, kept = downstream(graph.nodes, held), upstream(graph.nodes, carried)
    wired = (node for node in recurrent_nodes(graph) if not any(free_slots(node, fed)))
    return {id(node) for node in wired if kept.isdisjoint(node.outputs)}


def free_slots(node: Node, fed: set[str]) -> Iterator[str]:
    """Kinds of state of a recurrent node that no state input feeds."""
    if node.op in RECURRENT and not node.domain:
        yield from (kind for kind in ("hc" if node.op == "LSTM" else "h") if node.input(SLOTS[kind][0]) not in fed)


def recurrent_nodes(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.op in RECURRENT and not node.domain]


def constant_value(graph: Graph, name: str) -> np.ndarray | None:
    """The value of `name` if it follows from constants alone, as the initial states of recognised cells may."""
    if name in graph.constants:
        return graph.constants[name]
    node = next((node for node in graph.nodes if name and name in node.outputs), None)
    if node is None or not can_evaluate(node, graph.opset):
        return None
    arguments = [constant_value(graph, source) for source in node.inputs]
    if any(value is None and source for value, source in zip(arguments, node.inputs, strict=True)):
        return None
    types = [graph.types[output] for output in node.outputs]
    return evaluate(node, types, arguments, graph.opset)[node.outputs.index(name)]


def lift_states(graph: Graph, lift: Lift) -> Graph:
    """`graph`, prepared and specialised for any chunk length, with the ports of recurrent nodes as well."""
    nodes = recurrent_nodes(graph)
    if lift.ends and len(nodes) != lift.count:
        raise StateMismatch(f"at this length the graph has {len(nodes)} recurrent nodes, at others {lift.count}")
    changed = {id(node): node for node in nodes}
    extra: list[Node] = []
    result = replace(graph, inputs=list(graph.inputs), outputs=list(graph.outputs), types=dict(graph.types))
    for end in lift.ends:
        node = nodes[end.number]
        lifted, copies = _with_ports(changed[id(node)], end)
        changed[id(node)] = lifted
        extra += copies
        x, r = (graph.types[node.inputs[i]] for i in (X, R))
        rows, hidden = x.extents[end.row_axis], r.extents[2]
        found = TensorType(x.dtype, (1, rows, hidden) if end.row_axis else (rows, 1, hidden))
        result.types[end.state.input] = result.types[end.state.output] = found
        result.inputs.append(Port(end.state.input, found))
        result.outputs.append(Port(end.state.output, found))
    result.nodes = [changed.get(id(node), node) for node in graph.nodes] + extra
    return result


def _with_ports(node: Node, end: End) -> tuple[Node, list[Node]]:
    """`node` that starts from the state input, and a copy of its final state when the graph uses that already."""
    start, final = SLOTS[end.kind]
    inputs = [*node.inputs, *[""] * (start + 1 - len(node.inputs))]
    inputs[start] = end.state.input
    outputs = [*node.outputs, *[""] * (final + 1 - len(node.outputs))]
    copies = [Node("Identity", (outputs[final],), (end.state.output,))] if outputs[final] else []
    outputs[final] = outputs[final] or end.state.output
    return replace(node, inputs=tuple(inputs), outputs=tuple(outputs)), copies
