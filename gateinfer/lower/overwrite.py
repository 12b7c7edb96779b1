"""Chains of scatters that replace all of what they start from: joins, for which no old element has to be copied.

Caches are often written so: one tensor with the states of several layers, each read as a slice and scattered back.
Slices of such a chain read what was there before the scatters that leave them alone; then nothing needs the steps
between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from gateinfer.errors import ShapeError
from gateinfer.graph.ir import Graph, Node
from gateinfer.lower.context import reads
from gateinfer.lower.views import SLICE_KEYS, grid_of, slices

Spans = Sequence[tuple[int, int]]
"""(start, stop) along each axis."""


class Write(NamedTuple):
    """A scatter that puts `updates` into the window `spans` of `data`."""

    data: str
    updates: str
    spans: Spans


def joined(graph: Graph) -> Graph:
    """A specialised graph with slices read as early as can be, and complete chains of scatters as a Concat."""
    writes: dict[str, Write] = {}
    nodes = []
    for node in graph.nodes:
        write = None if node.domain else _write(graph, node)
        if write is not None:
            writes[node.output(0)] = write
        elif node.input(0) in writes:
            node = _read_earlier(graph, node, writes)
        nodes.append(node)
    if not writes:
        return graph
    uses = Counter([*(name for node in nodes for name in reads(node)), *(port.name for port in graph.outputs)])
    return replace(graph, nodes=[_as_concat(graph, node, writes, uses) for node in nodes])


def _write(graph: Graph, node: Node) -> Write | None:
    index = graph.constants.get(node.input(1))
    if node.op != "ScatterND" or node.attrs.get("reduction", "none") != "none" or index is None:
        return None
    shape = graph.types[node.input(0)].extents
    try:
        grid = grid_of(index, shape)
    except ShapeError:
        return None  # lowering the node says what is wrong
    if grid is None or any(step != 1 and count > 1 for _, count, step in grid):
        return None
    whole = [(0, extent) for extent in shape[len(grid) :]]
    return Write(node.input(0), node.input(2), [(start, start + count) for start, count, _ in grid] + whole)


def _read_earlier(graph: Graph, node: Node, writes: Mapping[str, Write]) -> Node:
    """`node`, if it takes a window, on the oldest value that has the same elements there."""
    seen, source = _window(graph, node), node.input(0)
    while seen is not None and source in writes and _are_apart(writes[source].spans, seen):
        source = writes[source].data
    return node if source == node.input(0) else node.changed(inputs=(source, *node.inputs[1:]))


def _window(graph: Graph, node: Node) -> Spans | None:
    """Spans that hold what a Slice or a Gather at known positions reads of its first input."""
    if node.domain or not all(name in graph.constants for name in filter(None, node.inputs[1:])):
        return None
    shape = graph.types[node.input(0)].extents
    if node.op == "Slice":
        lists = [node.attrs.get(key, graph.constants.get(node.input(i))) for i, key in enumerate(SLICE_KEYS, start=1)]
        taken = slices(shape, *(None if known is None else [int(v) for v in np.ravel(known)] for known in lists))
    elif node.op == "Gather" and graph.constants[node.input(1)].size:
        axis = node.attrs.get("axis", 0)
        places = graph.constants[node.input(1)] % shape[axis]
        taken = [(axis, range(int(places.min()), int(places.max()) + 1))]
    else:
        return None
    spans = [(0, extent) for extent in shape]
    for axis, positions in taken:
        spans[axis] = (min(positions, default=0), max(positions, default=-1) + 1)
    return spans


def _are_apart(one: Spans, other: Spans) -> bool:
    return any(a[1] <= b[0] or b[1] <= a[0] for a, b in zip(one, other, strict=True))


def _as_concat(graph: Graph, node: Node, writes: Mapping[str, Write], uses: Mapping[str, int]) -> Node:
    """A Concat in place of a scatter, if it and those before it, which nothing else reads, leave no old element."""
    pieces: list[Write] = []
    name = node.output(0)
    while name in writes and (not pieces or uses[name] == 1):
        pieces.append(writes[name])
        axis = _joined_axis(pieces, graph.types[name].extents)
        if axis is not None:
            inputs = tuple(piece.updates for piece in sorted(pieces, key=lambda piece: piece.spans[axis][0]))
            return Node("Concat", inputs, node.outputs, {"axis": axis}, name=node.name)
        name = pieces[-1].data
    return node


def _joined_axis(pieces: Sequence[Write], shape: Sequence[int]) -> int | None:
    """The axis along which the pieces, side by side, are all of `shape`."""
    for axis, extent in enumerate(shape):
        edges = sorted(piece.spans[axis] for piece in pieces)
        ends = [0, *(stop for _, stop in edges)]
        is_tiled = ends[-1] == extent and all(start == end for (start, _), end in zip(edges, ends, strict=False))
        others = [(0, n) for i, n in enumerate(shape) if i != axis]
        if is_tiled and all([span for i, span in enumerate(p.spans) if i != axis] == others for p in pieces):
            return axis
    return None
