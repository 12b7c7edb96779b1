"""Follows the time axis of the frames through a specialised graph, and names the nodes that mix over it.

Frames fed one after another equal one long run exactly when every value on the way to the outputs is pointwise in time
except for recurrent layers, whose state is carried. Time may share an axis with others, as in [N * T, I]: such an axis
is [outer, steps, inner]. Indices and constants are judged by value, so a graph is tracked at more than one length.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from gateinfer.graph import time_rules  # noqa: F401  (registers the rules)
from gateinfer.graph.checks import uses
from gateinfer.graph.ir import SEQUENCE, Graph, Node, first_output
from gateinfer.graph.live import downstream
from gateinfer.graph.time_place import GONE, RULES, Place, Scan, Step


class Tracker:
    """The places of all values of `graph`, starting from the time axes of some inputs.

    Attributes
    ----------
    places : of the values that depend on the frames.
    scans : the recurrent nodes along time, in the order of the graph.
    """

    def __init__(self, graph: Graph, axes: Mapping[str, int], held: Collection[str] = ()) -> None:
        """`axes` are the time axes by input name, with at least two steps; `held` are inputs that are state."""
        self.graph = graph
        self.held = downstream(graph.nodes, held)
        self.scans: list[Scan] = []
        extents = {port.name: port.type.extents[axes[port.name]] for port in graph.inputs if port.name in axes}
        self.steps = next(iter(extents.values()))
        self.places = {name: Place(axes[name], steps) for name, steps in extents.items()}
        for node in graph.nodes:
            self._visit(node)

    def _visit(self, node: Node) -> None:
        found = [self.places[name] for name in sorted(uses(node)) if name in self.places]
        if not found:
            return
        fault = next((place.fault for place in found if place.fault), "")
        result = Place(GONE, self.steps)
        if any(place.axis != GONE for place in found):
            step = Step(self, node)
            rule = None if node.domain or not step.at else RULES.get(node.op)
            result = (rule and rule(step)) or self._mixed(step)
        if fault:
            result = replace(result, fault=fault)
        for name in filter(None, node.outputs):
            self.places.setdefault(name, result if self._has_axis(name, result.axis) else replace(result, axis=GONE))

    def _has_axis(self, name: str, axis: int) -> bool:
        """False where the results of a node differ in rank and `axis` is one of the others."""
        shape = self.graph.types[name].shape
        return shape is not None and axis < len(shape)

    def _mixed(self, step: Step) -> Place:
        """At fault; the axis goes on if it seems to, so that the recurrent nodes behind it can be found."""
        first = first_output(step.node)
        if self.graph.types[first] == SEQUENCE:
            return Place(GONE, self.steps, fault=step.blame())
        out = step.out_shape(step.node.outputs.index(first))
        for index, place in step.at.items():
            shape = step.query.shape(index)
            axis = place.axis + len(out) - len(shape)
            if place.axis != GONE and axis >= 0 and out[axis] == shape[place.axis]:
                return replace(place, axis=axis, fault=step.blame())
        return Place(GONE, self.steps, fault=step.blame())

    def is_last(self, name: str) -> bool:
        """True for a value of the last step alone."""
        place = self.places.get(name)
        return place is not None and place.axis == GONE and not place.fault

    def fault_in(self, names: Iterable[str]) -> str:
        """What the node to blame does when one of `names` is not pointwise in time."""
        places = (self.places[name] for name in names if name in self.places)
        return next((place.fault for place in places if place.fault), "")
