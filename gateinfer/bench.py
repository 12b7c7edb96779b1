"""Measuring: candidates take turns in one run, every call is timed on its own, ratios come from neighbours in time.

A machine drifts (clock rate, neighbours, caches), so timing one engine after the other compares two different machines.
Here each round gives every candidate a burst of calls, the order turns round from one round to the next, and a ratio is
the median over rounds of the ratio within a round. What an empty call costs the clock is measured and taken off.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np

from gateinfer.errors import GateInferError
from gateinfer.oracles import onnxruntime_session

if TYPE_CHECKING:
    from gateinfer.model import Model

Frame = Mapping[str, np.ndarray]
Call = Callable[[int], object]
"""One call of a candidate; the argument counts calls from 0."""

WARMUP_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Timing:
    """What one candidate's calls took.

    Attributes
    ----------
    name : str
    samples : ndarray [rounds, burst] float64
        Microseconds of every single call.
    """

    name: str
    samples: np.ndarray

    @property
    def p50(self) -> float:
        return float(np.percentile(self.samples, 50))

    @property
    def p99(self) -> float:
        return float(np.percentile(self.samples, 99))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"name": self.name, "calls": int(self.samples.size), "p50_us": self.p50, "p99_us": self.p99}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Timings of several candidates from one interleaved run."""

    timings: tuple[Timing, ...]

    def __getitem__(self, name: str) -> Timing:
        return next(timing for timing in self.timings if timing.name == name)

    def ratio(self, name: str, base: str) -> float:
        """How many times as long `name` takes as `base`: the median over rounds of the ratio of burst medians."""
        ours, theirs = (np.median(self[n].samples, axis=1) for n in (name, base))
        return float(np.median(ours / theirs))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; ratios are against the first candidate."""
        base = self.timings[0].name
        rows = [timing.as_dict() | {"ratio": self.ratio(timing.name, base)} for timing in self.timings]
        return {"base": base, "rows": rows}


def interleave(
    candidates: Mapping[str, Call],
    rounds: int,
    burst: int = 1,
    progress: Callable[[int, int], None] | None = None,
    lead: float = 0.0,
) -> Comparison:
    """Time all candidates in one run.

    Parameters
    ----------
    candidates : mapping of name to callable
        Called with the number of the call, warm-up included.
    rounds : int
        How often every candidate gets its turn, after WARMUP_ROUNDS that are not counted.
    burst : int
        Calls in one turn. 1 measures calls that always come after another program's; more lets caches settle.
    progress : callable, optional
        Called with (rounds done, rounds in all).
    lead : float
        Seconds of calls before each turn that are not timed: threads of the candidate before fall asleep meanwhile, and
        its own wake up.
    """
    clock_cost = _clock_cost()
    raw = {name: np.empty((rounds, burst), np.int64) for name in candidates}
    order = list(candidates.items())
    warm = min(WARMUP_ROUNDS, rounds)
    collecting = gc.isenabled()
    gc.disable()
    try:
        for turn in range(-warm, rounds):
            for name, call in order:
                first = _lead(call, (turn + warm) * burst, lead)
                _burst(call, first, raw[name][max(turn, 0)])
            order.reverse()
            if progress:
                progress(max(turn + 1, 0), rounds)
    finally:
        if collecting:
            gc.enable()
    return Comparison(tuple(Timing(n, np.maximum(raw[n] - clock_cost, 1) / 1000.0) for n in candidates))


def _lead(call: Call, first: int, seconds: float) -> int:
    """Calls that are not timed. Returns the number of the next one."""
    end = perf_counter_ns() + seconds * 1e9
    while seconds and perf_counter_ns() < end:
        call(first)
        first += 1
    return first


def _burst(call: Call, first: int, out: np.ndarray) -> None:
    for index in range(len(out)):
        start = perf_counter_ns()
        call(first + index)
        out[index] = perf_counter_ns() - start


def _clock_cost() -> float:
    """Nanoseconds that timing and making an empty call take."""
    out = np.empty(2000, np.int64)
    _burst(lambda _index: None, 0, out)
    return float(np.median(out))


# ---- candidates ----


def engine_call(model: Model, frames: Sequence[Frame], constants: Frame) -> Call:
    """A stream (models with state), or one `run` per frame. Frames repeat from the start."""
    if not model.file_states:
        feeds = [dict(frame) | dict(constants) for frame in frames]
        return lambda index: model.run(None, feeds[index % len(feeds)])
    return stream_call(model, frames, constants)


def stream_call(model: Model, frames: Sequence[Frame], constants: Frame) -> Call:
    """A stream, frame after frame, results copied out."""
    stream = model.stream(constants=constants)
    stream(**frames[0])
    stream.reset()

    if len(frames[0]) > 1:
        return lambda index: stream(**frames[index % len(frames)])
    only = [value for frame in frames for value in frame.values()]
    return lambda index: stream(only[index % len(only)])


class OnnxruntimeRun:
    """onnxruntime's `run`, with the state outputs of one call handed to the next."""

    def __init__(self, model: Model, frames: Sequence[Frame], constants: Frame) -> None:
        self._session = onnxruntime_session(model)
        self._pairs = model.file_states
        self._names = [port.name for port in model.outputs]
        self._frames = frames
        self._feeds = dict(constants) | initial_states(model, frames[0], constants)

    def __call__(self, index: int) -> dict[str, np.ndarray]:
        feeds = self._feeds
        feeds.update(self._frames[index % len(self._frames)])
        results = dict(zip(self._names, self._session.run(self._names, feeds), strict=True))
        for state in self._pairs:
            feeds[state.input] = results[state.output]
        return results


class OnnxruntimeBound:
    """onnxruntime on memory bound once. State goes back and forth between two bindings, so nothing is copied for it."""

    def __init__(self, model: Model, frames: Sequence[Frame], constants: Frame) -> None:
        self._session = onnxruntime_session(model)
        self._frames = frames
        self._inputs = {name: np.array(value) for name, value in frames[0].items()}
        state = initial_states(model, frames[0], constants)
        fixed = dict(constants) | self._inputs
        names = [port.name for port in model.outputs]
        results = self._session.run(names, fixed | state)
        self.outputs = {name: np.array(value) for name, value in zip(names, results, strict=True)}
        halves = [state, {name: np.array(value) for name, value in state.items()}]
        pairs = {s.output: s.input for s in model.file_states}
        self._bindings = [
            bind_arrays(
                self._session,
                fixed | halves[k],
                self.outputs | {out: halves[1 - k][pair] for out, pair in pairs.items()},
            )
            for k in (0, 1)
        ]
        self._keep = (fixed, halves)  # onnxruntime borrows this memory

    def __call__(self, index: int) -> None:
        for name, value in self._frames[index % len(self._frames)].items():
            self._inputs[name][...] = value
        self._session.run_with_iobinding(self._bindings[index & 1])


def bind_arrays(session: Any, inputs: Frame, outputs: Frame) -> Any:
    """An io_binding of onnxruntime's session to these arrays, which it borrows."""
    binding = session.io_binding()
    for name, array in inputs.items():
        binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
    for name, array in outputs.items():
        binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
    return binding


def initial_states(model: Model, frame: Frame, constants: Frame) -> dict[str, np.ndarray]:
    """What the states of a new stream hold once `frame` has fixed their shapes."""
    if not model.file_states:
        return {}
    stream = model.stream(constants=constants)
    stream(**frame)
    return {state.input: stream.state.initial_of(state.input) for state in model.file_states}


def single_steps(model: Model, frames: Sequence[Frame], constants: Frame) -> list[Frame]:
    """The first step of every frame, if a stream lifts states of the model and can take single steps."""
    try:
        stream = model.stream(constants=constants)
        stream(**frames[0])
    except GateInferError:
        return []
    axes = dict(stream.lift.axes) if stream.lift and stream.lift.length in (0, 1) else {}
    if all(frames[0][name].shape[axis] == 1 for name, axis in axes.items()):
        return []
    return [{n: np.take(a, [0], axes[n]) if n in axes else a for n, a in frame.items()} for frame in frames]


ENGINE, RUN, BOUND = "gateinfer", "onnxruntime run", "onnxruntime io_binding"
STEP = "gateinfer stream, one step"


def what_is_timed(model: Model, frames: Sequence[Frame]) -> str:
    """One sentence on what a call does, for whoever reads the figures."""
    spelled = ", ".join(f"{name} {value.shape}" for name, value in frames[0].items())
    if model.file_states:
        return f"a call is one frame of {spelled}, state handed on"
    restarts = ", which starts anew in every call" if model.states else ""
    return f"a call is a whole run on {spelled}{restarts}"


def compare_engines(
    model: Model,
    frames: Sequence[Frame],
    constants: Frame,
    *,
    rounds: int = 500,
    burst: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Comparison, dict[str, str]]:
    """The engine and both ways to call onnxruntime on the same frames, interleaved.

    A whole-sequence model runs on whole frames everywhere. Where a stream lifts its states, STEP is what one more step
    takes there; onnxruntime has nothing to compare with it but the whole run.

    Returns
    -------
    The comparison, and the candidates that could not take part with the reason.
    """
    candidates: dict[str, Call] = {ENGINE: engine_call(model, frames, constants)}
    skipped: dict[str, str] = {}
    for name, make in ((RUN, OnnxruntimeRun), (BOUND, OnnxruntimeBound)):
        try:
            candidates[name] = make(model, frames, constants)
        except GateInferError as error:
            skipped[name] = str(error)
    if steps := single_steps(model, frames, constants):
        candidates[STEP] = stream_call(model, steps, constants)
    return interleave(candidates, rounds, burst, progress), skipped
