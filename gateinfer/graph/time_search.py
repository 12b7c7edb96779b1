"""Finds the time axis of the frames and the recurrent nodes along it, and makes sure that nothing else mixes over it.

All of this looks at graphs specialised for two lengths: there the shapes are known, and so is what depends on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn

import numpy as np

from gateinfer.errors import GateInferError, ShapeError, StateMismatch
from gateinfer.graph.checks import definitions
from gateinfer.graph.ir import Dim, Graph, Node, Shapes, all_nodes, first_output
from gateinfer.graph.lift import (
    SLOTS,
    Axes,
    End,
    Lift,
    R,
    Specialize,
    X,
    constant_value,
    free_slots,
    opened,
    recurrent_nodes,
    stray_nodes,
)
from gateinfer.graph.lift_loops import LoopEnd, find_loop_ends, open_loops
from gateinfer.graph.live import downstream
from gateinfer.graph.recurrent_attrs import parse_recurrent
from gateinfer.graph.states import H0, RECURRENT, State
from gateinfer.graph.time_axis import Tracker
from gateinfer.graph.values import DECIDING

PROBES = (29, 31, 37, 41, 43, 47, 53, 59)
"""Lengths to track at: two primes that are no extent of the frames."""

REMEDY = "use run() on whole sequences, or export the model with its state and caches as inputs and outputs"

KEEPING = (*RECURRENT, "Loop", "Scan")
"""Operators with state."""

LENS = 4
"""Input of a recurrent node that follows the length."""


class Search:
    """Of one graph, for frames of these shapes. The arguments are those of `lift.find_lift`."""

    def __init__(
        self,
        graph: Graph,
        states: Sequence[State],
        shapes: Shapes,
        values: Mapping[str, np.ndarray],
        specialize: Specialize,
    ) -> None:
        self.graph = graph
        self.shapes = dict(shapes)
        self.values = values
        self.specialize = specialize
        self.held = {state.input for state in states}
        self.carried = {state.output for state in states}
        self.outputs = [port.name for port in graph.outputs if port.name not in self.carried]
        self.frames = [p for p in graph.inputs if p.name in shapes and p.name not in self.held]
        self.baked: dict[tuple[tuple[str, int], ...], int] = {}
        """Lengths that the file fixes without declaring them."""
        self.has_free = False
        """Recurrent nodes along time start from no state input."""
        self.taken = set(definitions(graph)) | {port.name for port in graph.outputs}
        fed = downstream(nodes := list(all_nodes(graph)), self.held)
        self.has_wired = any(n.op in RECURRENT and set(n.inputs[H0:]) & fed for n in nodes)

    def find(self) -> Lift | None:
        if self.has_wired and not self._any_beside_the_wired():
            return None
        axes = self._time_axes()
        if axes is None:
            return None
        loops, initial = find_loop_ends(self.graph, lambda graph: self._constants(graph, axes), self._fresh)
        if not loops and not self.has_free:
            return None
        self.graph = open_loops(self.graph, loops)
        self.shapes |= {end.source: end.shape for end in loops}
        self.held |= {end.source for end in loops}
        self.carried |= {end.output for end in loops}
        length, (graph, tracker) = self._checked(axes)
        ends = tuple(self._ends(graph, tracker, axes))
        for end, node in ((end, recurrent_nodes(graph)[end.number]) for end in ends):
            start = constant_value(graph, node.input(SLOTS[end.kind][0]))
            if start is not None:
                initial[end.state.input] = start
        initial = {name: start for name, start in initial.items() if start.any()}
        flat = [State(e.source, e.source, e.output, self._loop_shape(e, axes), lifted=True) for e in loops]
        states = (*flat, *(end.state for end in ends))
        return Lift(tuple(axes.items()), length, len(recurrent_nodes(graph)), states, ends, loops, initial)

    def _constants(self, graph: Graph, axes: Axes) -> dict[str, np.ndarray]:
        """Outputs of `graph` that are constant and of one shape whatever the length."""
        made = [self._specialized(graph, axes, length).constants for length in self._lengths(axes)]
        names = [port.name for port in graph.outputs if all(port.name in constants for constants in made)]
        return {name: made[0][name] for name in names if made[0][name].shape == made[-1][name].shape}

    def _lengths(self, axes: Axes) -> list[int]:
        """Those to look at: of free extents two, of one the file fixes that first."""
        fixed = self._fixed(axes)
        return [fixed, fixed] if fixed else self._probes()

    def _fixed(self, axes: Axes) -> int:
        """The length that the file fixes, by its ports or only by its arithmetic (see `_look`), or 0."""
        name, axis = next(iter(axes.items()))
        declared = next(port.shape for port in self.frames if port.name == name)
        fixed = declared[axis] if declared else None
        return fixed if isinstance(fixed, int) and fixed > 1 else self.baked.get(tuple(axes.items()), 0)

    def _loop_shape(self, end: LoopEnd, axes: Axes) -> tuple[Dim, ...]:
        if not self._is_open(axes):
            return end.shape
        return (None, *end.shape[1:]) if len(end.shape) == 2 else (None,) * len(end.shape)

    def _any_beside_the_wired(self) -> bool:
        """True when a node without state inputs scans as many steps as one with them. One inside a frame does not."""
        graph = self._as_fed()
        fed = downstream(graph.nodes, self.held)
        strays = stray_nodes(graph, self.held, self.carried)
        steps: dict[bool, set[int]] = {True: set(), False: set()}
        for node in recurrent_nodes(graph):
            extent = graph.types[node.inputs[X]].extents[parse_recurrent(node).layout]
            wired = not any(free_slots(node, fed))
            steps[wired].add(extent)
            if id(node) in strays:
                steps[not wired].add(extent)
        return bool(steps[True] & steps[False])

    # ---- which axis is time ----

    def _time_axes(self) -> Axes | None:
        """The axes of the frames that recurrent nodes scan; with states in the file those its recurrent nodes scan."""
        ranked: list[tuple[tuple[bool, bool], Axes]] = []
        refusals: list[GateInferError] = []
        looked: list[str] | None = None
        for axes, extent in self._groups():
            if self.held and not self.has_wired and isinstance(extent, int):
                continue  # the file has caches: layers along a fixed axis work inside one frame
            try:
                scans = looked = self._look(axes)
            except GateInferError as error:
                refusals.append(error)
                continue
            if scans:
                ranked.append(((not isinstance(extent, int), not all(scans)), axes))
        if ranked:
            return _best(ranked)
        if self.held and not self.has_wired:
            return None
        if refusals and looked is None:
            self._refuse_shapes(refusals[0])
        listed = ", ".join(node.label() for node in all_nodes(self.graph) if node.op in KEEPING)
        frames = ", ".join(port.name for port in self.frames)
        raise StateMismatch(
            f"the model keeps its state inside ({listed}), and no axis of {frames or 'its inputs'} is the sequence "
            f"these nodes scan; {REMEDY}"
        )

    def _refuse_shapes(self, refusal: GateInferError) -> NoReturn:
        """Raises what is wrong with the frames as they were fed; `refusal` tells of a length that was only tried."""
        self._as_fed()
        frames = ", ".join(f"{port.name!r} {list(self.shapes[port.name])}" for port in self.frames)
        raise ShapeError(
            f"frames {frames} fit, but those of no other length do, so that the time axis cannot be told; {REMEDY}"
        ) from refusal

    def _as_fed(self) -> Graph:
        """The graph for the frames as they are, whatever length the file declares."""
        declared = ((port.name, axis, dim) for port in self.frames for axis, dim in enumerate(port.shape or ()))
        other = {n: axis for n, axis, dim in declared if isinstance(dim, int) and dim != self.shapes[n][axis]}
        return self.specialize(opened(self.graph, other), self.shapes, self.values)

    def _look(self, axes: Axes) -> list[str]:
        """As `_tracked`. Exporters may call an extent free that a Reshape fixes: then the frames have to have it."""
        try:
            return self._tracked(axes, self._lengths(axes)[0])
        except ShapeError:
            name, axis = next(iter(axes.items()))
            if self._fixed(axes) or (own := self.shapes[name][axis]) < 2:
                raise
            scans = self._tracked(axes, own)
            self.baked[tuple(axes.items())] = own
            return scans

    def _groups(self) -> list[tuple[Axes, Dim]]:
        """Axes of the frames that vary together, those with free extents first."""
        groups: dict[object, tuple[Axes, Dim]] = {}
        for port in self.frames:
            declared = port.shape or (None,) * len(self.shapes[port.name])
            for axis, dim in enumerate(declared):
                key = dim if isinstance(dim, str) else (dim, axis)
                axes, _ = groups.setdefault(key, ({}, dim))
                axes.setdefault(port.name, axis)
        return sorted(groups.values(), key=lambda group: isinstance(group[1], int))

    def _tracked(self, axes: Axes, length: int) -> list[str]:
        """Faults ("" for none) of the nodes that scan `axes`."""
        graph, tracker = self._track(axes, length)
        fed = downstream(graph.nodes, self.held)
        scans = tracker.scans
        if self.has_wired and all(any(free_slots(scan.node, fed)) for scan in scans):
            return []
        self.has_free |= any(any(free_slots(scan.node, fed)) for scan in scans)
        self.has_free |= not {id(scan.node) for scan in scans}.isdisjoint(self._strays(graph, axes))
        return [scan.fault for scan in scans]

    def _strays(self, graph: Graph, axes: Axes) -> set[int]:
        """`stray_nodes`, where the file takes any length. Frames of one length go from state to state as it says."""
        declared = [port.shape[axes[port.name]] for port in self.frames if port.name in axes and port.shape]
        return set() if any(isinstance(dim, int) for dim in declared) else stray_nodes(graph, self.held, self.carried)

    def _probes(self) -> list[int]:
        taken = {extent for shape in self.shapes.values() for extent in shape}
        return [length for length in PROBES if length not in taken][:2] or list(PROBES[:2])

    def _track(self, axes: Axes, length: int) -> tuple[Graph, Tracker]:
        graph = self._specialized(self.graph, axes, length)
        return graph, Tracker(graph, axes, self.held)

    def _specialized(self, graph: Graph, axes: Axes, length: int) -> Graph:
        shapes = dict(self.shapes)
        for name, axis in axes.items():
            shapes[name] = (*shapes[name][:axis], length, *shapes[name][axis + 1 :])
        return self.specialize(opened(graph, axes), shapes, self.values)

    # ---- whether anything mixes over it ----

    def _checked(self, axes: Axes) -> tuple[int, tuple[Graph, Tracker]]:
        """(the only length the file can run at or 0, graph and places), once nothing mixes over time."""
        name, axis = next(iter(axes.items()))
        fixed = self._fixed(axes)
        try:
            probes = [self._track(axes, length) for length in self._probes()]
            self._refuse(axes, self._fault(probes))
            return 0, probes[0]
        except GateInferError as error:
            if not fixed:
                if isinstance(error, StateMismatch):
                    raise
                tried = " and ".join(map(str, self._probes()))
                raise StateMismatch(
                    f"cannot be streamed along axis {axis} of {name!r} in chunks of any length (tried {tried} steps): "
                    f"{error}; {REMEDY}"
                ) from error
        only = self._track(axes, fixed)
        self._refuse(axes, only[1].fault_in(self.outputs))
        return fixed, only

    def _fault(self, probes: list[tuple[Graph, Tracker]]) -> str:
        for _, tracker in probes:
            if fault := tracker.fault_in(self.outputs):
                return fault
        return _depends_on_length(probes[0], probes[1])

    def _refuse(self, axes: Axes, fault: str) -> None:
        if fault:
            where = ", ".join(f"axis {axis} of {name!r}" for name, axis in axes.items())
            raise StateMismatch(f"{fault} ({where}), so frames fed one by one could not equal one long run; {REMEDY}")

    # ---- what is lifted ----

    def _ends(self, graph: Graph, tracker: Tracker, axes: Axes) -> Iterator[End]:
        fed = downstream(graph.nodes, self.held)
        scanning = {id(scan.node) for scan in tracker.scans}
        self.taken |= graph.types.keys()
        strays = self._strays(graph, axes) & scanning
        for node in recurrent_nodes(graph):
            if id(node) in strays:
                raise StateMismatch(
                    f"{node.label()} starts every chunk from the state {node.input(H0)!r}, and what it ends with is no "
                    f"state output, so that chunks could not equal one long run; {REMEDY}"
                )
        for number, node in enumerate(recurrent_nodes(graph)):
            for kind in free_slots(node, fed) if id(node) in scanning else ():
                start = node.input(SLOTS[kind][0])
                if start and constant_value(graph, start) is None:
                    raise StateMismatch(
                        f"{node.label()} starts from {start!r}, which is computed from the frames; pass the input it "
                        f"comes from as a constant, or {REMEDY}"
                    )
                yield self._end(graph, node, number, kind, axes)

    def _end(self, graph: Graph, node: Node, number: int, kind: str, axes: Axes) -> End:
        layout = parse_recurrent(node).layout
        rows: Dim = graph.types[node.inputs[X]].extents[1 - layout]
        hidden = graph.types[node.inputs[R]].extents[2]
        if any(
            not isinstance(d, int) for p in self.frames for i, d in enumerate(p.shape or ("",)) if axes.get(p.name) != i
        ):
            rows = None
        shape = (rows, 1, hidden) if layout else (1, rows, hidden)
        called = node.name or first_output(node)
        source = self._fresh(f"{called}.{kind}")
        output = self._fresh(f"{called}.{kind}n")
        return End(number, kind, State(source, source, output, shape, lifted=True), 1 - layout)

    def _fresh(self, name: str) -> str:
        unique, count = name, 1
        while unique in self.taken:
            count += 1
            unique = f"{name}~{count}"
        self.taken.add(unique)
        return unique

    def _is_open(self, axes: Axes) -> bool:
        """True when an extent other than time is only known from the first frame."""
        shapes = ((axes.get(port.name), port.shape) for port in self.frames)
        return any(
            shape is None or not all(isinstance(dim, int) for axis, dim in enumerate(shape) if axis != time)
            for time, shape in shapes
        )


def _best(ranked: list[tuple[tuple[bool, bool], Axes]]) -> Axes:
    """Free extents before fixed ones, then axes that reach a recurrent node intact."""
    ranked = sorted(ranked, key=lambda entry: entry[0], reverse=True)
    best = [axes for rank, axes in ranked if rank == ranked[0][0]]
    if len(best) > 1 and ranked[0][0][1]:
        listed = " or ".join(", ".join(f"axis {a} of {n!r}" for n, a in axes.items()) for axes in best)
        raise StateMismatch(f"time may be {listed}: recurrent nodes scan both; {REMEDY}")
    return best[0]


def _depends_on_length(one: tuple[Graph, Tracker], two: tuple[Graph, Tracker]) -> str:
    """Names a node that computes with the number of steps itself, such as a mean spelled as sum / length."""
    (graph, tracker), (other, _) = one, two
    for node in graph.nodes:
        if not any(name in tracker.places for name in node.inputs):
            continue
        structural = (1,) if node.op.startswith("Reduce") or node.op == "Gather" else DECIDING.get(node.op, ())
        structural = (LENS,) if node.op in RECURRENT else structural
        data = [name for i, name in enumerate(node.inputs) if i not in structural]
        if not all(_same_value(graph.constants.get(name), other.constants.get(name)) for name in data):
            return f"{node.label()} computes with the number of steps"
        last = [name for name in node.outputs if tracker.is_last(name)]
        if any(graph.types[name] != other.types.get(name) for name in last):
            return f"{node.label()} spreads the last step over the number of steps"
    return ""


def _same_value(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    """True unless both are known and differ; along time they are even, so that one element stands for all."""
    if a is None or b is None or a is b or not a.size or not b.size:
        return True
    return bool(a.flat[0] == b.flat[0]) if a.shape != b.shape else np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
