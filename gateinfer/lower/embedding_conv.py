"""Convolutions of rows of a constant table: each tap looks up a row of its own projection of it, and they are added up.

A tap of C channels takes one addition per output instead of C multiply-adds. The sum is bias + W_0 x, which is one
chain, then + W_1 x, + W_2 x, ...; taps in the padding are left out.
"""

from __future__ import annotations

import numpy as np

from gateinfer._core import Builder, Runner, pack_dense
from gateinfer.graph.ir import Node
from gateinfer.lower.context import Lowering, aligned, code
from gateinfer.lower.embedding import Embedding, rows_of_x
from gateinfer.lower.scales import following
from gateinfer.lower.tensor import Tensor
from gateinfer.lower.window import sliding

FLOAT = np.dtype(np.float32)


def lower_embedding_conv(
    ctx: Lowering, node: Node, found: Embedding, weights: np.ndarray, bias: np.ndarray | None
) -> None:
    """`node` with the constants `weights` [M, C, taps] and `bias` [M]."""
    taps, table = weights.shape[2], ctx.const(found.table)
    assert table is not None  # embedding.py has looked
    scales = following(ctx, node, 1, (weights, bias))
    names = (found.table, node.input(1), node.input(2), *scales.names)
    sources = (table, weights, bias, *scales.sources)
    packed = ctx.packed(
        "embedding conv",
        names,
        sources,
        None,
        lambda: _projected(ctx.target.isa, table, *scales.into(weights, bias, 0)),
    )
    out = ctx.out(scales.last, reads=node.inputs, channels_last=True)
    source = Tensor.dense(packed, FLOAT, (len(table) + 1, taps, len(weights)))
    index = rows_of_x(ctx, found).unsqueeze(1)
    window = sliding(node, index, out, (taps,))
    (stride,), (dilation,), ((begin, _),) = window.stride, window.dilation, window.pads
    rows = out.transpose((0, 2, 1))  # [N, positions, M]
    table_of = [source.slice(0, 0, len(table)).select(1, tap) for tap in range(taps)]
    looked_up = np.zeros(index.shape[2], bool)
    for tap in range(taps):
        start = tap * dilation - begin
        first, end = _inside(start, stride, rows.shape[1], index.shape[2])
        looked_up[first * stride + start :][: (end - first) * stride : stride] = first < end
        ids = index.squeeze(1).slice(1, first * stride + start, end - first, stride)
        target = rows.slice(1, first, end - first)
        if tap == 0:
            only_bias = source.slice(0, len(table), 1).select(1, 0)
            _spread(ctx, rows.slice(1, 0, first), only_bias)
            _spread(ctx, rows.slice(1, end, rows.shape[1] - end), only_bias)
        if first == end:
            continue
        taken = target if tap == 0 else ctx.new(FLOAT, target.shape)
        ctx.builder.gather(taken.view, table_of[tap].view, ids.view, 0)
        if tap:
            ctx.binary("add", target, taken, out=target)
    if not looked_up.all():  # a number that no tap looks up may still be wrong
        ctx.builder.gather(ctx.new(FLOAT, (*index.shape, 1)).view, table_of[0].slice(1, 0, 1).view, index.view, 0)


def _spread(ctx: Lowering, target: Tensor, row: Tensor) -> None:
    """Every row of `target` [N, n, M] = row [1, M]."""
    if target.size:
        ctx.copy(target, row.unsqueeze(0).broadcast_to(target.shape))


def _inside(start: int, stride: int, positions: int, extent: int) -> tuple[int, int]:
    """First position, and the one after the last, where start + position * stride lies in the input."""
    first = min(positions, max(0, -(start // stride)))
    return first, max(first, min(positions, -((start - extent) // stride)))


def _projected(isa: str, table: np.ndarray, weights: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """[V + 1, taps, M]: bias + W_0 x, W_1 x, ... of each row x [C] of the table and of zeros, by own products."""
    filters, channels, taps = weights.shape
    builder = Builder(isa)
    shape, lanes = (len(table) + 1, channels), taps * filters
    x = Tensor.dense(builder.external(code(FLOAT), shape[0] * channels), FLOAT, shape)
    y = Tensor.dense(builder.external(code(FLOAT), shape[0] * lanes), FLOAT, (shape[0], lanes))
    first = np.zeros(lanes, np.float32)
    first[:filters] = 0 if bias is None else bias
    columns = np.ascontiguousarray(weights.transpose(1, 2, 0)).reshape(channels, lanes)
    builder.dense(y.view, x.view, builder.constant(aligned(pack_dense(columns, first))))
    result = aligned(np.zeros((shape[0], lanes), np.float32))
    Runner(builder.finish()).run((x.id, y.id), [np.pad(table, ((0, 1), (0, 0))), result])
    return result
