"""Where values must end up, decided before any op is emitted, so that producers write straight into their final place.

A graph output has an external tensor. Walking backwards, what a shape operator turns into that output lives in the same
memory, and what a Concat joins lives in a slice of the joined tensor. Nothing here emits an op: a producer that cannot
write to the home of its value writes elsewhere, and `Lowering.define` copies.
"""

from __future__ import annotations

import numpy as np

from gateinfer.graph.ir import RECURRENT, Node
from gateinfer.lower.context import Lowering
from gateinfer.lower.tensor import Tensor

RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
SCATTERS = frozenset({"ScatterND", "ScatterElements", "Scatter"})


def place(ctx: Lowering) -> None:
    """Fills `ctx.homes`.

    A value that is scattered over to make an output starts out in the output's memory. Where it is still read after the
    scatter, `Lowering.out` passes over that home, and the output is copied at the very end.
    """
    final = set(ctx.homes)
    for node in reversed(ctx.nodes):
        if node.domain:
            continue
        if node.op == "Concat":
            _place_concat(ctx, node)
            continue
        if node.op == "Reshape" and _joins_directions(ctx, node):
            ctx.homes.setdefault(node.output(0), ctx.new(ctx.dtype(node.output(0)), ctx.shape(node.output(0))))
        if node.output(0) in final and node.op in SCATTERS:
            _settle(ctx, node.input(0), ctx.homes[node.output(0)])
            ctx.rewritten.add(ctx.homes[node.output(0)].id)
            final.add(node.input(0))
        if node.output(0) in ctx.homes:
            home = _before(ctx, node, ctx.homes[node.output(0)])
            if home is not None:
                _settle(ctx, node.input(0), home)


def _joins_directions(ctx: Lowering, node: Node) -> bool:
    """True for the Reshape that exporters put behind a bidirectional layer to turn [T, D, N, H] into [T, N, D H].

    With the directions interleaved that is no window on Y, but the layer can write Y as a window on the result.
    """
    transpose = ctx.producers.get(node.input(0))
    if transpose is None or transpose.op != "Transpose" or ctx.sole_user(node.input(0)) is not node:
        return False
    layer = ctx.producers.get(transpose.input(0))
    if layer is None or layer.op not in RECURRENT or ctx.sole_user(transpose.input(0)) is not transpose:
        return False
    y = Tensor.dense(-1, ctx.dtype(layer.output(0)), ctx.shape(layer.output(0)))
    return _transposed(y, transpose).reshape(ctx.shape(node.output(0))) is None


def _transposed(x: Tensor, node: Node) -> Tensor:
    return x.transpose(node.attrs.get("perm", range(x.rank)[::-1]))


def _before(ctx: Lowering, node: Node, home: Tensor) -> Tensor | None:
    """The window on `home` that the first input of a shape operator would fill."""
    if node.op in RESHAPES:
        return home.reshape(ctx.shape(node.input(0)))
    if node.op == "Transpose":
        perm = node.attrs.get("perm", range(home.rank)[::-1])
        return home.transpose(np.argsort(perm).tolist())
    return None


def _place_concat(ctx: Lowering, node: Node) -> None:
    name = node.output(0)
    if 0 in ctx.shape(name):
        return
    home = ctx.homes.get(name)
    if home is None:
        home = ctx.homes[name] = ctx.new(ctx.dtype(name), ctx.shape(name))
    axis = node.attrs.get("axis", 1)
    pieces = home.split(axis, [ctx.shape(source)[axis] for source in node.inputs])
    for source, piece in zip(node.inputs, pieces, strict=True):
        # Strided pieces make shape operators on the same value copy, so only a value with no other use goes there.
        if piece.is_dense or ctx.sole_user(source):
            _settle(ctx, source, piece)


def _settle(ctx: Lowering, name: str, home: Tensor) -> None:
    """Makes `home` the place of `name`, if a node makes that value and vector stores can write there."""
    if name in ctx.producers and name not in ctx.homes and home.size and home.is_unit_stride:
        ctx.homes[name] = home
