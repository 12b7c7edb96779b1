"""Element-wise operators and their broadcasting."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from gateinfer.errors import ModelError
from gateinfer.graph.infer.registry import Query, Shape, rule
from gateinfer.graph.ir import TensorType

BOOL: Final = np.dtype(bool)
_LEGACY_BROADCAST: Final = 7
"""Before this operator set, Add and its kin broadcast only where attributes said so."""

_DTYPES: Final = {
    1: "f4", 2: "u1", 3: "i1", 4: "u2", 5: "i2", 6: "i4", 7: "i8", 9: "?", 10: "f2", 11: "f8", 12: "u4", 13: "u8",
}  # fmt: skip


def broadcast(query: Query, shapes: Iterable[Shape]) -> Shape:
    """The common shape of operands that stretch along extents of 1."""
    listed = list(shapes)
    if listed.count(listed[0]) == len(listed):
        return listed[0]
    rank = max(map(len, listed))
    result = []
    for extents in zip(*((1,) * (rank - len(s)) + s for s in listed), strict=True):
        wide = {e for e in extents if e != 1}
        if len(wide) > 1:
            query.fail(f"operands of shapes {', '.join(str(list(s)) for s in listed)} do not broadcast")
        result.append(wide.pop() if wide else 1)
    return tuple(result)


def same_dtype(query: Query, indices: Iterable[int]) -> np.dtype:
    """The one element type that the inputs `indices` share."""
    found = {i: query.dtype(i) for i in indices if query.has(i)}
    first = next(iter(found.values()))
    for index, dtype in found.items():
        if dtype != first:
            query.fail(f"input {index} ({query.name(index)}) has element type {dtype}, expected {first}")
    return first


def dtype_attribute(query: Query, name: str, default: int | None = None) -> np.dtype:
    """The element type that attribute `name` spells as a number."""
    value = query.int_attr(name) if default is None else query.int_attr(name, default)
    if value not in _DTYPES:
        query.unsupported(f"{name}={value} is no element type that is implemented")
    return np.dtype(_DTYPES[value])


def _require(query: Query, dtype: np.dtype, kinds: str) -> None:
    if dtype.kind not in kinds:
        query.fail(f"element type {dtype} is not allowed here")


@rule("Sqrt", "Exp", "Log", "Sigmoid", "Tanh", "Softsign", "Softplus", "Erf", "Sin", "Cos", "Tan", "Asin", "Acos",
      "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Ceil", "Floor", "Round", "Reciprocal", "HardSwish", "Mish",
      attrs="consumed_inputs")  # fmt: skip
def _float_unary(query: Query) -> TensorType:
    _require(query, query.dtype(), "f")
    return query.type(0)


@rule("Neg", "Abs", "Sign", "Relu", attrs="consumed_inputs")
def _number_unary(query: Query) -> TensorType:
    _require(query, query.dtype(), "fiu")
    return query.type(0)


@rule("LeakyRelu", "Elu", "ThresholdedRelu", "Celu", attrs="alpha consumed_inputs")
@rule("HardSigmoid", attrs="alpha beta consumed_inputs")
@rule("Selu", attrs="alpha gamma consumed_inputs")
@rule("Swish", attrs="alpha")
def _float_parametric(query: Query) -> TensorType:
    for name in ("alpha", "beta", "gamma"):
        query.float_attr(name, 0.0)
    _require(query, query.dtype(), "f")
    return query.type(0)


@rule("Gelu", attrs="approximate")
def _gelu(query: Query) -> TensorType:
    query.choice("approximate", "none", ("none", "tanh"))
    _require(query, query.dtype(), "f")
    return query.type(0)


@rule("Identity")
def _identity(query: Query) -> TensorType:
    return query.type(0)


@rule("PRelu", least=2, most=2, attrs="consumed_inputs")
def _prelu(query: Query) -> TensorType:
    """The slope broadcasts to x, never the other way round."""
    if broadcast(query, (query.shape(0), query.shape(1))) != query.shape(0):
        query.fail(f"slope of shape {list(query.shape(1))} does not broadcast to {list(query.shape(0))}")
    return TensorType(same_dtype(query, (0, 1)), query.shape(0))


def _binary_shape(query: Query) -> Shape:
    if query.opset >= _LEGACY_BROADCAST and not query.node.attrs.keys().isdisjoint(("axis", "broadcast")):
        raise ModelError(f"{query.node.label()}: axis and broadcast left the operator with set {_LEGACY_BROADCAST}")
    if query.int_attr("broadcast", 0) and "axis" in query.node.attrs:
        query.unsupported("axis of operator sets before 7 is not implemented")
    return broadcast(query, (query.shape(0), query.shape(1)))


@rule("Add", "Sub", "Mul", "Div", least=2, most=2, attrs="axis broadcast consumed_inputs")
def _arithmetic(query: Query) -> TensorType:
    dtype = same_dtype(query, (0, 1))
    _require(query, dtype, "fiu")
    return TensorType(dtype, _binary_shape(query))


@rule("Pow", least=2, most=2, attrs="axis broadcast")
def _pow(query: Query) -> TensorType:
    """The exponent may have a type of its own."""
    return TensorType(query.dtype(0), _binary_shape(query))


@rule("Mod", least=2, most=2, attrs="fmod")
def _mod(query: Query) -> TensorType:
    query.int_attr("fmod", 0)
    return TensorType(same_dtype(query, (0, 1)), broadcast(query, (query.shape(0), query.shape(1))))


@rule("BitShift", least=2, most=2, attrs="direction")
def _bit_shift(query: Query) -> TensorType:
    return TensorType(same_dtype(query, (0, 1)), broadcast(query, (query.shape(0), query.shape(1))))


@rule("Min", "Max", "Sum", "Mean", least=1, most=1024, attrs="consumed_inputs")
def _variadic(query: Query) -> TensorType:
    count = range(len(query.node.inputs))
    dtype = same_dtype(query, count)
    _require(query, dtype, "fiu")
    return TensorType(dtype, broadcast(query, [query.shape(i) for i in count]))


@rule("Equal", least=2, most=2, attrs="axis broadcast")
@rule("Less", "LessOrEqual", "Greater", "GreaterOrEqual", least=2, most=2, attrs="axis broadcast")
def _compare(query: Query) -> TensorType:
    same_dtype(query, (0, 1))
    return TensorType(BOOL, _binary_shape(query))


@rule("And", "Or", "Xor", least=2, most=2, attrs="axis broadcast")
def _logical(query: Query) -> TensorType:
    _require(query, same_dtype(query, (0, 1)), "b")
    return TensorType(BOOL, _binary_shape(query))


@rule("Not")
def _not(query: Query) -> TensorType:
    _require(query, query.dtype(), "b")
    return query.type(0)


@rule("IsNaN")
@rule("IsInf", attrs="detect_negative detect_positive")
def _is_special(query: Query) -> TensorType:
    return TensorType(BOOL, query.shape())


@rule("Where", least=3, most=3)
def _where(query: Query) -> TensorType:
    _require(query, query.dtype(0), "b")
    return TensorType(same_dtype(query, (1, 2)), broadcast(query, [query.shape(i) for i in range(3)]))


@rule("Clip", least=1, most=3, attrs="min max consumed_inputs")
def _clip(query: Query) -> TensorType:
    """The limits are attributes before operator set 11 and scalar inputs since."""
    if query.opset >= 11 and query.node.attrs:
        raise ModelError(f"{query.node.label()}: min and max are inputs since operator set 11, not attributes")
    same_dtype(query, range(len(query.node.inputs)))
    for index in (1, 2):
        if query.has(index) and query.shape(index) not in ((), (1,)):
            query.fail(f"limit {query.name(index)} must be a scalar, got shape {list(query.shape(index))}")
    return query.type(0)


@rule("Cast", attrs="to saturate round_mode")
def _cast(query: Query) -> TensorType:
    return TensorType(dtype_attribute(query, "to"), query.shape())


@rule("CastLike", least=2, most=2, attrs="saturate round_mode")
def _cast_like(query: Query) -> TensorType:
    return TensorType(query.dtype(1), query.shape())


@rule("Dropout", least=1, most=3, attrs="ratio seed is_test consumed_inputs")
def _dropout(query: Query) -> list[TensorType]:
    """Inference only: the input passes through. The mask is of bool since operator set 10, like the input before."""
    if query.has(2) and bool(np.any(query.constant(2, "training_mode"))):
        query.unsupported("training_mode is not implemented; export the model for inference")
    if query.opset < 7 and not query.int_attr("is_test", 0):
        query.unsupported("is_test=0 (training) is not implemented; export the model for inference")
    return [query.type(0), TensorType(BOOL if query.opset >= 10 else query.dtype(), query.shape())]
