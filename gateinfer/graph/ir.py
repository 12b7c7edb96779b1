"""The neutral graph: what every loader produces and every pass reads. NumPy and the standard library only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

Dim = int | str | None
"""An extent: known, named (equal names are equal extents), or unknown."""

_KNOWN: Final = frozenset({int})

UNKNOWN_DTYPE: Final = np.dtype("V")
"""Stands for an element type the file leaves out, as it may for outputs and inside sub-graphs."""


RECURRENT: Final = ("LSTM", "GRU", "RNN")
"""The recurrent operators of the default domain."""


class TensorType(NamedTuple):
    """Element type and shape of a value. `shape` is None when not even the rank is known."""

    dtype: np.dtype
    shape: tuple[Dim, ...] | None

    @property
    def is_static(self) -> bool:
        """True when every extent is a number."""
        return self.shape is not None and _KNOWN.issuperset(map(type, self.shape))

    @property
    def extents(self) -> tuple[int, ...]:
        """The shape of a static type."""
        return self.shape  # type: ignore[return-value]  # callers have made sure of is_static

    @property
    def size(self) -> int:
        """Elements of a static type."""
        return math.prod(self.extents)


SEQUENCE: Final = TensorType(UNKNOWN_DTYPE, None)
"""Type of the values of a specialised graph that are lists of tensors; all others are static there."""


@dataclass(frozen=True, slots=True)
class Port:
    """A named graph input or output."""

    name: str
    type: TensorType

    @property
    def shape(self) -> tuple[Dim, ...] | None:
        return self.type.shape

    @property
    def dtype(self) -> np.dtype:
        return self.type.dtype


@dataclass(frozen=True, slots=True)
class Origin:
    """What a node was before a pass recognised it.

    Attributes
    ----------
    ops : (operator, how many) of the nodes it replaces
    is_open : True when no input is the previous state for sure: the figures are right, but say nothing about h
    """

    ops: tuple[tuple[str, int], ...]
    is_open: bool = False

    def __str__(self) -> str:
        listed = ", ".join(f"{op} x{count}" if count > 1 else op for op, count in self.ops)
        return f"recognised from {sum(count for _, count in self.ops)} nodes: {listed}"


@dataclass(slots=True)
class Node:
    """One operator: ONNX names, the default domain spelled "". An omitted input or output is ""."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: dict[str, Any] = field(default_factory=dict)
    """Values are int, float, str, bytes, ndarray, Graph, or lists of these."""
    domain: str = ""
    name: str = ""
    origin: Origin | None = None
    """Set by the passes that make one node out of several."""

    def input(self, index: int) -> str:
        """The name at `index`, or "" when the input is omitted."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def output(self, index: int) -> str:
        """The name at `index`, or "" when the output is omitted."""
        return self.outputs[index] if index < len(self.outputs) else ""

    def changed(
        self,
        *,
        inputs: tuple[str, ...] | None = None,
        outputs: tuple[str, ...] | None = None,
        attrs: dict[str, Any] | None = None,
    ) -> Node:
        """The node with other inputs, outputs or attributes: what passes do most, and `dataclasses.replace` slowly."""
        return Node(
            self.op,
            self.inputs if inputs is None else inputs,
            self.outputs if outputs is None else outputs,
            self.attrs if attrs is None else attrs,
            self.domain,
            self.name,
            self.origin,
        )

    def label(self) -> str:
        """How errors name this node: `LSTM node "lstm_0"`, or by its first output when it has no name."""
        called = self.name or next((o for o in self.outputs if o), "?")
        return f'{self.op} node "{called}"'


@dataclass(slots=True)
class Graph:
    """Nodes in execution order between named inputs and outputs."""

    inputs: list[Port]
    outputs: list[Port]
    nodes: list[Node]
    constants: dict[str, np.ndarray]
    opset: int = 22
    """Version of the default operator set."""
    defaults: dict[str, np.ndarray] = field(default_factory=dict)
    """Inputs that also have an initializer: used when the caller feeds nothing."""
    types: dict[str, TensorType] = field(default_factory=dict)
    """Types of all values; complete and static after `specialize`."""
    name: str = ""
    domains: dict[str, int] = field(default_factory=dict)
    """Versions of other operator sets by domain."""
    unstreamable: str = ""
    """Why frames fed one by one cannot equal one long run, where whoever built the graph knows."""


def first_output(node: Node) -> str:
    """The first output that is there: what a node is known by inside of a graph."""
    return next(name for name in node.outputs if name)


Shapes = Mapping[str, tuple[int, ...]]


def subgraphs(node: Node) -> list[Graph]:
    """The graphs among a node's attributes."""
    found: list[Graph] = []
    for value in node.attrs.values():
        if isinstance(value, Graph):
            found.append(value)
        elif isinstance(value, list):
            found += [v for v in value if isinstance(v, Graph)]
    return found


def all_nodes(graph: Graph) -> Iterator[Node]:
    """The nodes of `graph` in order, those in the sub-graphs of a node before it."""
    for node in graph.nodes:
        for inner in subgraphs(node):
            yield from all_nodes(inner)
        yield node
