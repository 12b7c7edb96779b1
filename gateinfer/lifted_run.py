"""The engine on a whole-sequence model, streamed with lifted states, and what its frames are compared with.

Where the file takes any length that is one long run. A file that fixes its length cannot run longer: there the graph
with its states lifted is asked frame by frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gateinfer.errors import GateInferError, ShapeError
from gateinfer.graph.bind import check_shape
from gateinfer.graph.ir import Graph
from gateinfer.graph.lift import Lift
from gateinfer.oracles import Results, stream_step

if TYPE_CHECKING:
    from gateinfer.model import Model
    from gateinfer.stream import Stream

Frames = Sequence[Mapping[str, np.ndarray]]


class LiftedRun:
    """Same attributes and `step` as `EngineRun`.

    Attributes
    ----------
    whole : all frames joined along time, or empty when the file fixes its length.
    """

    def __init__(self, model: Model, stream: Stream, lift: Lift, frames: Frames, constants: Results) -> None:
        self._stream = stream
        self.pairs = stream.states
        self.initial_states = {state.input: stream.state.initial_of(state.input) for state in self.pairs}
        self.whole: Results = {}
        self.graph: Graph | None
        self.how = "streamed with lifted states, against one run on all frames"
        if lift.length:
            self.how = f"streamed with lifted states, against the graph with these; the file takes {lift.length} steps"
            shapes = {name: array.shape for name, array in (*frames[0].items(), *self._own_states(model).items())}
            pairs = tuple((state.input, state.output) for state in model.file_states)
            self.graph = model.plan(shapes, constants, pairs, lift).graph
        else:
            self.whole = _joined(lift, frames)
            self.initial_states = self._own_states(model)
            fits = all(_fits(model, name, array) for name, array in self.whole.items())
            self.graph = None if fits else lift.opened(model.graph)

    def _own_states(self, model: Model) -> Results:
        return {state.input: self.initial_states[state.input] for state in model.file_states}

    def step(self, frame: Mapping[str, np.ndarray]) -> Results:
        """Outputs by name, final states included."""
        return stream_step(self._stream, frame)


def find_lifted_run(model: Model, frames: Frames, constants: Results) -> LiftedRun | None:
    """A run on a stream that lifts states; None where nothing is lifted, or where frames are no parts of one sequence.

    These differ in an input, or in an extent, that stays the same along a sequence.
    """
    try:
        stream = model.stream(constants=constants)
        if not frames or any(0 in array.shape for array in frames[0].values()):
            return None
        stream(**frames[0])
    except GateInferError:
        return None
    lift = stream.lift
    if lift is None or not _is_one_sequence(lift, frames):
        return None
    stream.reset()
    return LiftedRun(model, stream, lift, frames, constants)


def pieces(frames: Sequence[np.ndarray], whole: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(frame, its result, its part of what one run gives); the last frame alone where that has no part for each."""
    for axis in range(whole.ndim if len(frames) > 1 else 0):
        rest = _without(whole.shape, axis)
        if any(frame.ndim != whole.ndim or _without(frame.shape, axis) != rest for frame in frames):
            continue
        ends = np.cumsum([frame.shape[axis] for frame in frames])
        if ends[-1] == whole.shape[axis]:
            yield from zip(range(len(frames)), frames, np.split(whole, ends[:-1], axis), strict=True)
            return
    yield len(frames) - 1, frames[-1], whole


def _is_one_sequence(lift: Lift, frames: Frames) -> bool:
    axes, first = dict(lift.axes), frames[0]
    for frame in frames:
        if frame.keys() != first.keys():
            return False
        for name, array in frame.items():
            if name not in axes and not np.array_equal(array, first[name], equal_nan=array.dtype.kind == "f"):
                return False
            if name in axes and _without(array.shape, axes[name]) != _without(first[name].shape, axes[name]):
                return False
    return True


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


def _joined(lift: Lift, frames: Frames) -> Results:
    axes = dict(lift.axes)
    return {
        name: np.concatenate([frame[name] for frame in frames], axes[name]) if name in axes else array
        for name, array in frames[0].items()
    }


def _fits(model: Model, name: str, array: np.ndarray) -> bool:
    try:
        check_shape(model.port(name), array.shape)
    except ShapeError:
        return False
    return True
