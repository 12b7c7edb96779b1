"""Builds neutral graphs node by node."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gateinfer.errors import ModelError
from gateinfer.graph.ir import Dim, Graph, Node, Port, TensorType

FLOAT = np.dtype(np.float32)
INDEX = np.dtype(np.int64)


@dataclass(frozen=True, slots=True)
class Signal:
    """What flows from layer to layer.

    Attributes
    ----------
    name : of the value in the graph.
    features : extent of the last axis; None for ids, which have no such axis.
    steps : extent of the time axis: "T" as in the input, None when a layer has changed it. Only if `in_time`.
    in_time : whether there is a time axis: [N, T, F], or [T, N, F] when time comes first, else [N, F].
    time_first : whether time is axis 0.
    """

    name: str
    features: int | None
    steps: Dim = "T"
    in_time: bool = True
    time_first: bool = False

    @property
    def shape(self) -> tuple[Dim, ...]:
        """Shape with the batch called N."""
        lead: tuple[Dim, ...] = ("N",)
        if self.in_time:
            lead = (self.steps, "N") if self.time_first else ("N", self.steps)
        return lead if self.features is None else (*lead, self.features)

    def to(self, name: str, **changes: Any) -> Signal:
        """The value that a layer makes of this one."""
        return replace(self, name=name, **changes)


class GraphBuilder:
    """Collects nodes, constants and states. All names begin with the layer that is being built."""

    def __init__(self) -> None:
        self.layer = ""
        """Name of the layer being built."""
        self.alone = False
        """True when only one layer of the model keeps state, whose names then need no prefix."""
        self.per_frame = False
        """True when every call is a frame of its own: time inside it is not the time a stream goes along."""
        self.unstreamable = ""
        """Why frames fed one by one cannot equal one long run, or nothing."""
        self._inputs: list[Port] = []
        self._outputs: list[Port] = []
        self._nodes: list[Node] = []
        self._constants: dict[str, np.ndarray] = {}
        self._defaults: dict[str, np.ndarray] = {}
        self._states: list[Port] = []
        self._counts: dict[str, int] = {}

    def enter(self, word: str) -> None:
        """Begins a layer: `word`, or word_2, word_3 when there are several."""
        self.layer = self._unique(word)

    def _unique(self, word: str) -> str:
        count = self._counts[word] = self._counts.get(word, 0) + 1
        return word if count == 1 else f"{word}_{count}"

    def fail(self, problem: str) -> ModelError:
        """The error for something wrong with the layer being built."""
        return ModelError(f'layer "{self.layer}": {problem}')

    def input(self, signal: Signal, dtype: np.dtype = FLOAT) -> Signal:
        self._inputs.append(Port(signal.name, TensorType(dtype, signal.shape)))
        return signal

    def constant(self, name: str, array: np.ndarray) -> str:
        """Enters an array as `layer.name`."""
        full = self._unique(f"{self.layer}.{name}")
        self._constants[full] = array
        return full

    def integers(self, name: str, *values: int) -> str:
        return self.constant(name, np.array(values, INDEX))

    def add(self, op: str, *inputs: str, **attrs: Any) -> str:
        """A node with one output; returns its name."""
        return self.add_node(op, inputs, 1, attrs)[0]

    def add_node(self, op: str, inputs: tuple[str, ...], outputs: int, attrs: dict[str, Any]) -> tuple[str, ...]:
        """A node called `layer.op`; returns the names of its outputs."""
        name = self._unique(f"{self.layer}.{op}")
        names = tuple(f"{name}:{i}" for i in range(outputs))
        self._nodes.append(Node(op, inputs, names, attrs, name=name))
        return names

    def state(self, name: str, shape: tuple[Dim, ...]) -> str:
        """A state input that starts from zeros of any batch size; `carry` gives what replaces it."""
        full = name if self.alone else f"{self.layer}_{name}"
        self._inputs.append(Port(full, TensorType(FLOAT, shape)))
        self._defaults[full] = np.zeros([d if isinstance(d, int) else 1 for d in shape], FLOAT)
        return full

    def carry(self, state: str, value: str) -> None:
        """Makes `value` the output that replaces `state` after each step, called state + "n"."""
        self._nodes.append(Node("Identity", (value,), (state + "n",), name=state + "n"))
        port = next(port for port in self._inputs if port.name == state)
        self._states.append(Port(state + "n", port.type))

    def output(self, signal: Signal, name: str, dtype: np.dtype = FLOAT) -> None:
        self._nodes.append(Node("Identity", (signal.name,), (name,), name=name))
        self._outputs.append(Port(name, TensorType(dtype, signal.shape)))

    def finish(self) -> Graph:
        """The graph: results first, then the states they leave behind."""
        return Graph(
            inputs=self._inputs,
            outputs=self._outputs + self._states,
            nodes=self._nodes,
            constants=self._constants,
            defaults=self._defaults,
            unstreamable=self.unstreamable,
        )
