"""Steps of one cell in a row become one recurrent node over time.

Every step has to continue the state of the one before with the same weights, and no input may depend on a result of an
earlier step: otherwise the steps stay as they are.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from gateinfer.graph.checks import execution_order, uses
from gateinfer.graph.ir import RECURRENT, Graph, Node, Origin, TensorType
from gateinfer.graph.live import downstream
from gateinfer.graph.recognise.flow import F32, Flow
from gateinfer.graph.recognise.rewrite import needed

X, LENS, H0, C0 = 0, 4, 5, 6
Y, Y_H, Y_C = range(3)

MAX_VISITED = 2**19
"""Nodes looked at, all chains together: each takes a look at the whole graph."""


def chained(graph: Graph, outer: tuple[Graph, ...] = ()) -> Graph:
    """`graph` with recognised steps in a row as one node each.

    Parameters
    ----------
    graph : with recognised cells. It is not changed.
    outer : graphs around it, innermost first
    """
    refused: set[str] = set()
    for _ in range(MAX_VISITED // max(1, len(graph.nodes))):
        flow = Flow(graph, outer)
        chain = next((chain for chain in _chains(graph, flow) if chain[0].name not in refused), None)
        if chain is None:
            break
        if _is_free(graph, chain):
            graph = _Writer(graph, flow, chain).joined()
        else:
            refused.add(chain[0].name)
    return graph


# ---- which steps belong together ------------------------------------------------------------------------------------


def _chains(graph: Graph, flow: Flow) -> Iterator[list[Node]]:
    """All of at least two steps, the longest that there are."""
    steps = [node for node in graph.nodes if _is_step(flow, node)]
    starting: dict[str, list[Node]] = {}
    for node in steps:
        starting.setdefault(flow.root(node.input(H0)), []).append(node)
    kept = _kept(graph, flow)
    following = {id(node): _next(flow, node, starting.get(node.output(Y_H), []), kept) for node in steps}
    followed = {id(node) for node in following.values() if node is not None}
    for node in steps:
        chain = [node]
        while id(node) not in followed and (after := following[id(chain[-1])]) is not None:
            chain.append(after)
        if len(chain) > 1:
            yield chain


def _is_step(flow: Flow, node: Node) -> bool:
    shape = flow.shape(node.input(X))
    is_cell = node.op in RECURRENT and node.origin is not None and not node.origin.is_open
    return is_cell and shape is not None and shape[0] == 1 and not node.input(LENS) and not node.output(Y)


def _kept(graph: Graph, flow: Flow) -> set[str]:
    """Roots that leave the graph or enter bodies of its nodes."""
    captured = (uses(node) - set(node.inputs) for node in graph.nodes)
    return {flow.root(name) for name in set().union(*captured, (port.name for port in graph.outputs))}


def _next(flow: Flow, node: Node, candidates: Sequence[Node], kept: set[str]) -> Node | None:
    """The one step that goes on where `node` ends."""
    after = [step for step in candidates if _weights(step) == _weights(node)]
    if len(after) != 1 or node.op != "LSTM":
        return after[0] if len(after) == 1 else None
    c = node.output(Y_C)
    goes_on = c and flow.root(after[0].input(C0)) == c
    return after[0] if goes_on and c not in kept and len(flow.users.get(c, ())) == 1 else None


def _weights(node: Node) -> tuple:
    return node.op, node.attrs, node.inputs[X + 1 : LENS], node.inputs[C0 + 1 :]


def _is_free(graph: Graph, chain: Sequence[Node]) -> bool:
    """False when an input follows from a result of the chain itself."""
    own = {id(node) for node in chain}
    made = {name for node in chain for name in node.outputs if name}
    behind = downstream([node for node in graph.nodes if id(node) not in own], made)
    return behind.isdisjoint(node.input(X) for node in chain)


# ---- one node instead -----------------------------------------------------------------------------------------------


class _Writer:
    """Writes the node of one chain and what is around it."""

    def __init__(self, graph: Graph, flow: Flow, chain: Sequence[Node]) -> None:
        self.graph = graph
        self.flow = flow
        self.chain = chain
        self.steps = {node.output(Y_H): t for t, node in enumerate(chain)}
        """Where the result of each step is in Y."""
        self.backward = False
        self.prefix = f"{chain[-1].name}~all"
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self.types: dict[str, TensorType] = {}
        _, self.rows, self.width = flow.shape(chain[0].input(X)) or (1, 1, 1)

    def joined(self) -> Graph:
        """The graph with one node for all steps."""
        self._layer(self._frames())
        own = {id(node) for node in self.chain}
        for node in self.graph.nodes:
            if id(node) not in own and not self._stack(node):
                self.nodes.append(node)
        graph = dataclasses.replace(
            self.graph,
            nodes=execution_order(self.nodes),
            constants=self.graph.constants | self.constants,
            types=self.graph.types | self.types,
        )
        graph.nodes = needed(graph.nodes, graph)
        return graph

    def _layer(self, frames: str) -> None:
        first, last = self.chain[0], self.chain[-1]
        hidden = int(last.attrs["hidden_size"])
        self.all = self._typed("steps", (len(self.chain), 1, self.rows, hidden))
        attrs = last.attrs | {"direction": "reverse"} if self.backward else last.attrs
        c = first.input(C0), last.output(Y_C)
        inputs = (frames, *last.inputs[X + 1 : H0], first.input(H0), *((c[0], *last.inputs[C0 + 1 :]) if c[1] else ()))
        outputs = (self.all, last.output(Y_H), *filter(None, c[1:]))
        origin = _origin(self.chain)
        self.nodes.append(dataclasses.replace(last, inputs=inputs, outputs=outputs, attrs=attrs, origin=origin))
        for node in self.chain[:-1]:
            self._emit("Gather", (self.all, self._index(self.steps[node.output(Y_H)])), node.output(Y_H), axis=0)

    # ---- what goes in ----

    def _frames(self) -> str:
        """The inputs of all steps [T, N, I]: taken from one value where that can be, else put together."""
        places = [_place(self.flow, node.input(X)) for node in self.chain]
        first = places[0]
        if first is None or any(place is None or place[:2] != first[:2] for place in places):
            return self._put("Concat", [node.input(X) for node in self.chain], "x", axis=0)
        source, axis, _ = first
        shape = self.flow.shape(source) or ()
        order = [place[2] for place in places if place]
        if order == list(range(shape[axis]))[::-1]:
            self.backward = True
            self.steps = {name: order[t] for name, t in self.steps.items()}
        elif order != list(range(shape[axis])):
            shape = (*shape[:axis], len(order), *shape[axis + 1 :])
            source = self._emit("Gather", (source, self._index(order)), self._typed("picked", shape), axis=axis)
        if axis:
            perm = [axis, *(i for i in range(len(shape)) if i != axis)]
            turned = self._typed("turned", tuple(shape[i] for i in perm))
            source = self._emit("Transpose", (source,), turned, perm=perm)
        return self._reshape(source, self._typed("x", (len(order), self.rows, self.width)))

    # ---- what comes out ----

    def _stack(self, node: Node) -> bool:
        """Writes `node`, if it puts results of the steps side by side, as a view of all of them."""
        steps = [self.steps.get(self.flow.root(name), -1) for name in node.inputs]
        shapes = {self.flow.shape(name) for name in node.inputs}
        if node.op != "Concat" or node.domain or len(steps) < 2 or min(steps) < 0 or len(shapes) != 1:
            return False
        shape = shapes.pop() or ()
        axis = int(node.attrs.get("axis", 1)) % len(shape)
        lead, tail = math.prod(shape[:axis]), math.prod(shape[axis:])
        prefix = f"{self.prefix}~{node.outputs[0]}"
        source = self.all
        if steps != list(range(len(self.chain))):
            picked = self._typed("", (len(steps), *(self.types[self.all].extents[1:])), f"{prefix}~picked")
            source = self._emit("Gather", (source, self._index(steps)), picked, axis=0)
        if lead > 1:
            cut = self._reshape(source, self._typed("", (len(steps), lead, tail), f"{prefix}~cut"))
            turned = self._typed("", (lead, len(steps), tail), f"{prefix}~turned")
            source = self._emit("Transpose", (cut,), turned, perm=[1, 0, 2])
        self._reshape(source, node.outputs[0])
        return True

    # ---- nodes ----

    def _typed(self, what: str, shape: tuple[int, ...], name: str = "") -> str:
        name = name or f"{self.prefix}~{what}"
        self.types[name] = TensorType(F32, shape)
        return name

    def _emit(self, op: str, inputs: Sequence[str], output: str, **attrs: object) -> str:
        self.nodes.append(Node(op, tuple(inputs), (output,), attrs))
        return output

    def _put(self, op: str, inputs: Sequence[str], what: str, **attrs: object) -> str:
        return self._emit(op, inputs, self._typed(what, (len(self.chain), self.rows, self.width)), **attrs)

    def _index(self, places: int | Sequence[int]) -> str:
        array = np.array(places, "i8")
        name = f"{self.prefix}~{len(self.constants)}"
        self.constants[name], self.types[name] = array, TensorType(array.dtype, array.shape)
        return name

    def _reshape(self, source: str, target: str) -> str:
        shape = self.types[target].extents if target in self.types else self.flow.shape(target) or ()
        return self._emit("Reshape", (source, self._index(shape)), target)


def _place(flow: Flow, name: str) -> tuple[str, int, int] | None:
    """(source, axis, index) when the elements of `name` are those of `source` at one index of an axis."""
    root = flow.root(name)
    node = flow.node(root)
    shape = flow.shape(node.input(0)) if node is not None and not node.domain else None
    if node is None or shape is None:
        return None
    if node.op in RECURRENT and root == node.output(Y_H) and node.origin is not None and node.output(Y):
        return node.output(Y), 0, 0 if node.attrs.get("direction") == "reverse" else shape[0] - 1
    axis, part = _taken(flow, node, root)
    chosen = range(*part.indices(shape[axis]))
    return (node.inputs[0], axis, chosen[0]) if len(chosen) == 1 else None


def _taken(flow: Flow, node: Node, root: str) -> tuple[int, slice]:
    """(axis, part) that a view takes of its input; nothing of it for other nodes."""
    ranges: Sequence[tuple[int, slice] | None] | None = None
    if node.op == "Gather":
        index, rank = flow.scalar(node.inputs[1]), len(flow.shape(node.inputs[0]) or ())
        place = None if index is None else int(index)
        ranges = [] if place is None else [(int(node.attrs.get("axis", 0)) % rank, slice(place, place + 1 or None))]
    elif node.op in ("Slice", "Split"):
        ranges = flow.slices(node) if node.op == "Slice" else [flow.split_range(node, node.outputs.index(root))]
    return ranges[0] if ranges and len(ranges) == 1 and ranges[0] is not None else (0, slice(0))


def _origin(chain: Sequence[Node]) -> Origin:
    ops: Counter[str] = Counter()
    for node in chain:
        ops.update(dict(node.origin.ops) if node.origin else {})
    return Origin(tuple(sorted(ops.items())))
