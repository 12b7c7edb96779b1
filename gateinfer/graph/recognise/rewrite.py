"""Puts LSTM, GRU and RNN nodes in the place of recognised cells."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable

import numpy as np

from gateinfer.graph.checks import uses
from gateinfer.graph.ir import RECURRENT, Graph, Node, Origin, TensorType
from gateinfer.graph.recognise.cell import Cell
from gateinfer.graph.recognise.flow import F32
from gateinfer.graph.recognise.gate import SIGMOID, TANH
from gateinfer.graph.recognise.pushed import Pushed
from gateinfer.graph.recognise.readers import Readers
from gateinfer.graph.recognise.weights import CellWeights, WeightStore

WITH_ALPHA = frozenset("Affine LeakyRelu ThresholdedRelu HardSigmoid Elu".split())
WITH_BETA = frozenset("Affine HardSigmoid".split())
USUAL = {"LSTM": (SIGMOID, TANH, TANH), "GRU": (SIGMOID, TANH), "RNN": (TANH,)}
"""Activations that need no attribute."""


def worth_it(graph: Graph, readers: Readers, cells: list[Cell]) -> list[Cell]:
    """The cells whose products nothing else needs: with the others all of them would be computed twice."""
    while cells:
        live = {name for node in needed(_sketch(graph, readers, cells), graph) for name in node.outputs}
        kept = [cell for cell in cells if live.isdisjoint(cell.products)]
        if len(kept) == len(cells):
            break
        cells = kept
    return cells


def rewritten(graph: Graph, readers: Readers, cells: list[Cell], store: WeightStore) -> Graph:
    """`graph` with one recurrent node per cell instead of the nodes that spell it."""
    writer = _Writer(readers, store)
    sketch = needed(_sketch(graph, readers, cells), graph)
    origins = _origins(graph, sketch, cells)
    made = {cell.next_h: writer.nodes(cell, origin) for cell, origin in zip(cells, origins, strict=True)}
    nodes = needed(_placed(graph, cells, made), graph)
    used = {name for node in nodes for name in (*uses(node), *node.outputs)}
    return dataclasses.replace(
        graph,
        nodes=nodes,
        constants=graph.constants | {n: a for n, a in writer.constants.items() if n in used},
        types=graph.types | {n: t for n, t in writer.types.items() if n in used},
    )


def _sketch(graph: Graph, readers: Readers, cells: list[Cell]) -> list[Node]:
    """The graph with each cell as one node on just the values it reads."""
    nodes = {cell.next_h: [Node(cell.kind, tuple(_reads(readers.affine.pushed, cell)), cell.made)] for cell in cells}
    return _placed(graph, cells, nodes)


def _reads(pushed: Pushed, cell: Cell) -> Iterable[str]:
    for name in filter(None, (*cell.xs, cell.h, cell.c)):
        made = pushed.nodes.get(name)
        yield from (i for node in made for i in node.inputs if i) if made else (name,)


def _placed(graph: Graph, cells: list[Cell], made: dict[str, list[Node]]) -> list[Node]:
    """The nodes of `graph`, those of each cell before the node that made the first of its values."""
    of_value = {value: cell for cell in cells for value in cell.made}
    placed: set[str] = set()
    nodes: list[Node] = []
    for node in graph.nodes:
        cell = next((of_value[o] for o in node.outputs if o in of_value), None)
        if cell is None:
            nodes.append(node)
        elif cell.next_h not in placed:
            placed.add(cell.next_h)
            nodes += made[cell.next_h]
    return nodes


def needed(nodes: list[Node], graph: Graph) -> list[Node]:
    """The nodes that the outputs of `graph` depend on, in order; of nodes that come twice, one."""
    wanted = {port.name for port in graph.outputs}
    kept = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.outputs):
            kept.append(node)
            wanted |= uses(node)
    return kept[::-1]


def _origins(graph: Graph, left: list[Node], cells: list[Cell]) -> list[Origin]:
    """What each cell was: the nodes that are gone, each counted for the first cell that leads to it."""
    all_made = {value for cell in cells for value in cell.made}
    stay = {name for node in left for name in node.outputs if node.op not in RECURRENT}
    producers = {name: node for node in graph.nodes for name in node.outputs if name}
    seen: set[int] = set()
    found = []
    for cell in cells:
        limits = {*cell.xs, cell.h, cell.c, *all_made.difference(cell.made)}
        ops: Counter[str] = Counter()
        stack = list(cell.made)
        while stack:
            name = stack.pop()
            node = producers.get(name)
            if node is None or id(node) in seen or name in limits or name in stay:
                continue
            seen.add(id(node))
            ops[node.op] += 1
            stack.extend(i for i in node.inputs if i)
        found.append(Origin(tuple(sorted(ops.items())), bool(cell.candidates)))
    return found


class _Writer:
    """Makes the nodes, constants and types of fused cells."""

    def __init__(self, readers: Readers, store: WeightStore) -> None:
        self.flow = readers.flow
        self.pushed = readers.affine.pushed
        self.store = store
        self.constants: dict[str, np.ndarray] = {}
        self.types: dict[str, TensorType] = {}
        self._written: set[str] = set()

    def nodes(self, cell: Cell, origin: Origin) -> list[Node]:
        """The recurrent node, and what brings its operands into shape and its results back."""
        weights = self.store.get(cell)
        self._constants(weights.constants())
        nodes: list[Node] = []
        x = self._shaped(self._input(cell, nodes), cell.rows, nodes)
        h = self._shaped(cell.h, cell.rows, nodes) if cell.h else ""
        c = [self._shaped(cell.c, cell.rows, nodes)] if cell.c else []
        results = [f"{made}~state" for made in cell.made]
        node = Node(
            cell.kind,
            (x, *_weight_inputs(weights), "", h, *c, *_peephole_inputs(weights)),
            ("", *results),
            _attributes(cell),
            name=cell.next_h,
            origin=origin,
        )
        self.types |= dict.fromkeys(results, TensorType(F32, (1, cell.rows, cell.hidden)))
        back = [n for made, state in zip(cell.made, results, strict=True) for n in self._reshape(state, made)]
        return [*nodes, node, *back]

    def _input(self, cell: Cell, nodes: list[Node]) -> str:
        """One value with all inputs of the cell side by side."""
        for name in cell.xs:
            self._pushed(name, nodes)
        if len(cell.xs) == 1:
            return cell.xs[0]
        if cell.xs in self.pushed.joined:
            return self.pushed.joined[cell.xs]
        parts = [self._shaped(name, cell.rows, nodes) for name in cell.xs]
        joined = f"{cell.next_h}~x"
        self.types[joined] = TensorType(F32, (1, cell.rows, sum(self.types[p].extents[2] for p in parts)))
        nodes.append(Node("Concat", tuple(parts), (joined,), {"axis": 2}))
        return joined

    def _pushed(self, name: str, nodes: list[Node]) -> None:
        """Writes a value that the graph does not have yet, once."""
        for node in self.pushed.nodes.get(name, ()):
            if node.outputs[0] not in self._written:
                self._written.add(node.outputs[0])
                self.types[node.outputs[0]] = self.pushed.types[node.outputs[0]]
                self._constants({i: self.pushed.constants[i] for i in node.inputs if i in self.pushed.constants})
                nodes.append(node)

    def _shaped(self, name: str, rows: int, nodes: list[Node]) -> str:
        """`name` as [1, N, K]."""
        size = self.types[name].size if name in self.types else self.flow.size(name)
        shape = (1, rows, size // rows)
        known = self.types.get(name) or self.flow.type(name)
        if known is not None and known.shape == shape:
            return name
        target = f"{name}~{rows}x{size // rows}"
        if target not in self._written:
            self._written.add(target)
            nodes += self._reshape(name, target, shape)
        return target

    def _reshape(self, source: str, target: str, shape: tuple[int, ...] | None = None) -> list[Node]:
        shape = shape or self.flow.shape(target) or ()
        self.types[target] = TensorType(F32, shape)
        self._constants({f"{target}~shape": np.array(shape, "i8")})
        return [Node("Reshape", (source, f"{target}~shape"), (target,))]

    def _constants(self, constants: dict[str, np.ndarray]) -> None:
        self.constants |= constants
        self.types |= {name: TensorType(array.dtype, array.shape) for name, array in constants.items()}


def _weight_inputs(weights: CellWeights) -> tuple[str, str, str]:
    return f"{weights.name}~W", f"{weights.name}~R", f"{weights.name}~B"


def _peephole_inputs(weights: CellWeights) -> tuple[str, ...]:
    return () if weights.p is None else (f"{weights.name}~P",)


def _attributes(cell: Cell) -> dict:
    attrs: dict = {"hidden_size": cell.hidden}
    if cell.kind == "GRU":
        attrs["linear_before_reset"] = int(cell.recurrent is not None)
    if cell.activations != USUAL[cell.kind]:
        attrs["activations"] = [name for name, _, _ in cell.activations]
        attrs["activation_alpha"] = [alpha for name, alpha, _ in cell.activations if name in WITH_ALPHA]
        attrs["activation_beta"] = [beta for name, _, beta in cell.activations if name in WITH_BETA]
    return attrs
