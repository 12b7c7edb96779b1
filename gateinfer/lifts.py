"""What the streams of one model lift, by the extents of their frames: found once and shared."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gateinfer.errors import GateInferError, ShapeError, StateMismatch
from gateinfer.graph.ir import Graph, Shapes
from gateinfer.graph.lift import Lift, Specialize, find_lift
from gateinfer.graph.states import State, refuse_unstreamable

MAX_LIFTS = 32
"""Entries kept per model; the one made first goes first."""

Slot = tuple[np.dtype, tuple[int, ...]]
"""Element type and shape of a result."""


class _Refusal(NamedTuple):
    """Why nothing can be lifted: found out at the same cost, and asked for as often."""

    text: str


class Lifts:
    """Lifts of one model. Safe to use from several threads: two may find the same one at the same time.

    Parameters
    ----------
    graph : folded.
    is_deciding : says of an input whether shapes or control flow depend on its value.
    specialize : as `fold.specialize`.
    """

    def __init__(self, graph: Graph, is_deciding: Callable[[str], bool], specialize: Specialize) -> None:
        self._graph = graph
        self._is_deciding = is_deciding
        self._specialize = specialize
        self._found: OrderedDict[Hashable, Lift | _Refusal | None] = OrderedDict()

    def guess(self, states: Sequence[State], shapes: Shapes, values: Mapping[str, np.ndarray]) -> Lift | None:
        """The lift before the first frame, open extents taken as 1; None also when that cannot be known yet.

        Raises
        ------
        StateMismatch
            No frames of any shape could be streamed.
        """
        refuse_unstreamable(self._graph)
        full = dict(shapes)
        for port in self._graph.inputs:
            if port.name in values or port.name in full or port.name in self._graph.defaults:
                continue
            if port.shape is None or self._is_deciding(port.name):
                return None
            full[port.name] = tuple(d if isinstance(d, int) else 1 for d in port.shape)
        try:
            return self.at(states, full, values)
        except StateMismatch:
            raise
        except GateInferError:
            return None

    def at(
        self, states: Sequence[State], shapes: Shapes, values: Mapping[str, np.ndarray], known: Lift | None = None
    ) -> Lift | None:
        """The lift for frames of these shapes; see `find_lift`. `known` is what the same stream has lifted so far."""
        times = dict(known.axes) if known else {}
        extents = {name: _without(shape, times.get(name)) for name, shape in shapes.items()}
        pairs = tuple((state.input, state.output) for state in states)
        constants = tuple((name, v.dtype.str, v.shape, v.tobytes()) for name, v in sorted(values.items()))
        key = (tuple(sorted(extents.items())), constants, pairs)
        if key in self._found:
            found = self._found[key]
        else:
            found = self._find(states, shapes, values)
            if known and not isinstance(found, _Refusal) and not _same_ends(found, known):
                raise StateMismatch("frames of these shapes need other states than the stream has; open a new stream")
            self._found[key] = found
            if len(self._found) > MAX_LIFTS:
                self._found.popitem(last=False)
        if isinstance(found, _Refusal):
            raise StateMismatch(found.text)
        return found

    def _find(
        self, states: Sequence[State], shapes: Shapes, values: Mapping[str, np.ndarray]
    ) -> Lift | _Refusal | None:
        fed = shapes.keys() | values.keys()
        unfed = {name: value for name, value in self._graph.defaults.items() if name not in fed}
        try:
            return find_lift(self._graph, states, shapes, {**unfed, **values}, self._specialize)
        except StateMismatch as error:
            return _Refusal(str(error))


def _same_ends(found: Lift | None, known: Lift) -> bool:
    return found is not None and (found.axes, found.pairs) == (known.axes, known.pairs)


def _without(shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    return shape if axis is None else (*shape[:axis], 0, *shape[axis + 1 :])


def no_steps(two: Mapping[str, Slot], three: Mapping[str, Slot]) -> dict[str, np.ndarray]:
    """Results of an empty chunk, from what they are for two steps and for three: extents are linear in the steps.

    Raises
    ------
    ShapeError
        A result has no time axis: it belongs to the last step of a chunk.
    """
    for name, slot in two.items():
        if slot == three[name]:
            raise ShapeError(
                f"output {name!r} belongs to the last step of a chunk, and an empty chunk has none; "
                "do not call the stream without frames (its state is as it was)"
            )
    extents = {n: [3 * a - 2 * b for a, b in zip(two[n][1], three[n][1], strict=True)] for n in two}
    return {name: np.zeros(extents[name], two[name][0]) for name in two}
