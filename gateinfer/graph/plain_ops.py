"""Operators that one NumPy call computes: what shapes, indices and counters are made of.

Folding meets them by the hundred for every new shape, and `onnx.reference` takes 0.1 ms to set one up and longer than a
small model to import. Whatever is not plain stays with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, Final

import numpy as np

from gateinfer.graph.infer.reductions import reduce_axes
from gateinfer.graph.infer.registry import Query
from gateinfer.graph.infer.views import slice_ranges
from gateinfer.graph.ir import Node, TensorType

Values = Sequence[Any]
"""Arrays; None for an omitted input."""


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Toward zero for integers."""
    if a.dtype.kind == "f":
        return np.divide(a, b)
    quotient = np.floor_divide(a, b)
    return quotient + ((np.remainder(a, b) != 0) & ((a < 0) ^ (b < 0))).astype(quotient.dtype)


ELEMENTWISE: Final[dict[str, Callable[..., Any]]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": _divide, "Mod": np.mod, "Min": np.minimum,
    "Max": np.maximum, "Neg": np.negative, "Abs": np.abs, "Floor": np.floor, "Ceil": np.ceil, "Less": np.less,
    "LessOrEqual": np.less_equal, "Greater": np.greater, "GreaterOrEqual": np.greater_equal, "Equal": np.equal,
    "And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor, "Not": np.logical_not, "Where": np.where,
    "Sqrt": np.sqrt, "Pow": np.power,
}  # fmt: skip
"""By operator, the function of as many arguments as ARITY says."""

ARITY: Final = {"Neg": 1, "Abs": 1, "Floor": 1, "Ceil": 1, "Not": 1, "Sqrt": 1, "Where": 3}
"""Arguments of the elementwise operators that do not take two."""

_VARIADIC: Final = ("Min", "Max")


def is_plain(node: Node) -> bool:
    """True when `compute` knows `node`, of the default domain."""
    return (node.op in ELEMENTWISE or node.op in _OTHERS) and not node.attrs.get("fmod", 0)


def compute(node: Node, types: Sequence[TensorType], values: Values, opset: int) -> list[np.ndarray]:
    """The outputs of a plain node, of types as inferred."""
    other = _OTHERS.get(node.op)
    if other is not None:
        return other(node, types, values, opset)
    function = ELEMENTWISE[node.op]
    result = reduce(function, values) if node.op in _VARIADIC else function(*values)
    return [np.asarray(result).astype(types[0].dtype, copy=False)]


# ---- what moves elements, makes them, or sums products of them -------------------------------------------------------


def _reshape(_node: Node, types: Sequence[TensorType], values: Values, _opset: int) -> list[np.ndarray]:
    return [values[0].reshape(types[0].extents)]


def _cast(_node: Node, types: Sequence[TensorType], values: Values, _opset: int) -> list[np.ndarray]:
    return [values[0].astype(types[0].dtype)]


def _expand(_node: Node, types: Sequence[TensorType], values: Values, _opset: int) -> list[np.ndarray]:
    return [np.broadcast_to(values[0], types[0].extents)]


def _fill(node: Node, types: Sequence[TensorType], _values: Values, _opset: int) -> list[np.ndarray]:
    value = node.attrs.get("value")
    return [np.full(types[0].extents, 0 if value is None else value.reshape(-1)[0], types[0].dtype)]


def _range(_node: Node, types: Sequence[TensorType], values: Values, _opset: int) -> list[np.ndarray]:
    return [np.arange(*(value.item() for value in values)).astype(types[0].dtype)]


def _gather(node: Node, _types: Sequence[TensorType], values: Values, _opset: int) -> list[np.ndarray]:
    return [np.take(values[0], values[1], axis=node.attrs.get("axis", 0))]


def _gather_elements(node: Node, _types: Sequence[TensorType], values: Values, _opset: int) -> list[np.ndarray]:
    data, index = values
    axis = node.attrs.get("axis", 0) % data.ndim
    fitting = tuple(slice(None if i == axis else extent) for i, extent in enumerate(index.shape))
    return [np.take_along_axis(data[fitting], index, axis)]


def _concat(node: Node, _types: Sequence[TensorType], values: Values, _opset: int) -> list[np.ndarray]:
    return [np.concatenate(values, axis=node.attrs.get("axis", 1))]


def _transpose(node: Node, _types: Sequence[TensorType], values: Values, _opset: int) -> list[np.ndarray]:
    return [np.transpose(values[0], node.attrs.get("perm") or None)]


def _slice(node: Node, _types: Sequence[TensorType], values: Values, opset: int) -> list[np.ndarray]:
    kept = slice_ranges(_query(node, values, opset))
    # A range that runs down to the first element stops at -1, which a slice would count from the end.
    return [values[0][tuple(slice(r.start, r.stop if r.stop >= 0 else None, r.step) for r in kept)]]


def _matmul(_node: Node, _types: Sequence[TensorType], values: Values, _opset: int) -> list[np.ndarray]:
    return [np.matmul(*values)]


def _split(node: Node, types: Sequence[TensorType], values: Values, _opset: int) -> list[np.ndarray]:
    axis = node.attrs.get("axis", 0)
    ends = np.cumsum([found.extents[axis] for found in types])
    return np.split(values[0], ends, axis)[: len(types)]  # what is left may be parts that have no name


def _reduce(node: Node, types: Sequence[TensorType], values: Values, opset: int) -> list[np.ndarray]:
    axes = tuple(reduce_axes(_query(node, values, opset)))
    return [_REDUCED[node.op].reduce(values[0], axis=axes, dtype=types[0].dtype).reshape(types[0].extents)]


def _query(node: Node, values: Values, opset: int) -> Query:
    given = [None if value is None else TensorType(value.dtype, value.shape) for value in values]
    return Query(node, given, values, opset)


_REDUCED: Final = {"ReduceProd": np.multiply, "ReduceSum": np.add}
"""Those that have a result where nothing is reduced; the others stay with `onnx.reference`."""

_OTHERS: Final = {
    "Reshape": _reshape, "Squeeze": _reshape, "Unsqueeze": _reshape, "Flatten": _reshape, "Cast": _cast,
    "CastLike": _cast, "Expand": _expand, "ConstantOfShape": _fill, "Range": _range, "Gather": _gather,
    "GatherElements": _gather_elements, "Concat": _concat, "Transpose": _transpose, "Slice": _slice, "Split": _split,
    "MatMul": _matmul, **dict.fromkeys(_REDUCED, _reduce),
}  # fmt: skip
