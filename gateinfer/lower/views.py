"""Operators on shapes. Most are windows on memory that is already there; the rest copy between windows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

import numpy as np

from gateinfer.errors import ShapeError, UnsupportedOp
from gateinfer.graph.ir import Node
from gateinfer.lower.context import Lowering
from gateinfer.lower.indexing import reduction, scatter_nd, scattered
from gateinfer.lower.registry import lowers
from gateinfer.lower.tensor import MAX_RANK, Tensor

MAX_RUNS = 128
"""Copies that one Pad may become."""
MAX_PADDED = 2**24
"""Extent to which reflect, edge and wrap pad: their source positions are listed one by one."""


@lowers("Reshape", "Flatten", "Squeeze", "Unsqueeze", attrs=("shape", "axes", "axis", "allowzero"))
def lower_reshape(ctx: Lowering, node: Node) -> None:
    x, shape = ctx.value(node.input(0)), ctx.shape(node.output(0))
    view = x.reshape(shape)
    if view is not None:
        ctx.define(node.output(0), view)
    else:
        _copy_reshaped(ctx, ctx.out(node), x)


@lowers("Identity")
def lower_identity(ctx: Lowering, node: Node) -> None:
    ctx.define(node.output(0), ctx.value(node.input(0)))


@lowers("Dropout", attrs=("ratio", "is_test", "seed"))
def lower_dropout(ctx: Lowering, node: Node) -> None:
    if ctx.graph.opset < 7 and not node.attrs.get("is_test", 0):
        raise UnsupportedOp("attribute 'is_test' = 0 asks for training; export the model for inference")
    training = ctx.need_const(node, 2, "training_mode")
    if training is not None and bool(training):
        raise UnsupportedOp("input training_mode is true; export the model for inference")
    ctx.define(node.output(0), ctx.value(node.input(0)))
    if ctx.wanted(node.output(1)):
        ctx.fill(ctx.out(node, 1), ctx.graph.opset >= 12)


@lowers("Transpose", attrs=("perm",))
def lower_transpose(ctx: Lowering, node: Node) -> None:
    x = ctx.value(node.input(0))
    ctx.define(node.output(0), x.transpose(node.attrs.get("perm", range(x.rank)[::-1])))


@lowers("Expand")
def lower_expand(ctx: Lowering, node: Node) -> None:
    ctx.define(node.output(0), ctx.value(node.input(0)).broadcast_to(ctx.shape(node.output(0))))


@lowers("Slice", attrs=("starts", "ends", "axes"))
def lower_slice(ctx: Lowering, node: Node) -> None:
    x = ctx.value(node.input(0))
    for axis, positions in slices(x.shape, *(integers(ctx, node, i, key) for i, key in enumerate(SLICE_KEYS, start=1))):
        x = x.slice(axis, positions.start, len(positions), positions.step)
    ctx.define(node.output(0), x)


SLICE_KEYS = ("starts", "ends", "axes", "steps")
"""Inputs 1 to 4 of a Slice, of which the first three are attributes in old operator sets."""


def slices(
    shape: Sequence[int],
    starts: Sequence[int] | None,
    ends: Sequence[int] | None,
    axes: Sequence[int] | None,
    steps: Sequence[int] | None,
) -> list[tuple[int, range]]:
    """What a Slice takes of axes of an input of `shape`: (axis, positions)."""
    if starts is None or ends is None:
        raise UnsupportedOp("has no 'starts' or 'ends'")
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    return [
        (axis, range(*slice(start, end, step).indices(shape[axis])))
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True)
    ]


@lowers("Split", attrs=("axis", "split", "num_outputs"))
def lower_split(ctx: Lowering, node: Node) -> None:
    x, axis = ctx.value(node.input(0)), node.attrs.get("axis", 0)
    sizes = integers(ctx, node, 1, "split")
    if sizes is None:
        extent, parts = x.shape[axis], len(node.outputs)
        chunk = -(-extent // parts)
        sizes = [max(0, min(chunk, extent - i * chunk)) for i in range(parts)]
    for name, piece in zip(node.outputs, x.split(axis, sizes), strict=False):
        if ctx.wanted(name):
            ctx.define(name, piece)


@lowers("Concat", attrs=("axis",))
def lower_concat(ctx: Lowering, node: Node) -> None:
    """Copies what is not already in place (see placement.py)."""
    out, axis = ctx.out(node, reads=()), node.attrs.get("axis", 1)
    values = [ctx.value(name) for name in node.inputs]
    pieces = out.split(axis, [value.shape[axis] for value in values])
    for piece, value in zip(pieces, values, strict=True):
        if not piece.same(value):
            ctx.copy(piece, ctx.copied(value) if value.id == out.id else value)


@lowers("Tile")
def lower_tile(ctx: Lowering, node: Node) -> None:
    x, out = ctx.value(node.input(0)), ctx.out(node)
    repeats = ctx.need_const(node, 1, "repeats")
    if repeats is None or repeats.ndim != 1 or len(repeats) != x.rank:
        raise UnsupportedOp("needs one number of repeats per axis; the form before opset 6 is not implemented")
    pairs = list(zip(repeats.tolist(), x.shape, strict=True))
    spread = tuple(n for pair in pairs for n in pair)
    for axis in range(x.rank):
        x = x.unsqueeze(2 * axis)
    _copy_reshaped(ctx, out, x.broadcast_to(spread))


@lowers("Gather", attrs=("axis",))
def lower_gather(ctx: Lowering, node: Node) -> None:
    x, axis = ctx.value(node.input(0)), node.attrs.get("axis", 0) % max(1, len(ctx.shape(node.input(0))))
    known = ctx.const(node.input(1))
    if known is None:
        ctx.builder.gather(ctx.out(node).view, x.view, ctx.value(node.input(1)).view, axis)
        return
    index = _checked_index(known, x.shape[axis])
    steps = _grid_steps(index)
    if steps is not None and x.rank - 1 + index.ndim <= MAX_RANK:
        ctx.define(node.output(0), x.spread(axis, int(index.flat[0]), index.shape, steps))
    else:
        ctx.builder.gather(ctx.out(node).view, x.view, ctx.value(node.input(1)).view, axis)


@lowers("ScatterND", attrs=("reduction",))
def lower_scatter(ctx: Lowering, node: Node) -> None:
    """A regular grid of known positions, as exporters write `x[..., a:b] = y`, is a copy into a window."""
    index = ctx.const(node.input(1))
    grid = grid_of(index, ctx.shape(node.input(0))) if index is not None and reduction(node) < 0 else None
    if grid is None:
        scatter_nd(ctx, node)
        return
    updates, out = ctx.value(node.input(2)), scattered(ctx, node)
    for axis, (start, count, step) in enumerate(grid):
        out = out.slice(axis, start, count, step)
    ctx.copy(out, updates)


def grid_of(places: np.ndarray, shape: Sequence[int]) -> list[tuple[int, int, int]] | None:
    """(start, count, step) of each leading axis of `shape` if `places` [.., axes] is a regular grid in order."""
    index = [_checked_index(places[..., axis], extent) for axis, extent in enumerate(shape[: places.shape[-1]])]
    spans = []
    for axis, positions in enumerate(index):
        if positions.ndim != len(index) or positions.size == 0:
            return None
        line = np.moveaxis(positions, axis, -1).reshape(-1, positions.shape[axis])
        spaced = _evenly_spaced(line[0])
        if spaced is None or (line != line[0]).any() or not (spaced[2] or spaced[1] == 1):
            return None
        spans.append(spaced)
    return spans or None


# ---- padding ---------------------------------------------------------------------------------------------------------


@lowers("Pad", attrs=("mode", "pads", "paddings", "value"))
def lower_pad(ctx: Lowering, node: Node) -> None:
    x, out = ctx.value(node.input(0)), ctx.out(node)
    mode = node.attrs.get("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise UnsupportedOp(f"attribute 'mode' = {mode!r} is not implemented; known are constant, reflect, edge, wrap")
    pads = _pads(ctx, node, x.rank)
    for axis, (begin, end) in enumerate(pads):
        cut = max(0, -begin)
        x = x.slice(axis, cut, max(0, x.shape[axis] - cut - max(0, -end)))
    pads = [(max(0, begin), max(0, end)) for begin, end in pads]
    if mode == "constant":
        _pad_constant(ctx, node, out, x, pads)
    else:
        _pad_repeating(ctx, out, x, pads, mode)


def _pads(ctx: Lowering, node: Node, rank: int) -> list[tuple[int, int]]:
    """(begin, end) of every axis; negative ones crop."""
    flat = integers(ctx, node, 1, "pads")
    flat = node.attrs.get("paddings") if flat is None else flat
    axes = integers(ctx, node, 3, "axes")
    if flat is None:
        raise UnsupportedOp("has no 'pads'")
    axes = list(range(rank)) if axes is None else axes
    pads = [(0, 0)] * rank
    for axis, begin, end in zip(axes, flat[: len(axes)], flat[len(axes) :], strict=True):
        pads[axis] = (int(begin), int(end))
    return pads


def _pad_constant(ctx: Lowering, node: Node, out: Tensor, x: Tensor, pads: Sequence[tuple[int, int]]) -> None:
    """Fills the borders axis by axis: whole along earlier axes, inside the borders of later ones, so none overlap."""
    name = node.input(2)
    known = ctx.const(name) if name else np.asarray(node.attrs.get("value", 0.0))
    inside = out
    for axis, (begin, end) in reversed(list(enumerate(pads))):
        for first, count in ((0, begin), (out.shape[axis] - end, end)):
            border = inside.slice(axis, first, count)
            if known is None:
                ctx.copy(border, ctx.reshaped(ctx.value(name), ()))
            else:
                ctx.fill(border, known.reshape(()).item())
        inside = inside.slice(axis, begin, x.shape[axis])
    ctx.copy(inside, x)


def _pad_repeating(ctx: Lowering, out: Tensor, x: Tensor, pads: Sequence[tuple[int, int]], mode: str) -> None:
    """Copies one block for each combination of evenly spaced runs of source positions."""
    if x.size == 0:
        raise ShapeError(f"an empty input has nothing for mode {mode!r} to repeat")
    if max(out.shape) > MAX_PADDED:
        raise UnsupportedOp(f"pads an axis to {max(out.shape)} elements; mode {mode!r} goes up to {MAX_PADDED}")
    axes = [
        runs(np.pad(np.arange(extent), pad, mode=mode))  # type: ignore[call-overload]
        for extent, pad in zip(x.shape, pads, strict=True)
    ]
    if prod(map(len, axes)) > MAX_RUNS:
        raise UnsupportedOp(f"mode {mode!r} with pads {list(pads)} would take {prod(map(len, axes))} copies")
    for block in product(*axes):
        source, target = x, out
        for axis, (position, start, count, step) in enumerate(block):
            source, target = source.slice(axis, start, count, step), target.slice(axis, position, count)
        ctx.copy(target, source)


# ---- helpers ---------------------------------------------------------------------------------------------------------


def integers(ctx: Lowering, node: Node, index: int, key: str) -> list[int] | None:
    """A list of integers that is an attribute in old operator sets and a constant input in new ones."""
    if key in node.attrs:
        return [int(v) for v in np.ravel(node.attrs[key])]
    value = ctx.need_const(node, index, key)
    return None if value is None else [int(v) for v in value.ravel()]


def runs(index: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Cuts `index` greedily into evenly spaced runs (position, start, count, step): index[position] == start."""
    steps = np.diff(index)
    turns = np.flatnonzero(np.diff(steps)) + 1
    if len(turns) > 2 * MAX_RUNS:
        raise UnsupportedOp(f"positions change their spacing {len(turns)} times; up to {2 * MAX_RUNS} are implemented")
    found, position = [], 0
    while position < len(index):
        later = turns[turns > position]
        last = int(later[0]) if later.size else len(index) - 1
        step = int(steps[position]) if position < len(steps) else 1
        found.append((position, int(index[position]), last - position + 1, step))
        position = last + 1
    return found


def _evenly_spaced(index: np.ndarray) -> tuple[int, int, int] | None:
    """(start, count, step) of a non-empty index whose neighbours are equally far apart, else None."""
    steps = np.diff(index)
    if index.size == 0 or (steps != steps[:1]).any():
        return None
    return int(index[0]), index.size, int(steps[0]) if steps.size else 1


def _checked_index(index: np.ndarray, extent: int) -> np.ndarray:
    wrapped = np.where(index < 0, index + extent, index)
    if wrapped.size and (wrapped.min() < 0 or wrapped.max() >= extent):
        raise ShapeError(f"constant index out of range: [{index.min()}, {index.max()}] on an axis of extent {extent}")
    return wrapped


def _grid_steps(index: np.ndarray) -> tuple[int, ...] | None:
    """The step along each axis of a non-empty index that is its first element plus so many steps, else None."""
    if index.size == 0:
        return None
    corner = (0,) * index.ndim
    steps = tuple(
        int(index[(*corner[:axis], 1, *corner[axis + 1 :])] - index[corner]) if extent > 1 else 0
        for axis, extent in enumerate(index.shape)
    )
    expected = index[corner] + sum(
        (np.arange(extent) * step).reshape(-1, *(1,) * (index.ndim - 1 - axis))
        for axis, (extent, step) in enumerate(zip(index.shape, steps, strict=True))
    )
    return steps if (index == expected).all() else None


def _copy_reshaped(ctx: Lowering, out: Tensor, source: Tensor) -> None:
    """Copies `source` to `out`, which has as many elements in another shape."""
    target = out.reshape(source.shape)
    if target is not None:
        ctx.copy(target, source)
    else:
        ctx.copy(out, ctx.reshaped(source, out.shape))
