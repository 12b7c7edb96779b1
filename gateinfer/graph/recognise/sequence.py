"""Loops that do nothing but step one cell: they are a recurrent node over all their turns."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gateinfer.graph.ir import RECURRENT, Graph, Node, Origin, TensorType
from gateinfer.graph.recognise.flow import F32, Flow

X, H0, C0 = 0, 5, 6


@dataclass(slots=True)
class _Body:
    """A loop body that is one cell: its node, and where its operands and results are among the ports of the loop."""

    cell: Node
    x: int
    """Index among the scanned values."""
    carried: dict[int, int]
    """Index among carried values -> output of the cell (1: h, 2: c)."""


def as_sequence(graph: Graph, loop: Node, outer: tuple[Graph, ...]) -> Graph | None:
    """What takes the place of `loop`, a folded loop with recognised body: nodes with their constants and types.

    Parameters
    ----------
    graph : the graph around the loop
    loop : a folded Loop or Scan
    outer : graphs around `graph`, innermost first

    Returns
    -------
    None when a turn does anything else, or when the number of turns depends on run-time values.
    """
    turns, body = loop.attrs.get("trips", -1), loop.attrs.get("body")
    if turns < 1 or any(loop.inputs[:2]) or not isinstance(body, Graph):
        return None
    found = _read_body(Flow(body, (graph, *outer)), loop, body)
    return None if found is None else _write(graph, loop, found, turns)


def _read_body(flow: Flow, loop: Node, body: Graph) -> _Body | None:
    steps = [node for node in body.nodes if any(o and flow.root(o) == o for o in node.outputs)]
    if len(steps) != 1 or steps[0].op not in RECURRENT or steps[0].origin is None:
        return None
    cell = steps[0]
    count = len(body.inputs) - 1 - loop.attrs["scanned"]
    names = [port.name for port in body.inputs[1:]]
    states = {flow.root(cell.input(at)): at - H0 + 1 for at in (H0, C0) if cell.input(at)}
    outputs = [flow.root(port.name) for port in body.outputs]
    carried = {i: states.get(name, 0) for i, name in enumerate(names[:count])}
    fits = sorted(carried.values()) == sorted(states.values())
    fits = fits and all(outputs[i] == cell.output(which) for i, which in carried.items())
    fits = fits and all(name == cell.output(1) for name in outputs[count:])
    x = flow.root(cell.input(X))
    return _Body(cell, names.index(x) - count, carried) if fits and x in names[count:] else None


def _write(graph: Graph, loop: Node, found: _Body, turns: int) -> Graph:
    cell, count = found.cell, len(found.carried)
    writer = _Writer(graph, cell.name)
    _, rows, hidden = writer.known(loop.inputs[2], cell)
    x = loop.inputs[2 + count + found.x]
    inputs = list(cell.inputs)
    inputs[X] = writer.reshape(x, (turns, rows, graph.types[x].size // (turns * rows)), "x")
    for i, which in found.carried.items():
        inputs[H0 + which - 1] = writer.reshape(loop.inputs[2 + i], (1, rows, hidden), f"start{which}")
    results = {0: f"{cell.name}~steps", 1: f"{cell.name}~last1", 2: f"{cell.name}~last2"}
    outputs = tuple(results[i] for i in range(len(cell.outputs)))
    shapes = {0: (turns, 1, rows, hidden), 1: (1, rows, hidden), 2: (1, rows, hidden)}
    writer.types |= {name: TensorType(F32, shapes[i]) for i, name in enumerate(outputs)}
    writer.nodes.append(replace(cell, inputs=tuple(inputs), outputs=outputs, origin=_origin(cell, loop)))
    for i, name in enumerate(loop.outputs):
        if name:
            writer.back(results[found.carried.get(i, 0)], name)
    return Graph([], [], writer.nodes, writer.constants, types=writer.types)


def _origin(cell: Node, loop: Node) -> Origin:
    assert cell.origin is not None  # `_read_body` has made sure of that
    # Along a loop h is what is carried.
    return Origin(tuple(sorted((*cell.origin.ops, (loop.op, 1)))))


class _Writer:
    """Reshapes, with their constants and types."""

    def __init__(self, graph: Graph, prefix: str) -> None:
        self.graph = graph
        self.prefix = prefix
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self.types: dict[str, TensorType] = {}

    def known(self, state: str, cell: Node) -> tuple[int, int, int]:
        """(1, N, H) of a state."""
        hidden = int(cell.attrs["hidden_size"])
        return 1, self.graph.types[state].size // hidden, hidden

    def reshape(self, source: str, shape: tuple[int, ...], what: str) -> str:
        """`source` in another shape."""
        name = f"{self.prefix}~{what}"
        self.types[name] = TensorType(F32, shape)
        return self._emit(source, name, shape)

    def back(self, source: str, name: str) -> None:
        """`source` as the value `name` of the graph."""
        self._emit(source, name, self.graph.types[name].extents)

    def _emit(self, source: str, name: str, shape: tuple[int, ...]) -> str:
        self.constants[f"{name}~shape"] = np.array(shape, "i8")
        self.types[f"{name}~shape"] = TensorType(np.dtype("i8"), (len(shape),))
        self.nodes.append(Node("Reshape", (source, f"{name}~shape"), (name,)))
        return name
