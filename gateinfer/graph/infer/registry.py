"""The registry of shape rules, and what a rule sees of its node. All shapes are known numbers here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

import numpy as np

from gateinfer.errors import ModelError, ShapeError, UnsupportedOp
from gateinfer.graph.ir import Node, TensorType

Shape = tuple[int, ...]

MAX_VALUE_ELEMENTS: Final = 2**31
"""Elements of one value; a larger one is a corrupt or hostile shape."""

_REQUIRED: Final = object()


class Query:
    """One node with the types of its inputs and the values of those that are constant.

    `empty` says that some input of the graph has no elements, which results further down may follow.
    """

    __slots__ = ("empty", "node", "opset", "types", "values")

    def __init__(
        self,
        node: Node,
        types: Sequence[TensorType | None],
        values: Sequence[np.ndarray | None],
        opset: int,
        *,
        empty: bool = False,
    ) -> None:
        self.node = node
        self.types = types
        self.values = values
        self.opset = opset
        self.empty = empty

    def has(self, index: int) -> bool:
        """True when input `index` is given."""
        return index < len(self.types) and self.types[index] is not None

    def type(self, index: int) -> TensorType:
        found = self.types[index] if index < len(self.types) else None
        if found is None:
            raise ModelError(f"{self.node.label()}: input {index} is missing")
        return found

    def shape(self, index: int = 0) -> Shape:
        return self.type(index).extents

    def dtype(self, index: int = 0) -> np.dtype:
        return self.type(index).dtype

    def constant(self, index: int, what: str) -> np.ndarray:
        """The value of input `index`, which must be known when the program is built."""
        self.type(index)
        value = self.values[index]
        if value is None:
            raise UnsupportedOp(
                f'{self.node.label()}: its {what} (input "{self.node.input(index)}") depends on run-time values; '
                "pass the graph input it comes from as a constant keyword"
            )
        return value

    def integers(self, index: int, what: str) -> list[int]:
        """A constant one-dimensional (or scalar) input of integers."""
        value = self.constant(index, what)
        if value.ndim > 1 or value.dtype.kind not in "iu":
            self.fail(f"{what} must be a list of integers, got {value.dtype} {list(value.shape)}")
        return [int(v) for v in value.reshape(-1)]

    def integer(self, index: int, what: str) -> int:
        """A constant input of one integer."""
        values = self.integers(index, what)
        if len(values) != 1:
            self.fail(f"{what} must be one integer, got {len(values)} of them")
        return values[0]

    def integers_from(self, name: str, index: int, since: int, what: str) -> list[int] | None:
        """What older operator sets pass as attribute `name` and newer ones (from `since`) as input `index`, or None."""
        if self.opset < since:
            return self.ints_attr(name)
        if name in self.node.attrs:
            raise ModelError(f"{self.node.label()}: {name} is an input since operator set {since}, not an attribute")
        return self.integers(index, what) if self.has(index) else None

    def attr(self, name: str, default: Any = _REQUIRED) -> Any:
        value = self.node.attrs.get(name, default)
        if value is _REQUIRED:
            raise ModelError(f"{self.node.label()}: attribute {name} is missing")
        return value

    def int_attr(self, name: str, default: Any = _REQUIRED) -> int:
        value = self.attr(name, default)
        if value is not default and not isinstance(value, int):
            raise ModelError(f"{self.node.label()}: attribute {name} must be an integer, got {value!r}")
        return value

    def float_attr(self, name: str, default: Any = _REQUIRED) -> float:
        value = self.attr(name, default)
        if value is not default and not isinstance(value, (int, float)):
            raise ModelError(f"{self.node.label()}: attribute {name} must be a number, got {value!r}")
        return value

    def ints_attr(self, name: str, default: Any = None) -> list[int] | None:
        value = self.attr(name, default)
        if value is not default and not (isinstance(value, list) and all(isinstance(v, int) for v in value)):
            raise ModelError(f"{self.node.label()}: attribute {name} must be a list of integers, got {value!r}")
        return value

    def choice(self, name: str, default: str, allowed: Sequence[str]) -> str:
        """A text attribute; values that are not implemented are refused by name."""
        value = self.attr(name, default)
        if value not in allowed:
            self.unsupported(f"{name}={value!r} is not implemented; known: {', '.join(allowed)}")
        return value

    def axis(self, value: int, rank: int, what: str = "axis") -> int:
        """`value` counted from the front."""
        if not -rank <= value < rank:
            self.fail(f"{what} {value} does not exist in an operand of rank {rank}")
        return value + rank if value < 0 else value

    def axes(self, values: Sequence[int], rank: int) -> list[int]:
        found = [self.axis(v, rank) for v in values]
        if len(set(found)) < len(found):
            self.fail(f"axes {list(values)} name an axis twice")
        return found

    def expect_rank(self, index: int, least: int, most: int | None = None) -> Shape:
        shape = self.shape(index)
        if not least <= len(shape) <= (most or len(shape)):
            wanted = f"{least}" if most == least else f"{least} to {most}" if most else f"at least {least}"
            self.fail(f"input {index} ({self.name(index)}) must have rank {wanted}, got shape {list(shape)}")
        return shape

    def expect_shape(self, index: int, expected: Shape, what: str) -> None:
        if self.shape(index) != expected:
            self.fail(f"{what} ({self.name(index)}) must have shape {list(expected)}, got {list(self.shape(index))}")

    def name(self, index: int) -> str:
        return f'"{self.node.input(index)}"'

    def fail(self, text: str) -> NoReturn:
        raise ShapeError(f"{self.node.label()}: {text}")

    def unsupported(self, text: str) -> NoReturn:
        raise UnsupportedOp(f"{self.node.label()}: {text}")


Rule = Callable[[Query], "TensorType | list[TensorType]"]

_rules: dict[str, tuple[Rule, frozenset[str], int, int]] = {}


def rule(*ops: str, attrs: str = "", least: int = 1, most: int = 1) -> Callable[[Rule], Rule]:
    """Register a shape rule for `ops`, which know the attributes `attrs` and take `least` to `most` inputs."""

    def register(function: Rule) -> Rule:
        for op in ops:
            _rules[op] = (function, frozenset(attrs.split()), least, most)
        return function

    return register


def has_rule(node: Node) -> bool:
    """True when the types of `node`'s outputs can be inferred."""
    return node.domain == "" and node.op in _rules


def infer(
    node: Node,
    types: Sequence[TensorType | None],
    values: Sequence[np.ndarray | None],
    opset: int,
    *,
    empty: bool = False,
) -> list[TensorType]:
    """Types of the outputs of `node`.

    Parameters
    ----------
    types : of the inputs, all static; None for an omitted one.
    values : of the inputs that are constant.
    empty : some input of the whole graph has no elements.

    Raises
    ------
    ShapeError
        When the operands do not fit each other.
    UnsupportedOp
        For operators, attributes and attribute values without an implementation.
    """
    if not has_rule(node):
        domain = f"{node.domain}." if node.domain else ""
        raise UnsupportedOp(f"{node.label()}: operator {domain}{node.op} is not implemented")
    function, known, least, most = _rules[node.op]
    _check_signature(node, known, least, most)
    found = function(Query(node, types, values, opset, empty=empty))
    outputs = [found] if isinstance(found, TensorType) else found
    if len(outputs) < len(node.outputs):
        raise UnsupportedOp(f"{node.label()}: output {len(outputs)} is not implemented")
    for output in outputs:
        # A zero extent counts as one: the others must not overflow either.
        extents = output.extents
        if math.prod(filter(None, extents) if 0 in extents else extents) > MAX_VALUE_ELEMENTS:
            shape = list(extents)
            raise ModelError(f"{node.label()}: an output of shape {shape} exceeds {MAX_VALUE_ELEMENTS} elements")
    return outputs[: len(node.outputs)]


def _check_signature(node: Node, known: frozenset[str], least: int, most: int) -> None:
    if not node.attrs.keys() <= known:
        extra = ", ".join(sorted(node.attrs.keys() - known))
        raise UnsupportedOp(f"{node.label()}: attributes {extra} are not implemented")
    if not least <= len(node.inputs) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise ModelError(f"{node.label()}: expected {wanted} inputs, got {len(node.inputs)}")
    missing = [i for i in range(least) if not node.inputs[i]]
    if missing:
        raise ModelError(f"{node.label()}: input {missing[0]} is required")
