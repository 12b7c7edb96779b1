"""What each operator does with the time axis. An operator without a rule counts as mixing over time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from gateinfer.graph.checks import uses
from gateinfer.graph.infer.normalization import softmax_axes
from gateinfer.graph.infer.reductions import reduce_axes
from gateinfer.graph.infer.views import pad_amounts, slice_ranges, split_sizes
from gateinfer.graph.ir import Graph
from gateinfer.graph.recurrent_attrs import Recurrent, parse_recurrent
from gateinfer.graph.time_place import GONE, Place, Scan, Step, follows, reshaped

X, LENS, H0, C0 = 0, 4, 5, 6
"""Inputs of a recurrent node."""


def _agreed(places: Iterable[Place]) -> Place | None:
    """The one place that all of them name."""
    found = set(places)
    return found.pop() if len(found) == 1 else None


def _joined(step: Step, moved: Mapping[int, Place | None], others: Mapping[int, int]) -> Place | None:
    """The common place of the results of all inputs, if the inputs without time are even along their axis `others`."""
    places = [place for place in moved.values() if place is not None and place.axis != GONE]
    fault = next((p.fault for p in places if p.fault), "")
    place = _agreed(replace(p, fault=fault) for p in places)
    if place is None or len(places) < len(step.at):
        return None
    return place if all(step.is_even(i, axis, place) for i, axis in others.items()) else None


def _fault(step: Step, place: Place, axis: int, index: int = 0) -> Place:
    """Mixed over time, but the axis goes on, so that the recurrent nodes behind it can be found."""
    return Place(axis, step.out_shape(index)[axis], fault=place.fault or step.blame())


# ---- element by element -----------------------------------------------------------------------------------------


@follows(
    *"Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift Cast CastLike Ceil Celu Clip Cos Cosh Div Dropout Elu "
    "Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish IsInf IsNaN LeakyRelu Less LessOrEqual Log "
    "Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Sigmoid Sign Sin Sinh Softplus Softsign "
    "Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor".split()
)
def _elementwise(step: Step) -> Place | None:
    if step.node.attrs.get("broadcast"):
        return None  # operator sets before 7 aligned axes in another way
    rank = len(step.out_shape())
    shift = {i: rank - len(step.query.shape(i)) for i, name in enumerate(step.node.inputs) if name}
    moved = {i: p if p.axis == GONE else replace(p, axis=p.axis + shift[i]) for i, p in step.at.items()}
    axis = next(p.axis for p in moved.values() if p.axis != GONE)
    return _joined(step, moved, {i: axis - by for i, by in shift.items() if i not in step.at})


@follows("Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten")
def _reshape(step: Step) -> Place | None:
    place = step.only(0)
    return place and reshaped(place, step.query.shape(), step.out_shape())


@follows("Transpose")
def _transpose(step: Step) -> Place | None:
    (place,) = step.at.values()
    rank = len(step.query.shape())
    perm = step.node.attrs.get("perm") or list(reversed(range(rank)))
    return replace(place, axis=list(perm).index(place.axis))


@follows("Expand", "Tile", "Resize")
def _stretch(step: Step) -> Place | None:
    """The time axis itself stays as long as it is: its extent is at least 2, so Expand cannot stretch it."""
    place = step.only(0)
    if place is None:
        return None
    shape, out = step.query.shape(), step.out_shape()
    axis = place.axis + len(out) - len(shape)
    return replace(place, axis=axis) if out[axis] == shape[place.axis] else None


# ---- parts and wholes -------------------------------------------------------------------------------------------


@follows("Concat")
def _concat(step: Step) -> Place | None:
    rank = len(step.out_shape())
    along = step.query.int_attr("axis", 1) % rank
    places = [place for place in step.at.values() if place.axis != GONE]
    if all(place.axis == along for place in places):
        return _concat_in_time(step, places, along)
    axis = places[0].axis
    return _joined(step, step.at, {i: axis for i in range(len(step.node.inputs)) if i not in step.at})


def _concat_in_time(step: Step, places: list[Place], along: int) -> Place:
    """Allowed for one thing only: a cache of earlier steps in front of the frame."""
    place, last = places[0], len(step.node.inputs) - 1
    is_cache = step.at.keys() == {last} and all(n in step.tracker.held for n in step.node.inputs[:last])
    if is_cache and step.is_pure(place):
        return replace(place, steps=step.out_shape()[along], cached=True)
    return _fault(step, place, along)


@follows("Split")
def _split(step: Step) -> Place | None:
    place = step.only(0)
    return place if place and split_sizes(step.query)[0] != place.axis else None


@follows("Slice")
def _slice(step: Step) -> Place | None:
    place = step.only(0)
    if place is None:
        return None
    extent = step.query.shape()[place.axis]
    kept = slice_ranges(step.query)[place.axis]
    if kept == range(extent):
        return place
    if step.is_pure(place) and not place.cached and kept == range(extent - 1, extent):
        return Place(GONE, place.steps, fault=place.fault)
    return _uncached(step, place, len(kept)) or _fault(step, place, place.axis)


def _uncached(step: Step, place: Place, steps: int) -> Place | None:
    """A window over the cache and the frame that yields as many steps as the frame has."""
    if place.cached and steps == step.tracker.steps:
        return replace(place, steps=steps, inner=1, cached=False)
    return None


@follows("Gather")
def _gather(step: Step) -> Place | None:
    """Rows of a table by index (either side may have the time axis), or the last step."""
    data, indices = step.query.shape(0), step.query.shape(1)
    along = step.query.int_attr("axis", 0) % len(data)
    if (place := step.only(1)) is not None:
        return replace(place, axis=along + place.axis)
    if (place := step.only(0)) is None:
        return None
    if place.axis != along:
        return replace(place, axis=place.axis + (len(indices) - 1 if place.axis > along else 0))
    index = step.query.values[1]
    if index is not None and step.is_pure(place) and np.array_equal(index, np.arange(place.steps)):
        return place
    is_last = index is not None and index.size == 1 and int(index.reshape(-1)[0]) in (-1, place.steps - 1)
    is_last = is_last and step.is_pure(place) and not place.cached
    return Place(GONE, place.steps, fault=place.fault) if is_last else None


@follows("OneHot")
def _one_hot(step: Step) -> Place | None:
    place = step.only(0)
    rank = len(step.out_shape())
    return place and replace(place, axis=place.axis + (step.query.int_attr("axis", -1) % rank <= place.axis))


@follows("Pad")
def _pad(step: Step) -> Place | None:
    place = step.only(0)
    if place is None:
        return None
    return place if pad_amounts(step.query)[place.axis] == (0, 0) else _fault(step, place, place.axis)


@follows("ReverseSequence")
def _reverse_sequence(step: Step) -> Place | None:
    place = step.only(0)
    return place if place and step.query.int_attr("time_axis", 0) != place.axis else None


# ---- sums over axes ---------------------------------------------------------------------------------------------


@follows("MatMul")
def _matmul(step: Step) -> Place | None:
    """Time among the leading axes, the rows of the left or the columns of the right operand; never along the sum."""
    a, b = len(step.query.shape(0)), len(step.query.shape(1))
    rank = len(step.out_shape())
    axes = {i: place.axis for i, place in step.at.items()}
    if a > 1 and axes == {0: a - 2}:
        return replace(step.at[0], axis=rank - (2 if b > 1 else 1))
    if b > 1 and axes == {1: b - 1}:
        return replace(step.at[1], axis=rank - 1)
    moved: dict[int, Place | None] = {}
    for index, place in step.at.items():
        ndim = (a, b)[index]
        leading = place.axis != GONE and place.axis < ndim - 2
        moved[index] = replace(place, axis=place.axis + max(a, b) - ndim) if leading else None
    axis = next((p.axis for p in moved.values() if p), GONE)
    others = {i: axis - max(a, b) + ndim for i, ndim in enumerate((a, b)) if i not in step.at}
    return _joined(step, moved, {i: k for i, k in others.items() if k < (a, b)[i] - 2})


@follows("Gemm")
def _gemm(step: Step) -> Place | None:
    flips = [step.query.int_attr(name, 0) for name in ("transA", "transB")]
    moved: dict[int, Place | None] = {}
    for index, place in step.at.items():
        if index == 2 and place.axis != GONE:
            moved[index] = replace(place, axis=place.axis + 2 - len(step.query.shape(2)))
        elif index < 2 and place.axis == index ^ bool(flips[index]):
            moved[index] = replace(place, axis=index)
    axis = next((p.axis for p in moved.values() if p and p.axis != GONE), 0)
    others = {2: axis - 2 + len(step.query.shape(2))} if step.query.has(2) and 2 not in step.at else {}
    return _joined(step, moved, others)


@follows("Softmax", "LogSoftmax", "Hardmax")
def _softmax(step: Step) -> Place | None:
    (place,) = step.at.values()
    return None if place.axis in softmax_axes(step.query) else place


@follows("LayerNormalization")
def _layer_norm(step: Step) -> Place | None:
    place = step.only(0)
    first = step.query.int_attr("axis", -1) % len(step.query.shape())
    return place if place and place.axis < first else None


@follows("LpNormalization")
def _lp_norm(step: Step) -> Place | None:
    (place,) = step.at.values()
    return None if place.axis == step.query.int_attr("axis", -1) % len(step.query.shape()) else place


@follows("BatchNormalization")
def _batch_norm(step: Step) -> Place | None:
    place = step.only(0)
    return place if place and place.axis != 1 else None


@follows("InstanceNormalization", "GroupNormalization", "DepthToSpace", "SpaceToDepth")
def _per_image(step: Step) -> Place | None:
    place = step.only(0)
    return place if place and place.axis == 0 else None


@follows("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
         "ReduceLogSum", "ReduceLogSumExp")  # fmt: skip
def _reduce(step: Step) -> Place | None:
    return _without(step, reduce_axes(step.query))


@follows("ArgMax", "ArgMin")
def _arg(step: Step) -> Place | None:
    return _without(step, [step.query.int_attr("axis", 0) % len(step.query.shape())])


def _without(step: Step, axes: list[int]) -> Place | None:
    place = step.only(0)
    if place is None or place.axis in axes:
        return None
    if step.query.int_attr("keepdims", 1):
        return place
    return replace(place, axis=place.axis - sum(axis < place.axis for axis in axes))


@follows("CumSum")
def _cumsum(step: Step) -> Place | None:
    place = step.only(0)
    return place if place and step.query.integer(1, "axis") % len(step.query.shape()) != place.axis else None


@follows("TopK")
def _top_k(step: Step) -> Place | None:
    place = step.only(0)
    return place if place and step.query.int_attr("axis", -1) % len(step.query.shape()) != place.axis else None


# ---- windows ----------------------------------------------------------------------------------------------------


@follows("Conv", "ConvTranspose")
def _conv(step: Step) -> Place | None:
    return _window(step, step.query.shape(1)[2:])


@follows("MaxPool", "AveragePool", "LpPool")
def _pool(step: Step) -> Place | None:
    return _window(step, tuple(step.query.ints_attr("kernel_shape") or ()))


def _window(step: Step, kernel: tuple[int, ...]) -> Place | None:
    """A window of one step, or any window over a cache and the frame, whose state the caller vouches for."""
    place = step.only(0)
    if place is None or place.axis == 1:
        return None
    extent = step.query.shape()[place.axis]
    steps = step.out_shape()[place.axis]
    if place.axis == 0 or (kernel[place.axis - 2] == 1 and steps == extent and not _pads(step, place.axis - 2)):
        return place
    return _uncached(step, place, steps) or _fault(step, place, place.axis)


def _pads(step: Step, axis: int) -> bool:
    return any((step.query.ints_attr("pads") or ())[axis :: len(step.query.shape()) - 2])


# ---- recurrent nodes --------------------------------------------------------------------------------------------


@follows("LSTM", "GRU", "RNN")
def _recurrent(step: Step) -> Place | None:
    spec = parse_recurrent(step.node)
    place = step.at.get(X)
    time, batch = (1, 0) if spec.layout else (0, 1)
    if place is None or place.axis not in (time, batch) or not step.at.keys() <= {X, H0, C0}:
        return None
    if place.axis == time:
        return _scan(step, place, spec)
    return _rows(step, place, spec.layout)


def _scan(step: Step, place: Place, spec: Recurrent) -> Place:
    """Along time: Y keeps the axis, the final states are those of the last step."""
    fault = place.fault or _refusal(step, place, spec)
    step.tracker.scans.append(Scan(step.node, fault))
    for name in filter(None, step.node.outputs[1:]):
        step.tracker.places[name] = Place(GONE, place.steps, fault=fault)
    return replace(place, axis=spec.layout, fault=fault)


def _refusal(step: Step, place: Place, spec: Recurrent) -> str:
    if spec.directions != ("forward",):
        return step.blame("runs backward in time")
    if step.at.keys() != {X} or not step.is_pure(place) or place.cached:
        return step.blame()
    lens = step.query.values[LENS] if step.query.has(LENS) else None
    if step.query.has(LENS) and (lens is None or (lens != place.steps).any()):
        return step.blame("is told where sequences end (sequence_lens)")
    return ""


@follows("Loop", "Scan")
def _loop(step: Step) -> Place | None:
    """A loop with one turn per step that starts from state inputs."""
    node, body = step.node, step.node.attrs.get("body")
    if not isinstance(body, Graph) or "trips" not in node.attrs:
        return None
    first = len(node.inputs) - node.attrs["scanned"]
    place = _agreed(step.at.values())
    if place is None or place.axis != 0 or min(step.at) < first:
        return None
    fault = place.fault or ("" if _turns_are_steps(step, place, body, first) else step.blame())
    step.tracker.scans.append(Scan(node, fault))
    for name in filter(None, node.outputs[: first - 2]):
        step.tracker.places[name] = Place(GONE, place.steps, fault=fault)
    return replace(place, fault=fault)


def _turns_are_steps(step: Step, place: Place, body: Graph, first: int) -> bool:
    """True when no turn knows its number and all that is carried is state."""
    node = step.node
    if node.attrs["trips"] != place.steps or node.inputs[1] or not step.is_pure(place) or place.cached:
        return False
    if (uses(node) - set(node.inputs)) & step.tracker.places.keys():
        return False
    counted = any(body.inputs[0].name in uses(inner) for inner in body.nodes)
    others = [i for i in range(first, len(node.inputs)) if i not in step.at]
    held = all(name in step.tracker.held for name in node.inputs[2:first])
    return held and not counted and all(step.is_even(i, 0, place) for i in others)


def _rows(step: Step, place: Place, layout: int) -> Place | None:
    """Time among the rows of a layer that scans something else: each step is a sequence of its own."""
    state_axis = 0 if layout else 1
    moved = {X: replace(place, axis=state_axis)} | {i: p for i, p in step.at.items() if i != X}
    others = {i: state_axis for i in (H0, C0) if step.query.has(i) and i not in step.at}
    found = _joined(step, moved, others)
    if found is None or (step.query.has(LENS) and not step.is_even(LENS, 0, place)):
        return None
    for name in filter(None, step.node.outputs[1:]):
        step.tracker.places[name] = found
    return replace(found, axis=0 if layout else 2)
