"""A look at operators that spares most graphs the search for cells."""

from __future__ import annotations

from gateinfer.graph.ir import Graph, subgraphs

NEEDED_OPSET = 5
"""Reshape takes its shape as an input since then."""


def may_have_cells(graph: Graph) -> bool:
    """False when the graph itself surely has none: a cell has products of two values, added up or side by side."""
    ops = {node.op for node in graph.nodes}
    has_sums = not ops.isdisjoint(("Add", "Sub", "Gemm", "Concat"))
    return graph.opset >= NEEDED_OPSET and has_sums and not ops.isdisjoint(("MatMul", "Gemm"))


def has_bodies(graph: Graph) -> bool:
    """True when some node of the graph has sub-graphs, where cells may be as well."""
    return any(subgraphs(node) for node in graph.nodes)
