"""LSTM, GRU and RNN: every operand is checked against hidden_size, directions and the input."""

from __future__ import annotations

from collections import ChainMap
from typing import Final

import numpy as np

from gateinfer.graph.infer.elementwise import same_dtype
from gateinfer.graph.infer.registry import Query, Shape, rule
from gateinfer.graph.ir import Graph, TensorType, subgraphs
from gateinfer.graph.recurrent_attrs import Recurrent, parse_recurrent

_ATTRS: Final = (
    "activation_alpha activation_beta activations clip direction hidden_size input_forget layout linear_before_reset "
    "output_sequence"
)
_X, _W, _R, _B, _LENS, _H, _C, _P = range(8)


@rule("GRU", "RNN", least=3, most=6, attrs=_ATTRS)
@rule("LSTM", least=3, most=8, attrs=_ATTRS)
def _recurrent(query: Query) -> list[TensorType]:
    cell = parse_recurrent(query.node)
    x = query.expect_rank(_X, 3, 3)
    steps, batch = (x[1], x[0]) if cell.layout else (x[0], x[1])
    hidden = _check_weights(query, cell, x[2])
    assert hidden is not None  # R is a required input
    _check_lengths(query, steps, batch)
    directions = len(cell.directions)
    state: Shape = (batch, directions, hidden) if cell.layout else (directions, batch, hidden)
    for index, what in ((_H, "initial_h"), (_C, "initial_c")):
        if query.has(index):
            query.expect_shape(index, state, what)
    dtype = same_dtype(query, (_X, _W, _R, _B, _H, _C, _P))
    if dtype.kind != "f":
        query.fail(f"X ({query.name(_X)}) must hold floating-point numbers, got {dtype}")
    y = (batch, steps, directions, hidden) if cell.layout else (steps, directions, batch, hidden)
    final = TensorType(dtype, state)
    return [TensorType(dtype, y), final, final] if cell.kind == "lstm" else [TensorType(dtype, y), final]


def check_recurrent_nodes(graph: Graph) -> None:
    """Check attributes and constant weights of all recurrent nodes, as far as that needs no input shapes.

    Raises
    ------
    UnsupportedOp, ModelError
        For attributes; see `parse_recurrent`.
    ShapeError
        For weights that contradict each other or hidden_size.
    """
    _check_nodes(graph, ChainMap())


def _check_nodes(graph: Graph, outer: ChainMap[str, TensorType]) -> None:
    known = outer.new_child({n: TensorType(a.dtype, a.shape) for n, a in graph.constants.items()})
    for node in graph.nodes:
        if node.op in ("LSTM", "GRU", "RNN") and not node.domain:
            query = Query(node, [known.get(n) for n in node.inputs], (), graph.opset)
            _check_weights(query, parse_recurrent(node), None)
        for inner in subgraphs(node):
            _check_nodes(inner, known)


def _check_weights(query: Query, cell: Recurrent, input_size: int | None) -> int | None:
    """Checks those of W, R, B and P that are known; returns hidden_size."""
    directions, gates = len(cell.directions), cell.gates
    hidden = cell.hidden_size
    if query.has(_R):
        hidden = hidden or query.expect_rank(_R, 3, 3)[2]
    if input_size is None and query.has(_W):
        input_size = query.expect_rank(_W, 3, 3)[2]
    if hidden is None:
        return None
    if hidden < 1:
        query.fail(f"R ({query.name(_R)}) of shape {list(query.shape(_R))} says that hidden_size is 0")
    expected = {
        "W": (_W, (directions, gates * hidden, input_size)),
        "R": (_R, (directions, gates * hidden, hidden)),
        "B": (_B, (directions, 2 * gates * hidden)),
        "P": (_P, (directions, 3 * hidden)),
    }
    for what, (index, shape) in expected.items():
        if query.has(index):
            query.expect_shape(index, shape, what)  # type: ignore[arg-type]  # W is absent if input_size is None
    return hidden


def _check_lengths(query: Query, steps: int, batch: int) -> None:
    if not query.has(_LENS):
        return
    query.expect_shape(_LENS, (batch,), "sequence_lens")
    if query.dtype(_LENS) != np.dtype("i4"):
        query.fail(f"sequence_lens ({query.name(_LENS)}) must be int32, got {query.dtype(_LENS)}")
    values = query.values[_LENS]
    if values is not None and values.size and not 0 <= values.min() <= values.max() <= steps:
        query.fail(f"sequence_lens {values.tolist()[:8]} must be between 0 and seq_len {steps}")
