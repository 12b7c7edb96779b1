"""Names and needs of node lists whose names are unique in the whole graph."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from gateinfer.graph.checks import Captures, uses
from gateinfer.graph.ir import Node, Port, subgraphs
from gateinfer.graph.loops import is_folded, trimmed


def all_names(nodes: Iterable[Node]) -> Iterator[str]:
    """Names that nodes read and write, and those inside their sub-graphs."""
    for node in nodes:
        yield from node.inputs
        yield from node.outputs
        for graph in subgraphs(node):
            yield from (p.name for p in graph.inputs + graph.outputs)
            yield from all_names(graph.nodes)


def needed(nodes: list[Node], wanted: set[str], known: Captures | None = None) -> list[Node]:
    """The nodes that `wanted` values depend on, in order; `known` is what a caller keeps of nested graphs."""
    wanted = set(wanted)
    kept = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.outputs):
            if is_folded(node):
                node = trimmed(node, wanted, needed)
            kept.append(node)
            wanted |= uses(node, known)
    return kept[::-1]


def renamed(node: Node, names: Mapping[str, str]) -> Node:
    """`node` with values renamed, in its sub-graphs as well: names are unique in the whole graph by now."""
    for graph in subgraphs(node):
        graph.nodes = [renamed(inner, names) for inner in graph.nodes]
        graph.outputs = [Port(names.get(p.name, p.name), p.type) for p in graph.outputs]
    if names.keys().isdisjoint(node.inputs) and names.keys().isdisjoint(node.outputs):
        return node
    return node.changed(
        inputs=tuple(names.get(n, n) for n in node.inputs), outputs=tuple(names.get(n, n) for n in node.outputs)
    )


def downstream(nodes: Iterable[Node], names: Collection[str]) -> set[str]:
    """`names` and all values computed from them."""
    found = set(names)
    known: Captures = {}
    for node in nodes if found else ():
        if not found.isdisjoint(uses(node, known)):
            found.update(filter(None, node.outputs))
    return found


def upstream(nodes: Sequence[Node], names: Collection[str]) -> set[str]:
    """`names` and all values they are computed from."""
    found = set(names)
    known: Captures = {}
    for node in reversed(nodes):
        if not found.isdisjoint(node.outputs):
            found |= uses(node, known)
    return found
