"""Recurrent layers on rows of a constant table: they take rows of the table's projection, bias + W x, instead.

A table of few rows, such as the embedding of characters, is projected once, when the model is planned; a step then
reads one row instead of all of W. Every element is the same chain of the same numbers, so the bits stay.
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


class Embedding(NamedTuple):
    """Rows of `table` [V, I] in the order of a layer's X: `path` are the nodes from the Gather on."""

    table: str
    path: tuple[Node, ...]


def take_over(ctx: Lowering) -> None:
    """Finds layers whose input is nothing but rows of a constant table; the nodes that look them up count as done."""
    for node in ctx.nodes:
        if node.op in RECURRENT and not node.domain and (found := _embedding(ctx, node)) is not None:
            ctx.embeddings[node.input(0)] = found
            ctx.done.update(step.output(0) for step in found.path)


def _embedding(ctx: Lowering, node: Node) -> Embedding | None:
    weights = known_weights(node, ctx.graph.constants)
    if weights is None:
        return None
    name, path = node.input(0), list[Node]()
    while ctx.sole_user(name) is not None and (made := ctx.producers.get(name)) is not None and not made.domain:
        path.insert(0, made)
        name = made.input(0)
        if made.op == "Gather":
            return Embedding(name, tuple(path)) if _is_worth_it(ctx, weights[0], made) else None
        if not _keeps_rows(ctx, made):
            break
    return None


def _keeps_rows(ctx: Lowering, node: Node) -> bool:
    """Whether a node moves whole rows, the last axis, and never their elements."""
    before, after = ctx.shape(node.input(0)), ctx.shape(node.output(0))
    if node.op == "Transpose":
        return _perm(node, len(before))[-1] == len(before) - 1
    return node.op in SAME_ORDER and before[-1:] == after[-1:]


def _perm(node: Node, rank: int) -> Sequence[int]:
    return node.attrs.get("perm", range(rank)[::-1])


def _is_worth_it(ctx: Lowering, w: np.ndarray, gather: Node) -> bool:
    """Whether `gather` takes rows of a constant table that is to be projected by `w` [directions, G H, I]."""
    table = ctx.const(gather.input(0))
    if table is None or table.ndim != 2 or table.dtype != np.float32:
        return False
    if gather.attrs.get("axis", 0) % 2 or 0 in ctx.shape(gather.output(0)) or w.shape[2] != table.shape[1]:
        return False
    lanes = w.shape[0] * w.shape[1]
    rows = prod(ctx.shape(gather.input(1)))
    sizes = (table.size * lanes, table.shape[0] * lanes * 4, rows * lanes * 4)
    return all(size <= most for size, most in zip(sizes, (MAX_MACS, MAX_BYTES, MAX_ROW_BYTES), strict=True))


def projected_rows(
    ctx: Lowering, found: Embedding, cells: Sequence[Cell], weights: Sequence[np.ndarray | None]
) -> Tensor:
    """The projection of X, whose leading axes stay as they are, for each direction of a layer: [.., .., D, lanes]."""
    table = ctx.const(found.table)
    assert table is not None  # _is_worth_it

    def make() -> np.ndarray:
        rows = np.ascontiguousarray(table)
        parts = [project(ctx.target.isa, cell, ctx.pack_cell(cell, weights, i), rows) for i, cell in enumerate(cells)]
        return np.ascontiguousarray(np.stack(parts, axis=1))

    lanes = projected_size(cells[0])
    packed = ctx.packed("projection", [found.table], [table, *weights], tuple(cells), make)
    source = Tensor.dense(packed, np.dtype(np.float32), (len(table), len(cells) * lanes))
    index = _rows_of_x(ctx, found)
    out = ctx.new(np.float32, (*index.shape, source.shape[1]))
    ctx.builder.gather(out.view, source.view, index.view, 0)
    return ctx.reshaped(out, (*index.shape, len(cells), lanes))


def _rows_of_x(ctx: Lowering, found: Embedding) -> Tensor:
    """Which row of the table each row of X is: what happened to rows, done to their numbers."""
    index = ctx.contiguous(ctx.value(found.path[0].input(1)))
    for node in found.path[1:]:
        shape = ctx.shape(node.output(0))[:-1]
        index = (
            index.transpose(_perm(node, len(shape) + 1)[:-1]) if node.op == "Transpose" else ctx.reshaped(index, shape)
        )
    return index
