"""What every graph from outside must satisfy: each value defined once, before its use, and without cycles."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import numpy as np

from gateinfer.errors import ModelError
from gateinfer.graph.ir import Graph, Node, subgraphs

MAX_DEPTH: Final = 64
"""Sub-graphs inside sub-graphs."""
MAX_NODES: Final = 100_000
"""Nodes of one model with all its sub-graphs, before and after inlining."""

MAX_GRAPHS: Final = 20_000
"""Sub-graphs of one model: each costs as much as dozens of nodes, and real models have tens of them."""

_NAMES_SHOWN: Final = 8


Captures = dict[int, tuple[Graph, set[str]]]
"""Graphs, by their id, with what they capture: spares asking a nested graph again at every level above it."""


def captures(graph: Graph, known: Captures | None = None) -> set[str]:
    """Names that `graph` uses and does not define."""
    known = {} if known is None else known
    if id(graph) not in known:
        used = {n for node in graph.nodes for n in uses(node, known)} | {p.name for p in graph.outputs}
        known[id(graph)] = graph, used - set(definitions(graph))
    return known[id(graph)][1]


def uses(node: Node, known: Captures | None = None) -> set[str]:
    """Names that `node` reads, those that its sub-graphs capture included."""
    used = set(node.inputs)
    used.discard("")
    for graph in subgraphs(node):
        used |= captures(graph, known)
    return used


def makers(node: Node, made_by: Mapping[str, Node]) -> list[Node]:
    """The nodes of `made_by`, value name -> node, that `node` needs, directly or not, in order."""
    found: dict[int, Node] = {}
    for name in sorted(uses(node) & made_by.keys()):
        found.update((id(maker), maker) for maker in [*makers(made_by[name], made_by), made_by[name]])
    return list(found.values())


def definitions(graph: Graph) -> Iterator[str]:
    """Names that `graph` defines, as often as it does."""
    yield from (p.name for p in graph.inputs)
    yield from graph.constants
    for node in graph.nodes:
        yield from (o for o in node.outputs if o)


def check_graph(graph: Graph) -> None:
    """Check a main graph with its sub-graphs and put their nodes into execution order.

    Raises
    ------
    ModelError
        For a value that is defined twice or never, a repeated output, or a cycle, naming the nodes.
    """
    known: Captures = {}
    _check(graph, known)
    names = [p.name for p in graph.outputs]
    if len(set(names)) < len(names):
        raise ModelError(f"the graph lists an output twice: {_quoted(_repeated(names))}")
    missing = captures(graph, known)
    if missing:
        raise ModelError(_undefined(graph, missing))


def _check(graph: Graph, known: Captures) -> None:
    for node in graph.nodes:
        for inner in subgraphs(node):
            _check(inner, known)
    names = list(definitions(graph))
    if len(set(names)) < len(names):
        raise ModelError(f"values defined more than once: {_quoted(_repeated(names))}")
    graph.nodes = execution_order(graph.nodes, known)


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _undefined(graph: Graph, missing: set[str]) -> str:
    for node in graph.nodes:
        unknown = uses(node) & missing
        if unknown:
            return f"{node.label()} uses {_quoted(unknown)}, which nothing defines"
    return f"graph outputs that nothing defines: {_quoted(missing)}"


def execution_order(nodes: list[Node], known: Captures | None = None) -> list[Node]:
    """Execution order; the given order where it already is one, and otherwise as near to it as possible."""
    producer = {o: i for i, node in enumerate(nodes) for o in node.outputs if o}
    needs = [{producer[n] for n in uses(node, known) if n in producer} for node in nodes]
    if all(j < i for i, wanted in enumerate(needs) for j in wanted):
        return nodes
    users: list[list[int]] = [[] for _ in nodes]
    for i, wanted in enumerate(needs):
        for j in wanted:
            users[j].append(i)
    waiting = [len(wanted) for wanted in needs]
    ready = [i for i, count in enumerate(waiting) if count == 0]
    order = []
    while ready:
        order.append(heapq.heappop(ready))
        for user in users[order[-1]]:
            waiting[user] -= 1
            if waiting[user] == 0:
                heapq.heappush(ready, user)
    if len(order) < len(nodes):
        raise ModelError(f"the graph has a cycle: {_cycle(nodes, needs, waiting)}")
    return [nodes[i] for i in order]


def _cycle(nodes: list[Node], needs: list[set[int]], waiting: list[int]) -> str:
    """Walks back along unmet needs until a node repeats: a stuck node always has a stuck producer."""
    path = [next(i for i, count in enumerate(waiting) if count)]
    while True:
        previous = next(j for j in sorted(needs[path[-1]]) if waiting[j])
        if previous in path:
            loop = path[path.index(previous) :]
            return _listed([nodes[i].label() for i in reversed(loop)])
        path.append(previous)


def _quoted(names: Iterable[str]) -> str:
    return _listed([f'"{name}"' for name in sorted(names)])


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown + (f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else "")


# ---- non-finite weights ---------------------------------------------------------------------------------------------

# Operand positions that hold weights.
_WEIGHTS: Final[dict[str, tuple[int, ...]]] = {
    "LSTM": (1, 2, 3, 5, 6, 7), "GRU": (1, 2, 3, 5), "RNN": (1, 2, 3, 5), "MatMul": (0, 1), "Gemm": (0, 1, 2),
    "Conv": (1, 2), "ConvTranspose": (1, 2), "BatchNormalization": (1, 2, 3, 4), "LayerNormalization": (1, 2),
    "InstanceNormalization": (1, 2), "PRelu": (1,),
}  # fmt: skip
# Operators that only move elements: what reaches a weight operand through them is a weight as well.
_MOVES: Final = frozenset("Identity Cast Concat Flatten Reshape Slice Split Squeeze Transpose Unsqueeze".split())


def refuse_nonfinite_weights(graph: Graph) -> None:
    """Refuse infinity in constants that reach a weight operand, and NaN there and in any constant of several elements.

    A limit of Clip, a padding value or an additive mask may be infinite, and a single NaN may be compared with.
    """
    _refuse_nonfinite(graph, set())


def _refuse_nonfinite(graph: Graph, wanted: set[str]) -> set[str]:
    """`wanted`: values of this graph known to be weights. Returns all such names, captured ones included."""
    wanted = set(wanted)
    for node in reversed(graph.nodes):
        positions = _WEIGHTS.get(node.op, ())
        if node.op in _MOVES and not wanted.isdisjoint(node.outputs):
            positions = tuple(range(len(node.inputs))) if node.op == "Concat" else (0,)
        wanted.update(filter(None, map(node.input, positions)))
        for inner in subgraphs(node):
            results = {
                p.name for p, o in zip(inner.outputs, node.outputs, strict=False) if o in wanted and node.op == "If"
            }
            wanted |= _refuse_nonfinite(inner, results)
    _refuse_in(graph.constants, wanted)
    _refuse_in(graph.defaults, wanted)
    return wanted


def _refuse_in(arrays: Mapping[str, np.ndarray], weights: set[str]) -> None:
    for name, array in arrays.items():
        if array.dtype.kind != "f" or array.size == 0 or (array.size == 1 and name not in weights):
            continue
        # NaN survives min and max, so two passes without a temporary array tell everything.
        low, high = array.min(), array.max()
        if np.isnan(low) or (name in weights and not (np.isfinite(low) and np.isfinite(high))):
            raise ModelError(
                f'weight "{name}" {list(array.shape)} holds NaN or infinity; '
                "repair the file, or load it with allow_nonfinite=True"
            )
