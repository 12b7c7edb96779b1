"""Who is asked for the right answer: onnxruntime and the float64 reference. And the engine, as users run it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from gateinfer.errors import GateInferError, ShapeError, StateMismatch
from gateinfer.feeds import as_feed
from gateinfer.graph.fold import specialize
from gateinfer.graph.ir import Graph, Port
from gateinfer.loaders import is_onnx
from gateinfer.lower.target import Target

if TYPE_CHECKING:
    from gateinfer.model import Model
    from gateinfer.stream import Stream

Results = dict[str, np.ndarray]
Oracle = Callable[[Mapping[str, np.ndarray]], Results]
"""All inputs by name, states included, to all outputs by name."""


def onnxruntime_oracle(model: Model, graph: Graph | None = None) -> Oracle:
    """onnxruntime on the model's own file, one thread; on the graph written as ONNX when it came from no such file.

    `graph`: asked instead of the model's.

    Raises
    ------
    GateInferError
        A package is missing, or onnxruntime refuses the model.
    """
    session = onnxruntime_session(model, graph)
    names = [port.name for port in (graph or model).outputs]

    def run(feeds: Mapping[str, np.ndarray]) -> Results:
        empty = [name for name, value in feeds.items() if not value.size]
        if empty:
            raise GateInferError(f"input {empty[0]!r} is empty, on which onnxruntime may abort the process")
        try:
            results = session.run(names, dict(feeds))
        except Exception as error:  # see onnxruntime_session
            text = str(error).splitlines()[0]
            raise GateInferError(f"onnxruntime fails on these frames, leave it out of oracles=: {text}") from None
        return dict(zip(names, results, strict=True))

    return run


def onnxruntime_session(model: Model, graph: Graph | None = None) -> Any:
    """An InferenceSession on the model's source, or on `graph`: one thread, no spinning."""
    try:
        import onnxruntime as ort
    except ImportError:
        raise GateInferError("onnxruntime is not installed: pip install gateinfer[validate]") from None
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    source = _as_onnx(graph) if graph else _onnx_source(model)
    try:
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own family of exceptions, some of them bare RuntimeError
        raise GateInferError(f"onnxruntime refuses the model: {str(error).splitlines()[0]}") from None


def _onnx_source(model: Model) -> str | bytes:
    """The path or content of the model's ONNX file, or one made of its graph."""
    if model.source is None or not is_onnx(model.source):
        return _as_onnx(model.graph)
    return model.source if isinstance(model.source, bytes) else os.fspath(model.source)


def _as_onnx(graph: Graph) -> bytes:
    from gateinfer.loaders.onnx_writer import to_onnx

    try:
        return bytes(to_onnx(graph).SerializeToString())
    except ImportError:
        raise GateInferError("the graph is in no ONNX file: writing one needs the onnx package") from None


def reference_oracle(model: Model, graph: Graph | None = None) -> Oracle:
    """The float64 reference on the specialised graph; needs the onnx package for operators that are not recurrent.

    `graph`: asked instead of the model's.
    """
    from gateinfer.reference_graph import compile_graph

    whole = graph or model.graph

    @lru_cache(maxsize=16)
    def compiled(key: tuple[tuple[str, tuple[int, ...]], ...], decided: tuple[tuple[str, bytes, str], ...]) -> Any:
        shapes = dict(key)
        values = {n: np.frombuffer(b, d).reshape(shapes.pop(n)) for n, b, d in decided}
        folded = specialize(whole, shapes, values)
        return {port.name for port in folded.inputs}, compile_graph(folded)

    def run(feeds: Mapping[str, np.ndarray]) -> Results:
        decided = tuple((n, v.tobytes(), v.dtype.str) for n, v in sorted(feeds.items()) if model.is_deciding(n))
        names, evaluate = compiled(tuple(sorted((n, v.shape) for n, v in feeds.items())), decided)
        return evaluate({n: v for n, v in feeds.items() if n in names})

    return run


def f32_oracle(model: Model, graph: Graph | None = None) -> Oracle:
    """The engine itself with float32 weights: what storing them in 16 bits changes."""
    from gateinfer.model import Model

    same = Model(graph or model.graph, Target(model.isa), fallback=model.fallback, allow_nonfinite=True)
    names = [port.name for port in same.outputs]
    return lambda feeds: dict(zip(names, same.run(names, dict(feeds)), strict=True))


ORACLES: dict[str, Callable[[Model, Graph | None], Oracle]] = {
    "onnxruntime": onnxruntime_oracle,
    "reference": reference_oracle,
    "f32": f32_oracle,
}


class EngineRun:
    """The engine as a user runs it: streamed when the model has state, else one `run` per frame.

    Attributes
    ----------
    pairs : states that are handed from frame to frame.
    initial_states : what they start from, known after the first step.
    graph : what oracles are to be asked about, None for the model's own.
    how : one sentence on what is compared.
    """

    graph: Graph | None = None

    def __init__(self, model: Model, constants: Mapping[str, np.ndarray]) -> None:
        self._model = model
        self._constants = dict(constants)
        self.pairs = model.file_states
        self._stream = model.stream(constants=self._constants) if self.pairs else None
        self.how = "frame by frame, states handed on" if self.pairs else "every frame a run of its own"
        self.initial_states: Results = {}
        self._held: Results = {}

    def step(self, frame: Mapping[str, np.ndarray]) -> Results:
        """Outputs by name, final states included."""
        if self._stream is None:
            return self._call(frame)
        if not self.initial_states:
            self._start(self._stream, frame)
        return self._call(frame) if self._stream.lift else stream_step(self._stream, frame)

    def _start(self, stream: Stream, frame: Mapping[str, np.ndarray]) -> None:
        """The first frame fixes the shapes of states."""
        stream(**frame)
        stream.reset()
        self.initial_states = {s.input: stream.state.initial_of(s.input) for s in self.pairs}
        self._held = dict(self.initial_states)

    def _call(self, frame: Mapping[str, np.ndarray]) -> Results:
        """One `run`, where a stream would keep more than the file's states, or nothing."""
        values = self._model.run(None, dict(frame) | self._constants | self._held)
        results = {port.name: value for port, value in zip(self._model.outputs, values, strict=True)}
        self._held = {state.input: results[state.output] for state in self.pairs}
        return results


def stream_step(stream: Stream, frame: Mapping[str, np.ndarray]) -> Results:
    """Outputs of one frame by name, final states included."""
    result = stream(**frame)
    named = result if isinstance(result, dict) else {stream.result_names[0]: result}
    return named | {state.output: stream.state[state.input].copy() for state in stream.states}


def as_frames(model: Model, frames: Any, constants: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """A list of arrays or dicts as dicts of converted arrays.

    Raises
    ------
    ShapeError
        A bare array came for a model with several frame inputs, or an array does not fit.
    """
    try:
        states = {state.input for state in model.states}
    except StateMismatch:
        states = set()
    held = states | constants.keys() | model.graph.defaults.keys()
    names = [p.name for p in model.inputs if p.name not in held]
    ports = _frame_ports(model, constants)
    try:
        given = list(frames)
    except Exception as error:  # a caller's object may raise anything
        raise ShapeError(f"frames come as a sequence of arrays or dicts, got {type(frames).__name__}") from error
    listed = []
    for frame in given:
        if not isinstance(frame, Mapping):
            if len(names) != 1:
                raise ShapeError(f"frames are dicts with {', '.join(names)}, or pass constants for all but one of them")
            frame = {names[0]: frame}
        feeds = {name: as_feed(ports.get(name) or model.port(name), value, "frame") for name, value in frame.items()}
        # States of a model that cannot be streamed stay inputs, which oracles want fed.
        listed.append(model.open_defaults(feeds) | feeds if model.graph.unstreamable else feeds)
    return listed


def _frame_ports(model: Model, constants: Mapping[str, Any]) -> dict[str, Port]:
    """Inputs of a model with lifted states, whose frames may be longer or shorter than the file declares."""
    try:
        lift = model.lifts.guess(model.file_states, {}, constants)
    except GateInferError:
        return {}
    return {port.name: port for port in lift.opened(model.graph).inputs} if lift else {}
