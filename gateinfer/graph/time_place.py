"""Where values keep their time, and what a rule of `time_rules` sees of a node."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from gateinfer.graph.infer.registry import Query
from gateinfer.graph.ir import Node

if TYPE_CHECKING:
    from gateinfer.graph.time_axis import Tracker

Shape = tuple[int, ...]

GONE: Final = -1


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value that depends on the frames keeps their time.

    Attributes
    ----------
    axis : GONE when there is no time axis any more: the value belongs to the last step, or to a fault.
    steps, inner : the axis is [outer, steps, inner].
    fault : what the first node that mixed over time on the way here does, or "".
    cached : steps of earlier frames, from a state input, stand in front of the frame's own.
    """

    axis: int
    steps: int
    inner: int = 1
    fault: str = ""
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Scan:
    """A recurrent node whose sequence axis is the time of the frames."""

    node: Node
    fault: str
    """What mixes over time before it, or what the node itself does if it cannot be streamed."""


class Step:
    """One node as its rule sees it: `at` has the places of the inputs that depend on time."""

    def __init__(self, tracker: Tracker, node: Node) -> None:
        graph = tracker.graph
        self.node = node
        self.tracker = tracker
        self.at = {i: tracker.places[n] for i, n in enumerate(node.inputs) if n in tracker.places}
        types = [graph.types.get(n) for n in node.inputs]
        self.query = Query(node, types, [graph.constants.get(n) for n in node.inputs], graph.opset)

    def blame(self, what: str = "mixes over time") -> str:
        return f"{self.node.label()} {what}"

    def out_shape(self, index: int = 0) -> Shape:
        return self.tracker.graph.types[self.node.outputs[index]].extents

    def only(self, index: int) -> Place | None:
        """The place of input `index` when no other input depends on time and it still has a time axis."""
        place = self.at.get(index)
        return place if len(self.at) == 1 and place is not None and place.axis != GONE else None

    def is_pure(self, place: Place) -> bool:
        """True when time has its axis to itself."""
        index = next(i for i, p in self.at.items() if p is place)
        return place.axis != GONE and self.query.shape(index)[place.axis] == place.steps

    def is_even(self, index: int, axis: int, place: Place) -> bool:
        """True when an input that does not depend on time is the same for all steps; `axis` may lie outside of it."""
        shape = self.query.shape(index)
        if not 0 <= axis < len(shape) or shape[axis] == 1:
            return True
        value = self.query.values[index]
        if value is None or shape[axis] % (place.steps * place.inner):
            return False
        parts = value.reshape(*shape[:axis], -1, place.steps, place.inner, *shape[axis + 1 :])
        return bool((parts == parts.take([0], axis + 1)).all())


Rule = Callable[[Step], Place | None]
"""The place of the outputs; None when the node mixes over time. Asked when at least one input has a time axis."""

RULES: Final[dict[str, Rule]] = {}


def follows(*ops: str) -> Callable[[Rule], Rule]:
    """Registers the rule of some operators."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(ops, rule))
        return rule

    return register


def reshaped(place: Place, before: Shape, after: Shape) -> Place | None:
    """The place after the same elements in the same order took another shape; None when steps are torn apart."""
    stride = place.inner * math.prod(before[place.axis + 1 :])
    below = 1
    for axis in reversed(range(len(after))):
        above = below * after[axis]
        if below <= stride and stride * place.steps <= above:
            whole = stride % below == 0 and above % (stride * place.steps) == 0
            return replace(place, axis=axis, inner=stride // below) if whole else None
        below = above
    return None
