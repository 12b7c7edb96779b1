"""Looks for cells in a graph and in the bodies of its loops, which come first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gateinfer.graph.ir import Graph, Node
from gateinfer.graph.recognise.cell import Cell
from gateinfer.graph.recognise.chain import chained
from gateinfer.graph.recognise.first import first_steps
from gateinfer.graph.recognise.flow import Flow
from gateinfer.graph.recognise.gru import match_gru
from gateinfer.graph.recognise.lstm import match_lstm, settle
from gateinfer.graph.recognise.quick import has_bodies, may_have_cells
from gateinfer.graph.recognise.readers import Readers
from gateinfer.graph.recognise.rewrite import rewritten, worth_it
from gateinfer.graph.recognise.rnn import lone_steps, match_rnn
from gateinfer.graph.recognise.sequence import as_sequence
from gateinfer.graph.recognise.weights import WeightStore


def recognised(graph: Graph, store: WeightStore, outer: tuple[Graph, ...], carried: Mapping[str, str]) -> Graph:
    """`graph`, inside of `outer`, with its cells as recurrent nodes.

    `carried`: of a loop body, what a turn gets from the turn before, and by it the value behind that turn.
    """
    if has_bodies(graph):
        graph = _with_bodies(graph, store, outer)
    if not may_have_cells(graph):
        return graph
    readers = Readers(Flow(graph, outer), carried)
    cells = worth_it(graph, readers, _find(graph, readers, bool(outer)))
    return chained(rewritten(graph, readers, cells, store), outer) if cells else graph


def _with_bodies(graph: Graph, store: WeightStore, outer: tuple[Graph, ...]) -> Graph:
    """`graph` with the cells in its sub-graphs recognised. What these need is captured: it joins `graph`."""
    result = replace(graph, nodes=[], constants=dict(graph.constants), types=dict(graph.types))
    for node in graph.nodes:
        attrs = dict(node.attrs)
        changed = False
        for key, body in node.attrs.items():
            if isinstance(body, Graph):
                found = recognised(body, store, (graph, *outer), _carried(node, body))
                if found is not body:
                    attrs[key], changed = _joined(result, found), True
        node = node.changed(attrs=attrs) if changed else node
        steps = as_sequence(result, node, outer) if changed else None
        result.nodes += [node] if steps is None else _joined(result, steps).nodes
    return result


def _carried(loop: Node, body: Graph) -> dict[str, str]:
    last = len(body.inputs) - loop.attrs.get("scanned", len(body.inputs))
    behind = body.outputs[loop.attrs.get("trips", 0) < 0 :]
    return {before.name: after.name for before, after in zip(body.inputs[1:last], behind, strict=False)}


def _joined(graph: Graph, inner: Graph) -> Graph:
    """`inner` without its constants, which join `graph`, as do its types."""
    graph.constants |= inner.constants
    for name, found in inner.types.items():
        graph.types.setdefault(name, found)
    return replace(inner, constants={})


def _find(graph: Graph, readers: Readers, inside: bool) -> list[Cell]:
    cells: list[Cell] = []
    made: dict[str, Cell] = {}
    for node in graph.nodes:
        cell = _match(readers, node, made)
        if cell is not None and made.keys().isdisjoint(cell.made):
            cells.append(cell)
            made.update((value, cell) for value in cell.made)
    settle(cells)
    cells = [*first_steps(readers, cells), *cells]
    return cells if inside else [*cells, *lone_steps(readers, graph, {name for cell in cells for name in cell.made})]


def _match(readers: Readers, node: Node, made: dict[str, Cell]) -> Cell | None:
    total = node.output(0)
    if node.domain or not readers.flow.is_float(total) or readers.flow.root(total) != total:
        return None
    if node.op not in ("Add", "Sub"):
        return match_rnn(readers, node)
    return (match_lstm(readers, node, made) if node.op == "Add" else None) or match_gru(readers, node)
