"""Programs of a model by input shapes: made on first use, kept in a bounded cache, sharing packed weights."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gateinfer import islands
from gateinfer._core import RunCalls
from gateinfer.errors import ModelError, UnsupportedOp
from gateinfer.graph.float32 import in_float32
from gateinfer.graph.fold import specialize
from gateinfer.graph.ir import RECURRENT, Graph, Node, TensorType
from gateinfer.graph.lift import Lift, lift_states
from gateinfer.graph.recognise import WeightStore, compacted, recognise
from gateinfer.lower import Lowered, lower
from gateinfer.lower.target import Target

if TYPE_CHECKING:
    from gateinfer.stages import Staged

_Key = tuple[Hashable, Hashable, Hashable]
"""(shapes, constants, carried pairs)."""

MAX_PLANS = 32
"""Programs kept per model; the one used longest ago goes first."""

MAX_PLAN_BYTES = 8 << 30
"""Memory one stream of one plan may take. More is surely a wrong shape, and is refused before it is allocated."""

FREE_PLAN_BYTES, MAX_GROWTH = 64 << 20, 256
"""Beyond the first, memory may be that many times what the caller feeds and the file holds: a few numbers in a file
must not make gigabytes."""


@dataclass(slots=True)
class Plan:
    """A specialised graph and its program."""

    graph: Graph
    lowered: Lowered | Staged
    calls: RunCalls = field(init=False)

    def __post_init__(self) -> None:
        self.calls = RunCalls(self.lowered.inputs, self.lowered.outputs, self.lowered.new_runner)


class PlanCache:
    """Plans of one graph for one target. Safe to use from several threads.

    `file_elements`: of the weights before folding, a bound of what plans may need. `fallback`: islands may be used.
    """

    def __init__(self, graph: Graph, target: Target, file_elements: int, *, fallback: bool = False) -> None:
        self.graph = graph
        self.target = target
        self.fallback = fallback
        self.weights: dict[Hashable, object] = {}
        self.cells = WeightStore()
        self._plans: OrderedDict[tuple[_Key, Hashable], Plan] = OrderedDict()
        self._last_graph: tuple[Hashable, Graph] | None = None
        """The search for states looks at the graph that a plan is made of next."""
        self._lock = threading.Lock()
        self._file_elements = file_elements
        self._process = os.getpid()

    def get(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        values: Mapping[str, np.ndarray],
        states: Sequence[tuple[str, str]] = (),
        lift: Lift | None = None,
    ) -> Plan:
        """The plan for inputs of these shapes and constant inputs of these values; `states` are carried after a step.

        `lift` adds state ports to the graph, which are carried as well.

        Raises
        ------
        ShapeError, UnsupportedOp, ModelError
            The graph cannot be specialised or lowered for these shapes.
        """
        key = _key(shapes, values, states), lift and (lift.axes, lift.ends, lift.loops)
        plan = self._plans.get(key)
        if plan is not None:
            return plan
        with self._own_lock():
            if key not in self._plans:
                self._plans[key] = self._make(shapes, values, states, lift)
                if len(self._plans) > MAX_PLANS:
                    self._plans.popitem(last=False)
            return self._plans[key]

    def _own_lock(self) -> threading.Lock:
        """The lock; a new one in a forked child, where the thread that may have held the old one does not exist."""
        if self._process != os.getpid():
            self._lock, self._process = threading.Lock(), os.getpid()
        return self._lock

    def _make(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        values: Mapping[str, np.ndarray],
        states: Sequence[tuple[str, str]],
        lift: Lift | None,
    ) -> Plan:
        if lift is None:
            graph = self.specialize(self.graph, shapes, values)
        else:
            graph = self.specialize(lift.prepared(self.graph), {**shapes, **lift.loop_shapes}, values)
            graph = lift_states(graph, lift)
            states = (*states, *lift.pairs)
        # Each value first, because lowering may need memory in proportion to one; then what they take together.
        limit = _memory_limit(graph, self._file_elements)
        produced = (graph.types.get(name) for node in graph.nodes for name in node.outputs)
        _check_size(graph, max((_bytes(found) for found in produced if found is not None), default=0), limit)
        try:
            lowered = self._lower(compacted(graph), states)
        except MemoryError as error:
            raise ModelError(f"these shapes need more memory than there is: {error}") from None
        _check_size(graph, lowered.program.work_bytes + sum(lowered.program.external_bytes.values()), limit)
        return Plan(graph, lowered)

    def specialize(
        self, graph: Graph, shapes: Mapping[str, tuple[int, ...]], values: Mapping[str, np.ndarray]
    ) -> Graph:
        """`graph`, which is the model's but for free extents of inputs, as programs of the model are made from it."""
        wanted = _key(shapes, values, ())[:2]
        if graph is self.graph:
            if self._last_graph and self._last_graph[0] == wanted:
                return self._last_graph[1]
            for (made_for, lift), plan in list(self._plans.items()):
                if lift is None and made_for[:2] == wanted:
                    return plan.graph
        folded = specialize(graph, shapes, values, self._foreign_types if self.fallback else None)
        found = recognise(in_float32(folded), self.cells)
        if graph is self.graph:
            self._last_graph = wanted, found
        return found

    def _lower(self, graph: Graph, states: Sequence[tuple[str, str]]) -> Lowered | Staged:
        """One native program, or stages once nodes are refused; what a stage refuses in turn joins the islands."""
        foreign: set[str] = set()
        while True:
            try:
                if foreign:
                    from gateinfer.stages import lower_in_stages

                    return lower_in_stages(graph, foreign, self.target, self.weights, states)
                return lower(graph, self.target, self.weights, states)
            except UnsupportedOp as refusal:
                recurrent = {n.outputs for n in graph.nodes if n.op in RECURRENT}
                if (
                    not self.fallback
                    or foreign.issuperset(refusal.nodes)
                    or any(name in outputs for name in refusal.nodes for outputs in recurrent)
                ):
                    raise
                foreign.update(refusal.nodes)

    def _foreign_types(
        self, nodes: list[Node], types: Mapping[str, TensorType], values: Mapping[str, np.ndarray]
    ) -> list[TensorType]:
        return islands.foreign_types(nodes, types, values, self.graph.opset, self.graph.domains)


def _bytes(found: TensorType) -> int:
    return found.size * found.dtype.itemsize if found.is_static else 0


def _memory_limit(graph: Graph, file_elements: int) -> int:
    given = sum(_bytes(port.type) for port in graph.inputs) + file_elements * 4
    return min(FREE_PLAN_BYTES + MAX_GROWTH * given, MAX_PLAN_BYTES)


def _check_size(graph: Graph, size: int, limit: int) -> None:
    if size > limit:
        shapes = {port.name: port.shape for port in graph.inputs}
        raise ModelError(
            f"these shapes need {size / 2**30:.2f} GiB of memory, at most {limit / 2**30:.2f} are allowed for inputs "
            f"and weights of this size; inputs: {shapes}"
        )


def _key(
    shapes: Mapping[str, tuple[int, ...]], values: Mapping[str, np.ndarray], states: Sequence[tuple[str, str]]
) -> _Key:
    constants = tuple((name, v.dtype.str, v.shape, v.tobytes()) for name, v in sorted(values.items()))
    return tuple(sorted(shapes.items())), constants, tuple(states)
