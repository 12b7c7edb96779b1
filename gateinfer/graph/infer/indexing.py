"""Gathering and scattering."""

from __future__ import annotations

import numpy as np

from gateinfer.graph.infer.registry import Query, rule
from gateinfer.graph.ir import TensorType


def _indices(query: Query, index: int = 1) -> np.dtype:
    dtype = query.dtype(index)
    if dtype not in (np.dtype("i8"), np.dtype("i4")):
        query.fail(f"indices {query.name(index)} must be int32 or int64, got {dtype}")
    return dtype


def _check_bounds(query: Query, extent: int) -> None:
    """Constant indices are judged now, others while running."""
    values = query.values[1]
    if values is not None and values.size and not (-extent <= values.min() and values.max() < extent):
        query.fail(f"indices from {values.min()} to {values.max()} reach outside an axis of extent {extent}")


@rule("Gather", least=2, most=2, attrs="axis")
def _gather(query: Query) -> TensorType:
    _indices(query)
    shape = query.shape()
    axis = query.axis(query.int_attr("axis", 0), len(shape))
    _check_bounds(query, shape[axis])
    return TensorType(query.dtype(), shape[:axis] + query.shape(1) + shape[axis + 1 :])


@rule("GatherElements", least=2, most=2, attrs="axis")
def _gather_elements(query: Query) -> TensorType:
    _indices(query)
    shape, wanted = query.shape(), query.shape(1)
    axis = query.axis(query.int_attr("axis", 0), len(shape))
    if len(shape) != len(wanted) or any(w > d for i, (d, w) in enumerate(zip(shape, wanted, strict=True)) if i != axis):
        query.fail(f"indices of shape {list(wanted)} do not fit data of shape {list(shape)} along axis {axis}")
    _check_bounds(query, shape[axis])
    return TensorType(query.dtype(), wanted)


@rule("GatherND", least=2, most=2, attrs="batch_dims")
def _gather_nd(query: Query) -> TensorType:
    _indices(query)
    shape, wanted = query.shape(), query.expect_rank(1, 1)
    batch = query.int_attr("batch_dims", 0)
    if not 0 <= batch < len(wanted) or batch + wanted[-1] > len(shape) or shape[:batch] != wanted[:batch]:
        query.fail(f"indices of shape {list(wanted)} (batch_dims {batch}) do not fit data of shape {list(shape)}")
    return TensorType(query.dtype(), wanted[:-1] + shape[batch + wanted[-1] :])


@rule("ScatterND", least=3, most=3, attrs="reduction")
def _scatter_nd(query: Query) -> TensorType:
    _indices(query)
    query.choice("reduction", "none", ("none", "add", "mul", "max", "min"))
    shape, wanted = query.shape(), query.expect_rank(1, 1)
    if wanted[-1] > len(shape):
        query.fail(f"indices of shape {list(wanted)} address more axes than data of shape {list(shape)} has")
    query.expect_shape(2, wanted[:-1] + shape[wanted[-1] :], "updates")
    return query.type(0)


@rule("ScatterElements", "Scatter", least=3, most=3, attrs="axis reduction")
def _scatter_elements(query: Query) -> TensorType:
    _indices(query)
    query.choice("reduction", "none", ("none", "add", "mul", "max", "min"))
    shape, wanted = query.shape(), query.shape(1)
    axis = query.axis(query.int_attr("axis", 0), len(shape))
    if len(shape) != len(wanted) or any(w > d for i, (d, w) in enumerate(zip(shape, wanted, strict=True)) if i != axis):
        query.fail(f"indices of shape {list(wanted)} do not fit data of shape {list(shape)} along axis {axis}")
    query.expect_shape(2, wanted, "updates")
    _check_bounds(query, shape[axis])
    return query.type(0)


@rule("Compress", least=2, most=2, attrs="axis")
def _compress(query: Query) -> TensorType:
    shape = query.shape()
    condition = query.constant(1, "condition").astype(bool)
    count = int(np.count_nonzero(condition))
    if "axis" not in query.node.attrs:
        return TensorType(query.dtype(), (count,))
    axis = query.axis(query.int_attr("axis"), len(shape))
    return TensorType(query.dtype(), (*shape[:axis], count, *shape[axis + 1 :]))
