"""LSTM, GRU and RNN nodes: one fused layer per direction. Axis order and direction are views, never copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gateinfer._core import Cell, packed_cell_size
from gateinfer.graph.ir import Node
from gateinfer.graph.recurrent_attrs import Recurrent, parse_recurrent
from gateinfer.graph.weights import WEIGHT_INPUTS, R, X, known_weights
from gateinfer.lower.context import Lowering
from gateinfer.lower.embedding import projected_rows
from gateinfer.lower.registry import lowers
from gateinfer.lower.tensor import Tensor

if TYPE_CHECKING:
    from gateinfer._core import View

LENS, H0, C0 = 4, 5, 6
"""Input positions behind those of the weights; GRU and RNN end at H0."""


@lowers("LSTM", "GRU", "RNN", attrs=None)
def recurrent(ctx: Lowering, node: Node) -> None:
    """One gi_recurrent per direction on slices of the node's tensors."""
    spec = parse_recurrent(node)
    layers = _layers(ctx, node, spec)
    outputs = [ctx.out(node, i) if ctx.wanted(node.output(i)) else None for i in range(3)]
    direct = [_writable(ctx, out) for out in outputs]
    for direction, layer in enumerate(layers):
        _one_direction(ctx, node, spec, direction, layer, direct)
    for out, made in zip(outputs, direct, strict=True):
        if out is not None and made is not None and not out.same(made):
            ctx.copy(out, made)


class Layer(NamedTuple):
    """One direction: x [T, N, I], or its projection, for which the cell needs no W and has I = 0."""

    cell: Cell
    weights: Sequence[Any] | None
    x: Tensor
    projected: bool = False


def _layers(ctx: Lowering, node: Node, spec: Recurrent) -> list[Layer]:
    weights = known_weights(node, ctx.graph.constants)
    directions = range(len(spec.directions))
    cells = [_cell(ctx, node, spec, i, weights) for i in directions]
    order = (0, 1, 2) if spec.layout == 0 else (1, 0, 2)
    found = ctx.embeddings.get(node.input(X))
    if found is None or weights is None:
        x = ctx.unit_stride(ctx.value(node.input(X)).transpose(order))
        return [Layer(cell, weights, x) for cell in cells]
    rows = projected_rows(ctx, found, cells, weights)
    without_w = [weights[0][:, :, :0], *weights[1:]]
    return [
        Layer(cell._replace(input_size=0), without_w, rows.select(2, i).transpose(order), projected=True)
        for i, cell in enumerate(cells)
    ]


def _one_direction(
    ctx: Lowering, node: Node, spec: Recurrent, direction: int, layer: Layer, outputs: Sequence[Tensor | None]
) -> None:
    y, hn, cn = outputs
    lens = ctx.value(node.input(LENS)) if node.input(LENS) else None
    ctx.builder.recurrent(
        layer.cell,
        spec.directions[direction] == "reverse",
        _packed(ctx, node, direction, layer.cell, layer.weights),
        layer.x.view,
        lens.view if lens else None,
        _view(_initial(ctx, node, spec, direction, H0)),
        _view(_initial(ctx, node, spec, direction, C0)) if spec.kind == "lstm" else None,
        _view(_sequence(y, spec, direction)),
        _view(_state(hn, spec, direction)),
        _view(_state(cn, spec, direction)),
        layer.projected,
    )


def _view(tensor: Tensor | None) -> View | None:
    return None if tensor is None else tensor.view


def _sequence(y: Tensor | None, spec: Recurrent, direction: int) -> Tensor | None:
    """[T, D, N, H] or, in layout 1, [N, T, D, H] as [T, N, H]."""
    if y is None:
        return None
    return y.select(1, direction) if spec.layout == 0 else y.select(2, direction).transpose((1, 0, 2))


def _state(state: Tensor | None, spec: Recurrent, direction: int) -> Tensor | None:
    """[D, N, H] or, in layout 1, [N, D, H] as [N, H]."""
    return None if state is None else state.select(spec.layout, direction)


def _initial(ctx: Lowering, node: Node, spec: Recurrent, direction: int, index: int) -> Tensor | None:
    name = node.input(index)
    if not name:
        return None
    state = _state(ctx.value(name), spec, direction)
    return None if state is None else ctx.unit_stride(state)


def _has_unit_stride(tensor: Tensor) -> bool:
    return tensor.size == 0 or tensor.shape[-1] == 1 or tensor.strides[-1] == 1


def _writable(ctx: Lowering, out: Tensor | None) -> Tensor | None:
    """`out` itself, or a dense stand-in when its last axis is not contiguous."""
    if out is None or _has_unit_stride(out):
        return out
    return ctx.new(out.dtype, out.shape)


def _cell(ctx: Lowering, node: Node, spec: Recurrent, direction: int, known: Sequence[Any] | None) -> Cell:
    return Cell(
        spec.kind,
        ctx.shape(node.input(X))[2],
        ctx.shape(node.input(R))[2],
        spec.activations[direction],
        spec.clip,
        spec.linear_before_reset,
        spec.input_forget,
        ctx.target.format(known[0][direction].size + known[1][direction].size) if known else "f32",
    )


def _packed(ctx: Lowering, node: Node, direction: int, cell: Cell, arrays: Sequence[Any] | None) -> int:
    """Tensor with the packed weights: a constant of the model, or filled by an op when the weights come at run time."""
    names = [node.input(i) for i in WEIGHT_INPUTS]
    if arrays is None:
        return _packed_at_run_time(ctx, names, direction, cell)
    return ctx.packed("cell", names, arrays, (cell, direction), lambda: ctx.pack_cell(cell, arrays, direction))


def _packed_at_run_time(ctx: Lowering, names: Sequence[str], direction: int, cell: Cell) -> int:
    target = ctx.new(np.float32, (packed_cell_size(cell),))
    w, r, b, p = [ctx.contiguous(ctx.value(name).select(0, direction)).view if name else None for name in names]
    assert w is not None and r is not None  # inputs W and R are not optional
    ctx.builder.cell_pack(cell, target.id, w, r, b, p)
    return target.id
