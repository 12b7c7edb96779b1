"""Convolution and pooling: windows that slide over the spatial axes."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from gateinfer.graph.infer.elementwise import same_dtype
from gateinfer.graph.infer.registry import Query, Shape, rule
from gateinfer.graph.ir import TensorType

_AUTO_PAD: Final = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
_CONV_ATTRS: Final = "auto_pad dilations group kernel_shape pads strides"


class Sliding(NamedTuple):
    """A window with its padding resolved; one entry per spatial axis."""

    kernel: Shape
    strides: Shape
    dilations: Shape
    pads_begin: Shape
    pads_end: Shape
    """What the file asks for; with ceil_mode the last window may reach past it."""
    output: Shape
    """Extents of the result."""


def conv_window(query: Query) -> Sliding:
    """The window of a Conv node."""
    spatial = query.shape(0)[2:]
    return _sliding(query, spatial, _kernel(query, query.shape(1)[2:]), ceil=False)


def pool_window(query: Query) -> Sliding:
    """The window of a MaxPool, AveragePool or LpPool node."""
    spatial = query.shape(0)[2:]
    kernel = query.ints_attr("kernel_shape")
    if kernel is None or len(kernel) != len(spatial):
        query.fail(f"kernel_shape {kernel} must have one extent per spatial axis of {list(query.shape(0))}")
    return _sliding(query, spatial, tuple(kernel), ceil=bool(query.int_attr("ceil_mode", 0)))


def _kernel(query: Query, extents: Shape) -> Shape:
    declared = query.ints_attr("kernel_shape")
    if declared is not None and tuple(declared) != extents:
        query.fail(f"kernel_shape {declared} contradicts the weights, whose kernel is {list(extents)}")
    return extents


def _per_axis(query: Query, name: str, count: int, default: int, least: int) -> Shape:
    values = query.ints_attr(name)
    if values is None:
        return (default,) * count
    if len(values) != count or min(values, default=least) < least:
        query.fail(f"{name} {values} must hold {count} numbers >= {least}")
    return tuple(values)


def _sliding(query: Query, spatial: Shape, kernel: Shape, ceil: bool) -> Sliding:
    count = len(spatial)
    strides = _per_axis(query, "strides", count, 1, 1)
    dilations = _per_axis(query, "dilations", count, 1, 1)
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    if min(kernel, default=1) < 1:
        query.fail(f"a kernel of shape {list(kernel)} is empty")
    begin, end = _padding(query, spatial, reach, strides)
    output = tuple(_steps(*axis, ceil=ceil) for axis in zip(spatial, reach, strides, begin, end, strict=True))
    # Pools may have no room for a window, as in onnxruntime; a convolution only where an input was empty to begin with.
    least = 0 if query.empty or query.node.op != "Conv" else 1
    if min(output, default=1) < least and min(spatial, default=1) > 0:
        query.fail(f"a window of {list(reach)} does not fit {list(spatial)} padded by {list(begin)} and {list(end)}")
    return Sliding(kernel, strides, dilations, begin, end, tuple(max(n, 0) for n in output))


def _steps(extent: int, reach: int, stride: int, begin: int, end: int, *, ceil: bool) -> int:
    room = extent + begin + end - reach
    if not ceil:
        return room // stride + 1
    steps = -(-room // stride) + 1
    # A window that would start in the padding behind the data is left out, as PyTorch and onnxruntime do.
    return steps - 1 if (steps - 1) * stride >= extent + begin else steps


def _padding(query: Query, spatial: Shape, reach: Shape, strides: Shape) -> tuple[Shape, Shape]:
    mode = query.choice("auto_pad", "NOTSET", _AUTO_PAD)
    count = len(spatial)
    pads = _per_axis(query, "pads", 2 * count, 0, 0)
    if mode == "NOTSET":
        return pads[:count], pads[count:]
    if mode == "VALID":
        return (0,) * count, (0,) * count
    # SAME: ceil(extent / stride) outputs, the odd element at the end (UPPER) or the beginning (LOWER).
    totals = [max((-(-n // s) - 1) * s + r - n, 0) for n, r, s in zip(spatial, reach, strides, strict=True)]
    small, large = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
    return (small, large) if mode == "SAME_UPPER" else (large, small)


@rule("Conv", least=2, most=3, attrs=_CONV_ATTRS)
def _conv(query: Query) -> TensorType:
    x, w = query.expect_rank(0, 3), query.expect_rank(1, 3)
    group = query.int_attr("group", 1)
    if len(x) != len(w) or group < 1 or x[1] != w[1] * group or w[0] % group:
        query.fail(f"weights of shape {list(w)} with group {group} do not fit input {list(x)}")
    if query.has(2):
        query.expect_shape(2, (w[0],), "B")
    dtype = same_dtype(query, range(len(query.node.inputs)))
    return TensorType(dtype, (x[0], w[0], *conv_window(query).output))


class Spreading(NamedTuple):
    """The window of a transposed convolution, padding resolved; one entry per spatial axis."""

    kernel: Shape
    strides: Shape
    dilations: Shape
    pads_begin: Shape
    pads_end: Shape
    output: Shape


def conv_transpose_window(query: Query) -> Spreading:
    """output = stride (n - 1) + output_padding + (kernel - 1) dilation + 1 - pads (ONNX, ConvTranspose)."""
    spatial = query.shape(0)[2:]
    count = len(spatial)
    kernel = _kernel(query, query.shape(1)[2:])
    strides = _per_axis(query, "strides", count, 1, 1)
    dilations = _per_axis(query, "dilations", count, 1, 1)
    extra = _per_axis(query, "output_padding", count, 0, 0)
    full = tuple(
        s * (n - 1) + o + (k - 1) * d + 1
        for n, k, s, d, o in zip(spatial, kernel, strides, dilations, extra, strict=True)
    )
    begin, end = _spread_padding(query, spatial, strides, full)
    output = tuple(f - b - e for f, b, e in zip(full, begin, end, strict=True))
    if min(output, default=1) < 0:
        query.fail(f"pads {list(begin)} and {list(end)} cut more than the result of {list(full)}")
    return Spreading(kernel, strides, dilations, begin, end, output)


def _spread_padding(query: Query, spatial: Shape, strides: Shape, full: Shape) -> tuple[Shape, Shape]:
    count = len(spatial)
    mode = query.choice("auto_pad", "NOTSET", _AUTO_PAD)
    wanted = query.ints_attr("output_shape")
    if wanted is None and mode in ("NOTSET", "VALID"):
        pads = _per_axis(query, "pads", 2 * count, 0, 0) if mode == "NOTSET" else (0,) * (2 * count)
        return pads[:count], pads[count:]
    target = tuple(n * s for n, s in zip(spatial, strides, strict=True)) if wanted is None else tuple(wanted[-count:])
    if len(target) != count:
        query.fail(f"output_shape {wanted} must have one extent per spatial axis")
    totals = [f - t for f, t in zip(full, target, strict=True)]
    if wanted is None:
        totals = [max(total, 0) for total in totals]  # the text asks for more than there is; onnxruntime pads nothing
    if min(totals, default=0) < 0:
        query.unsupported(f"an output of {list(target)}, wider than the full result {list(full)}, is not implemented")
    small, large = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
    return (small, large) if mode == "SAME_UPPER" else (large, small)


@rule("ConvTranspose", least=2, most=3, attrs=_CONV_ATTRS + " output_padding output_shape")
def _conv_transpose(query: Query) -> TensorType:
    x, w = query.expect_rank(0, 3), query.expect_rank(1, 3)
    group = query.int_attr("group", 1)
    if len(x) != len(w) or group < 1 or x[1] != w[0] or w[0] % group:
        query.fail(f"weights of shape {list(w)} with group {group} do not fit input {list(x)}")
    if query.has(2):
        query.expect_shape(2, (w[1] * group,), "B")
    dtype = same_dtype(query, range(len(query.node.inputs)))
    return TensorType(dtype, (x[0], w[1] * group, *conv_transpose_window(query).output))


@rule("MaxPool", attrs="auto_pad ceil_mode dilations kernel_shape pads storage_order strides")
def _max_pool(query: Query) -> list[TensorType]:
    """The indices, a second output, are not implemented."""
    return [_pooled(query)]


@rule("AveragePool", attrs="auto_pad ceil_mode count_include_pad dilations kernel_shape pads strides")
@rule("LpPool", attrs="auto_pad ceil_mode dilations kernel_shape p pads strides")
def _average_pool(query: Query) -> TensorType:
    return _pooled(query)


def _pooled(query: Query) -> TensorType:
    x = query.expect_rank(0, 3)
    return TensorType(query.dtype(), (*x[:2], *pool_window(query).output))


@rule("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(query: Query) -> TensorType:
    x = query.expect_rank(0, 3)
    return TensorType(query.dtype(), x[:2] + (1,) * (len(x) - 2))


_RESIZE_ATTRS: Final = (
    "antialias axes coordinate_transformation_mode cubic_coeff_a exclude_outside extrapolation_value "
    "keep_aspect_ratio_policy mode nearest_mode"
)


@rule("Resize", least=1, most=4, attrs=_RESIZE_ATTRS)
def _resize(query: Query) -> TensorType:
    if query.opset < 11:
        query.unsupported("operator set 10 is not implemented; convert the model to 11 or newer")
    query.choice("mode", "nearest", ("nearest",))
    query.choice("keep_aspect_ratio_policy", "stretch", ("stretch",))
    return TensorType(query.dtype(), resized(query))


def resized(query: Query) -> Shape:
    """The shape a Resize node yields: from its sizes, or floor(extent * scale)."""
    shape = list(query.shape())
    axes = query.axes(query.ints_attr("axes") or range(len(shape)), len(shape))
    sized = query.has(3) and query.shape(3) != (0,)
    given = query.constant(3, "sizes") if sized else query.constant(2, "scales")
    if given.shape != (len(axes),) or not np.all(np.isfinite(given)) or np.any(given < 0):
        query.fail(f"{'sizes' if sized else 'scales'} must hold {len(axes)} numbers >= 0, got {given.tolist()}")
    for axis, value in zip(axes, given.tolist(), strict=True):
        shape[axis] = int(value) if sized else int(np.floor(shape[axis] * value))
    return tuple(shape)
