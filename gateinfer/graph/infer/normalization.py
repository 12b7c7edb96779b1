"""Normalisations and softmax."""

from __future__ import annotations

import math
from typing import Final

from gateinfer.graph.infer.elementwise import same_dtype
from gateinfer.graph.infer.registry import Query, rule
from gateinfer.graph.ir import TensorType

_ONE_AXIS_SINCE: Final = 13


@rule("Softmax", "LogSoftmax", "Hardmax", attrs="axis")
def _softmax(query: Query) -> TensorType:
    softmax_axes(query)
    return query.type(0)


def softmax_axes(query: Query) -> list[int]:
    """The axes a softmax runs over together: one since operator set 13, `axis` and all behind it before."""
    rank = len(query.shape())
    if query.opset >= _ONE_AXIS_SINCE:
        return [query.axis(query.int_attr("axis", -1), rank)]
    axis = query.int_attr("axis", 1)
    # The flattening axis may also be the rank itself: then each element is a row of its own.
    return list(range(rank if axis == rank else query.axis(axis, rank), rank))


@rule("BatchNormalization", least=5, most=5, attrs="epsilon momentum training_mode spatial is_test consumed_inputs")
def _batch_norm(query: Query) -> TensorType:
    shape = query.expect_rank(0, 1)
    channels = shape[1] if len(shape) > 1 else 1
    if query.int_attr("training_mode", 0):
        query.unsupported("training_mode=1 is not implemented; export the model for inference")
    if query.opset < 9 and query.int_attr("spatial", 1) != 1:
        query.unsupported("spatial=0 is not implemented")
    for index, what in enumerate(("scale", "B", "mean", "var"), start=1):
        query.expect_shape(index, (channels,), what)
    return TensorType(query.dtype(), shape)


@rule("InstanceNormalization", least=3, most=3, attrs="epsilon consumed_inputs")
def _instance_norm(query: Query) -> TensorType:
    shape = query.expect_rank(0, 3)
    query.expect_shape(1, (shape[1],), "scale")
    query.expect_shape(2, (shape[1],), "B")
    return TensorType(same_dtype(query, range(3)), shape)


@rule("LayerNormalization", least=2, most=3, attrs="axis epsilon stash_type")
def _layer_norm(query: Query) -> list[TensorType]:
    shape = query.expect_rank(0, 1)
    axis = query.axis(query.int_attr("axis", -1), len(shape))
    for index, what in ((1, "Scale"), (2, "B")):
        if query.has(index) and math.prod(query.shape(index)) not in (1, math.prod(shape[axis:])):
            query.expect_shape(index, shape[axis:], what)
    statistics = TensorType(query.dtype(), shape[:axis] + (1,) * (len(shape) - axis))
    return [query.type(0), statistics, statistics]


@rule("GroupNormalization", least=3, most=3, attrs="epsilon num_groups stash_type")
def _group_norm(query: Query) -> TensorType:
    shape = query.expect_rank(0, 2)
    groups = query.int_attr("num_groups")
    if groups < 1 or shape[1] % groups:
        query.fail(f"{shape[1]} channels cannot be split into {groups} groups")
    # One scale per group in operator set 18, one per channel since 21.
    expected = (groups,) if query.opset < 21 else (shape[1],)
    query.expect_shape(1, expected, "scale")
    query.expect_shape(2, expected, "bias")
    return query.type(0)


@rule("LpNormalization", attrs="axis p")
def _lp_norm(query: Query) -> TensorType:
    query.axis(query.int_attr("axis", -1), len(query.shape()))
    if query.int_attr("p", 2) not in (1, 2):
        query.unsupported(f"p={query.int_attr('p')} is not implemented; known: 1, 2")
    return query.type(0)
