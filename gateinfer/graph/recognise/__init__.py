"""Finds LSTM, GRU and RNN cells that are written out as products, gates and sums, and makes them recurrent nodes again.

It goes by dataflow: from the sum that updates the state back to gates that are activations of constant products with
the input and the previous state. Every figure of the fused node follows from the graph, so a cell is either this
function of these values or it is left alone.
"""

from __future__ import annotations

from gateinfer.graph.ir import Graph
from gateinfer.graph.recognise.quick import has_bodies, may_have_cells
from gateinfer.graph.recognise.weights import WeightStore

__all__ = ["WeightStore", "compacted", "recognise"]


def recognise(graph: Graph, store: WeightStore | None = None) -> Graph:
    """`graph` with every hand-written cell as an LSTM, GRU or RNN node, in the bodies of its loops as well.

    Parameters
    ----------
    graph : Graph
        Straight-line, with static types: the result of `specialize`. It is not changed.
    store : WeightStore, optional
        Of the model, so that its graphs for other shapes share the weights of the new nodes.

    Returns
    -------
    The same graph if it has no such cell. Values that the new nodes make keep their names; `Node.origin` says what a
    new node was.
    """
    if not has_bodies(graph) and not may_have_cells(graph):
        return graph
    from gateinfer.graph.recognise.search import recognised

    return recognised(graph, store or WeightStore(), (), {})


def compacted(graph: Graph) -> Graph:
    """`graph`, with recognised cells, with a layer for every loop that is a masked cell and has few rows."""
    if not has_bodies(graph):
        return graph
    from gateinfer.graph.recognise.masked import with_layers

    return with_layers(graph)
