"""Operators that rearrange elements without computing: most become strides."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from gateinfer.graph.infer.creation import checked_shape
from gateinfer.graph.infer.elementwise import broadcast, same_dtype
from gateinfer.graph.infer.registry import Query, Shape, rule
from gateinfer.graph.ir import TensorType

_AXES_INPUT_SINCE: Final = 13
_SPLIT_INPUT_SINCE: Final = 13
_PADS_INPUT_SINCE: Final = 11


@rule("Reshape", least=1, most=2, attrs="shape allowzero consumed_inputs")
def _reshape(query: Query) -> TensorType:
    target = query.integers_from("shape", 1, 5, "shape")
    if target is None:
        query.fail("its shape is missing")
    return TensorType(query.dtype(), reshaped(query, target))


def reshaped(query: Query, target: list[int]) -> Shape:
    """`target` with 0 (keep, unless allowzero) and -1 (what remains) resolved."""
    shape = query.shape()
    extents = list(target)
    if not query.int_attr("allowzero", 0):
        if any(t == 0 and i >= len(shape) for i, t in enumerate(target)):
            query.fail(f"shape {target} keeps an axis that {list(shape)} does not have")
        extents = [shape[i] if t == 0 else t for i, t in enumerate(target)]
    if extents.count(-1) > 1 or min(extents, default=1) < -1:
        query.fail(f"shape {target} must have extents >= 0 and at most one -1")
    size, known = math.prod(shape), math.prod(e for e in extents if e != -1)
    if -1 in extents:
        if known == 0 or size % known:
            query.fail(f"shape {list(shape)} ({size} elements) cannot become {target}")
        extents[extents.index(-1)] = size // known
    elif known != size:
        query.fail(f"shape {list(shape)} ({size} elements) cannot become {target}")
    return tuple(extents)


@rule("Flatten", attrs="axis")
def _flatten(query: Query) -> TensorType:
    shape = query.shape()
    axis = query.int_attr("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        query.fail(f"axis {axis} does not exist in an operand of rank {len(shape)}")
    axis += len(shape) if axis < 0 else 0
    return TensorType(query.dtype(), (math.prod(shape[:axis]), math.prod(shape[axis:])))


@rule("Transpose", attrs="perm")
def _transpose(query: Query) -> TensorType:
    shape = query.shape()
    order = permutation(query)
    return TensorType(query.dtype(), tuple(shape[i] for i in order))


def permutation(query: Query) -> list[int]:
    """The order of axes of a Transpose node."""
    rank = len(query.shape())
    order = query.ints_attr("perm")
    if order is None:
        order = list(reversed(range(rank)))
    if sorted(order) != list(range(rank)):
        query.fail(f"perm {order} is no permutation of the {rank} axes of {list(query.shape())}")
    return order


@rule("Squeeze", least=1, most=2, attrs="axes")
def _squeeze(query: Query) -> TensorType:
    shape = query.shape()
    axes = query.integers_from("axes", 1, _AXES_INPUT_SINCE, "axes")
    chosen = [i for i, d in enumerate(shape) if d == 1] if axes is None else query.axes(axes, len(shape))
    for axis in chosen:
        if shape[axis] != 1:
            query.fail(f"axis {axis} of shape {list(shape)} has extent {shape[axis]}, expected 1")
    return TensorType(query.dtype(), tuple(d for i, d in enumerate(shape) if i not in chosen))


@rule("Unsqueeze", least=1, most=2, attrs="axes")
def _unsqueeze(query: Query) -> TensorType:
    axes = query.integers_from("axes", 1, _AXES_INPUT_SINCE, "axes")
    if axes is None:
        query.fail("its axes are missing")
    rank = len(query.shape()) + len(axes)
    chosen = query.axes(axes, rank)
    rest = iter(query.shape())
    return TensorType(query.dtype(), tuple(1 if i in chosen else next(rest) for i in range(rank)))


@rule("Expand", least=2, most=2)
def _expand(query: Query) -> TensorType:
    target = checked_shape(query, query.integers(1, "shape"))
    return TensorType(query.dtype(), broadcast(query, (query.shape(), target)))


@rule("Tile", least=2, most=3)
def _tile(query: Query) -> TensorType:
    if query.opset < 6:
        query.unsupported("operator sets before 6 are not implemented")
    shape = query.shape()
    repeats = checked_shape(query, query.integers(1, "repeats"))
    if len(repeats) != len(shape):
        query.fail(f"repeats {list(repeats)} must have one number per axis of {list(shape)}")
    return TensorType(query.dtype(), tuple(d * r for d, r in zip(shape, repeats, strict=True)))


@rule("Concat", least=1, most=4096, attrs="axis")
def _concat(query: Query) -> TensorType:
    shapes = [query.shape(i) for i in range(len(query.node.inputs))]
    rank = len(shapes[0])
    axis = query.axis(query.int_attr("axis") if query.opset >= 4 else query.int_attr("axis", 1), rank)
    for index, shape in enumerate(shapes):
        if len(shape) != rank or shape[:axis] + shape[axis + 1 :] != shapes[0][:axis] + shapes[0][axis + 1 :]:
            query.fail(
                f"input {index} ({query.name(index)}) of shape {list(shape)} does not fit {list(shapes[0])} "
                f"except along axis {axis}"
            )
    joined = sum(s[axis] for s in shapes)
    return TensorType(same_dtype(query, range(len(shapes))), (*shapes[0][:axis], joined, *shapes[0][axis + 1 :]))


@rule("Split", least=1, most=2, attrs="axis split num_outputs")
def _split(query: Query) -> list[TensorType]:
    shape = query.shape()
    axis, sizes = split_sizes(query)
    return [TensorType(query.dtype(), (*shape[:axis], size, *shape[axis + 1 :])) for size in sizes]


def split_sizes(query: Query) -> tuple[int, list[int]]:
    """(axis, extent of each output) of a Split node."""
    shape = query.shape()
    axis = query.axis(query.int_attr("axis", 0), len(shape))
    count = len(query.node.outputs)
    sizes = query.integers_from("split", 1, _SPLIT_INPUT_SINCE, "split")
    if sizes is None:
        wanted = query.int_attr("num_outputs", count)
        if not max(count, 1) <= wanted <= max(count, shape[axis]):
            query.fail(f"num_outputs is {wanted}, the node has {count} outputs and the axis {shape[axis]} elements")
        # All parts are equal except, since operator set 18, a smaller last one.
        size = -(-shape[axis] // wanted)
        last = shape[axis] - size * (wanted - 1)
        if last < 0 or (last != size and query.opset < 18):
            query.fail(f"axis {axis} of shape {list(shape)} cannot be split into {wanted} parts")
        # Only the parts that have a name, so that a huge number of others costs nothing.
        return axis, ([size] * min(wanted - 1, count) + [last])[:count]
    if sum(sizes) != shape[axis] or min(sizes, default=0) < 0 or len(sizes) < count:
        query.fail(f"split {sizes} into {count} outputs does not fit axis {axis} of shape {list(shape)}")
    return axis, sizes


@rule("Slice", least=1, most=5, attrs="axes starts ends")
def _slice(query: Query) -> TensorType:
    ranges = slice_ranges(query)
    return TensorType(query.dtype(), tuple(len(r) for r in ranges))


def slice_ranges(query: Query) -> list[range]:
    """The indices a Slice node keeps, per axis."""
    shape = query.shape()
    legacy = query.opset < 10
    starts = query.integers_from("starts", 1, 10, "starts")
    ends = query.integers_from("ends", 2, 10, "ends")
    axes = query.integers_from("axes", 3, 10, "axes")
    steps = None if legacy or not query.has(4) else query.integers(4, "steps")
    if starts is None or ends is None:
        query.fail("its starts or ends are missing")
    axes = query.axes(list(range(len(starts))) if axes is None else axes, len(shape))
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        query.fail(f"starts {starts}, ends {ends}, axes {axes} and steps {steps} do not fit each other")
    ranges = [range(d) for d in shape]
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        # Python's slices clamp as ONNX asks, except that a backward one starts no earlier than at the first element.
        first = max(start, -shape[axis]) if step < 0 else start
        ranges[axis] = range(shape[axis])[slice(first, end, step)]
    return ranges


@rule("Pad", least=1, most=4, attrs="mode pads paddings value")
def _pad(query: Query) -> TensorType:
    amounts = pad_amounts(query)
    return TensorType(
        query.dtype(), tuple(d + before + after for d, (before, after) in zip(query.shape(), amounts, strict=True))
    )


def pad_amounts(query: Query) -> list[tuple[int, int]]:
    """(before, after) per axis of a Pad node; negative amounts crop."""
    shape = query.shape()
    rank = len(shape)
    mode = query.choice("mode", "constant", ("constant", "reflect", "edge", "wrap"))
    pads = query.integers_from("paddings" if query.opset < 2 else "pads", 1, _PADS_INPUT_SINCE, "pads")
    axes = query.axes(query.integers(3, "axes"), rank) if query.has(3) else list(range(rank))
    if pads is None or len(pads) != 2 * len(axes):
        query.fail(f"pads {pads} must have two numbers for each of {len(axes)} axes")
    amounts = [(0, 0)] * rank
    for axis, before, after in zip(axes, pads, pads[len(axes) :], strict=False):
        amounts[axis] = (before, after)
    for axis, (extent, (before, after)) in enumerate(zip(shape, amounts, strict=True)):
        source = max(extent + min(before, 0) + min(after, 0), 0)
        if extent + before + after < 0:
            query.fail(f"pads {pads} crop more than shape {list(shape)} has")
        # Reflection does not repeat the border element, so it needs one more than it writes.
        needed = {"constant": 0, "edge": 1, "reflect": max(before, after) + 1, "wrap": 1}[mode]
        if max(before, after) > 0 and source < needed:
            query.fail(f"{mode} padding of ({before}, {after}) does not fit extent {extent} of axis {axis}")
    return amounts


@rule("DepthToSpace", attrs="blocksize mode")
def _depth_to_space(query: Query) -> TensorType:
    n, c, h, w = query.expect_rank(0, 4, 4)
    query.choice("mode", "DCR", ("DCR", "CRD"))
    block = query.int_attr("blocksize")
    if block < 1 or c % (block * block):
        query.fail(f"{c} channels cannot be spread over blocks of {block} x {block}")
    return TensorType(query.dtype(), (n, c // (block * block), h * block, w * block))


@rule("SpaceToDepth", attrs="blocksize mode")
def _space_to_depth(query: Query) -> TensorType:
    n, c, h, w = query.expect_rank(0, 4, 4)
    query.choice("mode", "DCR", ("DCR", "CRD"))
    block = query.int_attr("blocksize")
    if block < 1 or h % block or w % block:
        query.fail(f"extents {h} x {w} are not whole blocks of {block} x {block}")
    return TensorType(query.dtype(), (n, c * block * block, h // block, w // block))


@rule("ReverseSequence", least=2, most=2, attrs="batch_axis time_axis")
def _reverse_sequence(query: Query) -> TensorType:
    shape = query.expect_rank(0, 2)
    time, batch = query.int_attr("time_axis", 0), query.int_attr("batch_axis", 1)
    if {time, batch} != {0, 1}:
        query.fail(f"time_axis {time} and batch_axis {batch} must be 0 and 1 in either order")
    query.expect_shape(1, (shape[batch],), "sequence_lens")
    if query.dtype(1) != np.dtype("i8"):
        query.fail(f"sequence_lens must be int64, got {query.dtype(1)}")
    return query.type(0)
