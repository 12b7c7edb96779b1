"""Layers on rows of a constant table, such as an embedding of characters: they take rows of its projection instead.

A table of few rows is projected once, when the model is planned. A step of a recurrent layer then reads one row,
bias + W x, instead of all of W: every element is the same chain of the same numbers, so the bits stay. A convolution
over positions adds up one row per tap (embedding_conv.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from gateinfer._core import Cell, project, projected_size
from gateinfer.graph.ir import RECURRENT, Node
from gateinfer.graph.weights import known_weights
from gateinfer.lower.context import Lowering
from gateinfer.lower.tensor import Tensor

SAME_ORDER = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")

MAX_MACS = 64 * 1024 * 1024
"""Multiply-adds of projecting a table: some milliseconds of planning."""
MAX_BYTES = 8 * 1024 * 1024
"""Of a projected table."""
MAX_ROW_BYTES = 1024 * 1024
"""Of the rows that one call takes from it: more would leave the cache before they are used."""
FEWEST_CHANNELS, MAX_CONV_BYTES = 64, 512 * 1024
"""Of a table that a convolution projects, and of its projection. Measured: products are as fast as sums of rows with
fewer channels, or where the rows come from further away than L2."""
MAX_SUM = 1e37
"""What a tap adds up to stays well inside float32, though the next one may take it away again."""


class Embedding(NamedTuple):
    """Rows of the constant `table`, `values` [V, I]: `path` are the nodes from the Gather on.

    They make the X [.., I] of a recurrent layer, or [N, L, I], which is turned into the X of a convolution.
    """

    table: str
    values: np.ndarray
    path: tuple[Node, ...]

    def fits(self, lanes: int, most_bytes: int) -> bool:
        """Whether a projection to `lanes` values a row is small enough."""
        return self.values.size * lanes <= MAX_MACS and len(self.values) * lanes * 4 <= most_bytes


def take_over(ctx: Lowering) -> None:
    """Finds layers whose input is nothing but rows of a constant table; the nodes that look them up count as done."""
    for node in ctx.nodes:
        found = None if node.domain else _of_layer(ctx, node) if node.op in RECURRENT else _of_conv(ctx, node)
        if found is not None:
            ctx.embeddings[node.input(0)] = found
            ctx.done.update(step.output(0) for step in found.path)
            ctx.done.add(node.input(0))
            ctx.read_by(found.path[0].input(1), node)


def _of_layer(ctx: Lowering, node: Node) -> Embedding | None:
    weights = known_weights(node, ctx.graph.constants)
    if weights is None:
        return None
    directions, lanes, inputs = weights[0].shape
    found = _look_up(ctx, node.input(0), inputs)
    if found is None or not found.fits(directions * lanes, MAX_BYTES):
        return None
    taken = prod(ctx.shape(found.path[0].input(1))) * directions * lanes * 4
    return found if taken <= MAX_ROW_BYTES else None


def _of_conv(ctx: Lowering, node: Node) -> Embedding | None:
    weights = ctx.const(node.input(1)) if node.op == "Conv" else None
    if weights is None or weights.ndim != 3 or node.attrs.get("group", 1) != 1 or weights.shape[1] < FEWEST_CHANNELS:
        return None
    turn = ctx.producers.get(node.input(0))
    if turn is None or turn.op != "Transpose" or turn.domain or ctx.sole_user(turn.output(0)) is None:
        return None
    if list(_perm(turn, 3)) != [0, 2, 1] or 0 in ctx.shape(node.output(0)):
        return None
    filters, channels, taps = weights.shape
    found = _look_up(ctx, turn.input(0), channels)
    if found is None or not found.fits(filters * taps, MAX_CONV_BYTES):
        return None
    largest = np.abs(found.values).max(initial=0.0).astype(float) * np.abs(weights).max(initial=0.0) * channels
    return found if largest < MAX_SUM else None


def _look_up(ctx: Lowering, name: str, inputs: int) -> Embedding | None:
    """The rows of a constant table [V, inputs] that `name` has, if nothing else reads them."""
    path = list[Node]()
    while ctx.sole_user(name) is not None and (made := ctx.producers.get(name)) is not None and not made.domain:
        path.insert(0, made)
        name = made.input(0)
        if made.op == "Gather":
            return _of_table(ctx, name, path, inputs)
        if not _keeps_rows(ctx, made):
            break
    return None


def _of_table(ctx: Lowering, name: str, path: Sequence[Node], inputs: int) -> Embedding | None:
    table, gather = ctx.const(name), path[0]
    if table is None or table.ndim != 2 or table.dtype != np.float32 or table.shape[1] != inputs:
        return None
    if gather.attrs.get("axis", 0) % 2 or 0 in ctx.shape(gather.output(0)):
        return None
    return Embedding(name, table, tuple(path))


def _keeps_rows(ctx: Lowering, node: Node) -> bool:
    """Whether a node moves whole rows, the last axis, and never their elements."""
    before, after = ctx.shape(node.input(0)), ctx.shape(node.output(0))
    if node.op == "Transpose":
        return _perm(node, len(before))[-1] == len(before) - 1
    return node.op in SAME_ORDER and before[-1:] == after[-1:]


def _perm(node: Node, rank: int) -> Sequence[int]:
    return node.attrs.get("perm", range(rank)[::-1])


def projected_rows(
    ctx: Lowering, found: Embedding, cells: Sequence[Cell], weights: Sequence[np.ndarray | None]
) -> Tensor:
    """The projection of X, whose leading axes stay as they are, for each direction of a layer: [.., .., D, lanes]."""
    table = found.values

    def make() -> np.ndarray:
        rows = np.ascontiguousarray(table)
        parts = [project(ctx.target.isa, cell, ctx.pack_cell(cell, weights, i), rows) for i, cell in enumerate(cells)]
        return np.ascontiguousarray(np.stack(parts, axis=1))

    lanes = projected_size(cells[0])
    packed = ctx.packed("projection", [found.table], [table, *weights], tuple(cells), make)
    source = Tensor.dense(packed, np.dtype(np.float32), (len(table), len(cells) * lanes))
    index = rows_of_x(ctx, found)
    out = ctx.new(np.float32, (*index.shape, source.shape[1]))
    ctx.builder.gather(out.view, source.view, index.view, 0)
    return ctx.reshaped(out, (*index.shape, len(cells), lanes))


def rows_of_x(ctx: Lowering, found: Embedding) -> Tensor:
    """Which row of the table each row of X is: what happened to rows, done to their numbers."""
    index = ctx.contiguous(ctx.value(found.path[0].input(1)))
    for node in found.path[1:]:
        shape = ctx.shape(node.output(0))[:-1]
        index = (
            index.transpose(_perm(node, len(shape) + 1)[:-1]) if node.op == "Transpose" else ctx.reshaped(index, shape)
        )
    return index
