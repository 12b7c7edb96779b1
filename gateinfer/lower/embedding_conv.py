"""Convolutions of rows of a constant table: each tap looks up a row of its own projection of it, and they are added up.

A tap of C channels takes one addition per output instead of C multiply-adds. The sum is bias + W_0 x, which is one
chain, then + W_1 x, + W_2 x, ...; taps in the padding are left out.
"""

from __future__ import annotations

import numpy as np

from gateinfer._core import Builder, Runner, pack_dense
from gateinfer.graph.ir import Node
from gateinfer.lower.context import Lowering, aligned, code
from gateinfer.lower.elementwise import FLOAT
from gateinfer.lower.embedding import Embedding, rows_of_x
from gateinfer.lower.scales import following
from gateinfer.lower.tensor import Tensor
from gateinfer.lower.window import sliding


def lower_embedding_conv(
    ctx: Lowering, node: Node, found: Embedding, weights: np.ndarray, bias: np.ndarray | None
) -> None:
    """`node` with the constants `weights` [M, C, taps] and `bias` [M]."""
    taps, table = weights.shape[2], found.values
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
    tables = [source.slice(0, 0, len(table)).select(1, tap) for tap in range(taps)]
    places = [window.places(0, tap, index.shape[2], rows.shape[1]) for tap in range(taps)]
    bias_row = source.slice(0, len(table), 1).select(1, 0)
    _spread(ctx, rows.slice(1, 0, places[0].start), bias_row)
    _spread(ctx, rows.slice(1, places[0].stop, rows.shape[1] - places[0].stop), bias_row)
    looked_up = set[int]()
    for tap in range(taps):
        if not places[tap]:
            continue
        start = places[tap].start * stride + tap * dilation - begin
        looked_up.update(range(start, start + len(places[tap]) * stride, stride))
        ids = index.squeeze(1).slice(1, start, len(places[tap]), stride)
        target = rows.slice(1, places[tap].start, len(places[tap]))
        taken = ctx.new(FLOAT, target.shape) if tap else target
        ctx.builder.gather(taken.view, tables[tap].view, ids.view, 0)
        if tap:
            ctx.binary("add", target, taken, out=target)
    if len(looked_up) < index.shape[2]:  # a number that no tap looks up may still be wrong
        ctx.builder.gather(ctx.new(FLOAT, (*index.shape, 1)).view, tables[0].slice(1, 0, 1).view, index.view, 0)


def _spread(ctx: Lowering, target: Tensor, row: Tensor) -> None:
    """Every row of `target` [N, n, M] = row [1, M]."""
    if target.size:
        ctx.copy(target, row.unsqueeze(0).broadcast_to(target.shape))


def _projected(isa: str, table: np.ndarray, weights: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """[V + 1, taps, M]: bias + W_0 x, W_1 x, ... of each row x [C] of the table and of zeros, by own products."""
    filters, channels, taps = weights.shape
    builder = Builder(isa)
    shape, lanes = (len(table) + 1, channels), taps * filters
    x = Tensor.dense(builder.external(code(FLOAT), shape[0] * channels), FLOAT, shape)
    y = Tensor.dense(builder.external(code(FLOAT), shape[0] * lanes), FLOAT, (shape[0], lanes))
    start = np.zeros(lanes, np.float32)
    start[:filters] = 0 if bias is None else bias
    columns = np.ascontiguousarray(weights.transpose(1, 2, 0)).reshape(channels, lanes)
    builder.dense(y.view, x.view, builder.constant(aligned(pack_dense(columns, start))))
    result = aligned(np.zeros((shape[0], lanes), np.float32))
    Runner(builder.finish()).run((x.id, y.id), [np.pad(table, ((0, 1), (0, 0))), result])
    return result
