"""Values made from shapes and numbers."""

from __future__ import annotations

import math

import numpy as np

from gateinfer.errors import ModelError
from gateinfer.graph.infer.elementwise import dtype_attribute, same_dtype
from gateinfer.graph.infer.registry import MAX_VALUE_ELEMENTS, Query, Shape, rule
from gateinfer.graph.ir import TensorType

_I64 = np.dtype("i8")


def checked_shape(query: Query, extents: list[int]) -> Shape:
    """`extents` as a shape, none negative."""
    if any(e < 0 for e in extents):
        query.fail(f"shape {extents} has a negative extent")
    return tuple(extents)


@rule("Shape", attrs="start end")
def _shape(query: Query) -> TensorType:
    return TensorType(_I64, (len(shape_slice(query)),))


def shape_slice(query: Query) -> Shape:
    """What a Shape node yields."""
    shape = query.shape()
    return shape[slice(query.int_attr("start", 0), query.int_attr("end", None))]


@rule("Size")
def _size(query: Query) -> TensorType:
    return TensorType(_I64, ())


@rule("ConstantOfShape", attrs="value")
def _constant_of_shape(query: Query) -> TensorType:
    value = query.attr("value", np.zeros(1, "f4"))
    if not isinstance(value, np.ndarray) or value.size != 1:
        query.fail("attribute value must be a tensor of one element")
    return TensorType(value.dtype, checked_shape(query, query.integers(0, "shape")))


@rule("Range", least=3, most=3)
def _range(query: Query) -> TensorType:
    names = ("start", "limit", "delta")
    start, limit, delta = (query.constant(i, what).reshape(-1) for i, what in enumerate(names))
    if not start.size == limit.size == delta.size == 1:
        query.fail("start, limit and delta must be scalars")
    step = delta.item()
    span = limit.item() - start.item()
    if step == 0 or not math.isfinite(span / step):
        raise ModelError(f"{query.node.label()}: start {start[0]}, limit {limit[0]} and delta {step} give no range")
    count = max(math.ceil(span / step), 0)
    return TensorType(same_dtype(query, range(3)), (min(count, MAX_VALUE_ELEMENTS + 1),))


@rule("EyeLike", attrs="dtype k")
def _eye_like(query: Query) -> TensorType:
    query.expect_rank(0, 2, 2)
    given = "dtype" in query.node.attrs
    return TensorType(dtype_attribute(query, "dtype") if given else query.dtype(), query.shape())


@rule("OneHot", least=3, most=3, attrs="axis")
def _one_hot(query: Query) -> TensorType:
    shape = query.shape()
    depth = query.constant(1, "depth").reshape(-1)
    if depth.size != 1 or not 0 < depth[0] <= MAX_VALUE_ELEMENTS or query.shape(2) != (2,):
        query.fail("depth must be one number > 0 and values must hold two elements")
    axis = query.axis(query.int_attr("axis", -1), len(shape) + 1)
    return TensorType(query.dtype(2), (*shape[:axis], int(depth[0]), *shape[axis:]))


@rule("NonZero")
def _nonzero(query: Query) -> TensorType:
    found = np.count_nonzero(query.constant(0, "input"))
    return TensorType(_I64, (len(query.shape()), int(found)))


@rule("Trilu", least=1, most=2, attrs="upper")
def _trilu(query: Query) -> TensorType:
    query.expect_rank(0, 2)
    return query.type(0)
