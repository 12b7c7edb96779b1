"""Reductions, arg-reductions and sorting."""

from __future__ import annotations

from typing import Final

import numpy as np

from gateinfer.graph.infer.registry import Query, rule
from gateinfer.graph.ir import TensorType

_AXES_INPUT_SINCE: Final = 18
_SUM_AXES_INPUT_SINCE: Final = 13


def reduce_axes(query: Query) -> list[int]:
    """The axes a Reduce* node reduces, counted from the front, in rising order."""
    since = _SUM_AXES_INPUT_SINCE if query.node.op == "ReduceSum" else _AXES_INPUT_SINCE
    rank = len(query.shape())
    axes = query.integers_from("axes", 1, since, "axes")
    if not axes:
        return [] if query.int_attr("noop_with_empty_axes", 0) else list(range(rank))
    return sorted(query.axes(axes, rank))


@rule("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
      "ReduceLogSum", "ReduceLogSumExp", least=1, most=2, attrs="axes keepdims noop_with_empty_axes")  # fmt: skip
def _reduce(query: Query) -> TensorType:
    axes = reduce_axes(query)
    shape = query.shape()
    if query.int_attr("keepdims", 1):
        return TensorType(query.dtype(), tuple(1 if i in axes else d for i, d in enumerate(shape)))
    return TensorType(query.dtype(), tuple(d for i, d in enumerate(shape) if i not in axes))


@rule("ArgMax", "ArgMin", attrs="axis keepdims select_last_index")
def _arg(query: Query) -> TensorType:
    shape = query.shape()
    axis = query.axis(query.int_attr("axis", 0), len(shape))
    if shape[axis] == 0:
        query.fail(f"axis {axis} of shape {list(shape)} is empty: it has no largest element")
    kept = (1,) if query.int_attr("keepdims", 1) else ()
    return TensorType(np.dtype("i8"), shape[:axis] + kept + shape[axis + 1 :])


@rule("CumSum", least=2, most=2, attrs="exclusive reverse")
def _cumsum(query: Query) -> TensorType:
    query.axis(query.integer(1, "axis"), len(query.shape()))
    return query.type(0)


@rule("TopK", least=1, most=2, attrs="axis k largest sorted")
def _topk(query: Query) -> list[TensorType]:
    shape = query.shape()
    axis = query.axis(query.int_attr("axis", -1), len(shape))
    count = query.int_attr("k") if query.opset < 10 else query.integer(1, "K")
    if not 0 <= count <= shape[axis]:
        query.fail(f"K is {count}, axis {axis} of shape {list(shape)} has {shape[axis]} elements")
    kept = (*shape[:axis], count, *shape[axis + 1 :])
    return [TensorType(query.dtype(), kept), TensorType(np.dtype("i8"), kept)]
