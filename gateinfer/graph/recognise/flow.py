"""Who makes and who reads each value of a straight graph, and which values hold the same elements in the same order."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

import numpy as np

from gateinfer.graph.ir import Graph, Node, TensorType

F32: Final = np.dtype(np.float32)

RESHAPES: Final = frozenset("Identity Reshape Squeeze Unsqueeze Flatten Expand Tile Concat Split Slice Gather".split())
"""Operators whose output, when it has as many elements as their input, may hold the same elements in the same order."""

MOVES: Final = frozenset("Slice Gather Split Transpose".split())
"""Operators that take elements out of one value."""

NUMBERED: Final = MOVES | frozenset("Concat Add Sub Mul Div Neg Sigmoid Tanh".split())
"""Operators of which two nodes on the same inputs count as one."""

Found = TypeVar("Found")

SMALL: Final = 64
"""Constants up to this size are compared by value, larger ones by name."""


class Flow:
    """The values of one graph.

    Every value has a root: the earliest value with the same elements in the same (C) order. Reshapes and repeated
    nodes disappear that way.

    Parameters
    ----------
    graph : of static types
    outer : graphs around it, innermost first, whose constants and types it sees
    """

    def __init__(self, graph: Graph, outer: tuple[Graph, ...] = ()) -> None:
        self._constants = [g.constants for g in (graph, *outer)]
        # Folding keeps the types of all values in the main graph; what a body says itself may be out of date.
        self._types = [g.types for g in (*outer[::-1], graph)]
        self.opset = graph.opset
        self.producers: dict[str, Node] = {}
        self.users: dict[str, list[Node]] = {}
        """Nodes that read a root, reshapes aside."""
        self._roots: dict[str, str] = {}
        self._numbers: dict[Hashable, str] = {}
        for node in graph.nodes:
            self._enter(node)

    def _enter(self, node: Node) -> None:
        for index, name in enumerate(node.outputs):
            if name:
                self.producers[name] = node
                self._roots[name] = self._find_root(node, index, name)
        if any(self._roots.get(o) == o for o in node.outputs):
            for source in {self.root(i) for i in node.inputs if i}:
                self.users.setdefault(source, []).append(node)

    # ---- values -----------------------------------------------------------------------------------------------------

    def root(self, name: str) -> str:
        """The earliest value with the elements of `name`."""
        return self._roots.get(name, name)

    def node(self, name: str) -> Node | None:
        """What computes the elements of `name`; None for inputs, constants and values of the graphs around."""
        return self.producers.get(self.root(name))

    def origin(self, name: str) -> str:
        """Where the elements of `name` are taken from, by slices and the like."""
        node = self.node(name)
        while node is not None and node.op in MOVES and not node.domain:
            name = node.input(0)
            node = self.node(name)
        return self.root(name)

    def const(self, name: str) -> np.ndarray | None:
        return _first(self._constants, name)

    def type(self, name: str) -> TensorType | None:
        return _first(self._types, name)

    def scalar(self, name: str) -> float | None:
        """The value of a constant with one element."""
        array = self.const(name)
        return float(array.reshape(())) if array is not None and array.size == 1 else None

    def shape(self, name: str) -> tuple[int, ...] | None:
        known = self.type(name)
        return known.extents if known is not None and known.is_static else None

    def size(self, name: str) -> int:
        """Number of elements; 0 when it is not known."""
        shape = self.shape(name)
        return 0 if shape is None else math.prod(shape)

    def is_float(self, name: str) -> bool:
        known = self.type(name)
        return known is not None and known.is_static and known.dtype == F32

    def operands(self, name: str, op: str) -> tuple[str, str] | None:
        """The inputs of the `op` node that computes `name`, if neither is stretched."""
        node = self.node(name)
        if node is None or node.op != op or node.domain or len(node.inputs) != 2:
            return None
        size = self.size(node.outputs[0])
        a, b = node.inputs
        return (a, b) if self.size(a) == self.size(b) == size else None

    # ---- roots ------------------------------------------------------------------------------------------------------

    def _find_root(self, node: Node, index: int, name: str) -> str:
        if node.domain or self.shape(name) is None:
            return name
        if self._keeps_order(node, name):
            sources = [i for i in node.inputs if self.size(i)] if node.op == "Concat" else node.inputs
            return self.root(sources[0])
        if node.op not in NUMBERED:
            return name
        key = self._number(node, index)
        return name if key is None else self._numbers.setdefault(key, name)

    def _keeps_order(self, node: Node, name: str) -> bool:
        """True when output `name` is an input in another shape."""
        if node.op == "Transpose":
            return self._moves_units(node)
        if node.op not in RESHAPES or not self.size(name):
            return False
        if node.op == "Concat":
            return sum(self.size(i) > 0 for i in node.inputs) == 1
        if self.size(node.input(0)) != self.size(name):
            return False
        if node.op == "Slice":
            parts = self.slices(node)
            return parts is not None and all((part.step or 1) > 0 for _, part in parts)
        return node.op != "Gather" or self.size(node.input(1)) == 1

    def _moves_units(self, node: Node) -> bool:
        shape = self.shape(node.input(0))
        if shape is None:
            return False
        moved = [axis for axis in self.perm(node, len(shape)) if shape[axis] != 1]
        return moved == sorted(moved)

    def _number(self, node: Node, index: int) -> Hashable | None:
        attrs = []
        for key, value in sorted(node.attrs.items()):
            if not isinstance(value, (int, float, str, bytes, list)):
                return None
            attrs.append((key, str(value)))
        return node.op, tuple(attrs), tuple(map(self._operand_key, node.inputs)), index

    def _operand_key(self, name: str) -> Hashable:
        array = self.const(name)
        if array is not None and array.size <= SMALL:
            return array.dtype.str, array.shape, array.tobytes()
        return self.root(name), self.shape(name)

    # ---- the attributes of views ------------------------------------------------------------------------------------

    @staticmethod
    def perm(node: Node, rank: int) -> list[int]:
        return [int(axis) for axis in node.attrs.get("perm") or range(rank - 1, -1, -1)]

    def slices(self, node: Node) -> list[tuple[int, slice]] | None:
        """(axis, slice) of a Slice node, axes that stay whole left out; None when they are not constant."""
        shape = self.shape(node.input(0))
        starts, ends = self._integers(node, 1, "starts"), self._integers(node, 2, "ends")
        if shape is None or starts is None or ends is None:
            return None
        axes = self._integers(node, 3, "axes") if self._has(node, 3, "axes") else list(range(len(starts)))
        steps = self._integers(node, 4, "steps") if self._has(node, 4, "steps") else [1] * len(starts)
        if axes is None or steps is None:
            return None
        axes = [axis % len(shape) for axis in axes]
        parts = [(a, _slice(shape[a], s, e, step)) for a, s, e, step in zip(axes, starts, ends, steps, strict=True)]
        return [(axis, part) for axis, part in parts if part != slice(0, shape[axis], 1)]

    def split_range(self, node: Node, index: int) -> tuple[int, slice] | None:
        """(axis, slice) of output `index` of a Split node."""
        shape = self.shape(node.input(0))
        if shape is None:
            return None
        axis = int(node.attrs.get("axis", 0)) % len(shape)
        extents = [self.shape(name) if name else None for name in node.outputs[: index + 1]]
        if any(extent is None for extent in extents):
            return None
        ends = np.cumsum([0] + [extent[axis] for extent in extents if extent])
        return axis, slice(int(ends[-2]), int(ends[-1]), 1)

    def _has(self, node: Node, index: int, attr: str) -> bool:
        return bool(node.input(index)) or attr in node.attrs

    def _integers(self, node: Node, index: int, attr: str) -> list[int] | None:
        value: Any = self.const(node.input(index)) if node.input(index) else node.attrs.get(attr)
        return None if value is None else [int(v) for v in np.asarray(value).ravel()]


def _first(layers: Iterable[Mapping[str, Found]], name: str) -> Found | None:
    """What the first layer that knows `name` says. As ChainMap.get, which is the slowest part of recognition."""
    for layer in layers:
        if name in layer:
            return layer[name]
    return None


def _slice(extent: int, start: int, end: int, step: int) -> slice:
    """A slice as ONNX clamps it."""
    start, end, step = slice(start, end, step).indices(extent)
    return slice(start, None if end < 0 else end, step)


def ways(pair: tuple[str, str] | None) -> Iterator[tuple[str, str]]:
    """Both orders of a pair; nothing for None."""
    if pair is not None:
        yield pair
        yield pair[::-1]
