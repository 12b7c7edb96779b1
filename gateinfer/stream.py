"""Stream: all mutable memory of one run over frames. One owner at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from gateinfer._core import Runner
from gateinfer.errors import GateInferError, ModelError, ShapeError, StateMismatch
from gateinfer.feeds import as_feed, check_shape, spell
from gateinfer.graph.bind import bind_shapes, resolve
from gateinfer.graph.ir import Port
from gateinfer.graph.states import State
from gateinfer.plan import Plan

if TYPE_CHECKING:
    from gateinfer.model import Model

MAX_BINDINGS = 16
"""Frame shapes whose buffers a stream keeps; the one bound first goes first."""

Shapes = dict[str, tuple[int, ...]]


class Binding:
    """A program for one set of frame shapes with its input and output buffers."""

    def __init__(self, plan: Plan, states: Mapping[str, np.ndarray]) -> None:
        self.runner = Runner(plan.lowered.program)
        self.inputs: dict[str, np.ndarray] = {}
        self.outputs: dict[str, np.ndarray] = {}
        for name, (tensor, dtype, shape) in plan.lowered.inputs.items():
            if name not in states:
                self.inputs[name] = np.zeros(shape, dtype)
            self.runner.bind(tensor, states[name] if name in states else self.inputs[name])
        for name, (tensor, dtype, shape) in plan.lowered.outputs.items():
            self.outputs[name] = np.zeros(shape, dtype)
            self.runner.bind(tensor, self.outputs[name])


class StateView(MutableMapping[str, np.ndarray]):
    """The state arrays of a stream by input name. Values are views: writing into them changes the stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __getitem__(self, name: str) -> np.ndarray:
        return self._stream._state_array(name)

    def __setitem__(self, name: str, value: Any) -> None:
        self._stream._set_state(name, value)

    def __delitem__(self, name: str) -> NoReturn:
        raise GateInferError("a state cannot be deleted; s.reset() restores its initial value")

    def __iter__(self) -> Iterator[str]:
        return iter(self._stream._states)

    def __len__(self) -> int:
        return len(self._stream._states)


class Stream:
    """Frames in, results out, state kept. Made by `Model.stream`.

    `s(frame)` copies in and out. `s.x[...] = frame; s.step(); s.y` works on bound buffers, where `x` and `y` are the names
    of ports (also `s.inputs["x"]`, `s.outputs["y"]`), and is the fastest path. The first frame fixes symbolic dimensions;
    a frame of another chunk length is planned once and cached, and the state carries on.

    Attributes
    ----------
    state : StateView
        State arrays by input name; assignment copies, also before the first frame.
    inputs, outputs : dict of str to ndarray
        Buffers bound for the current frame shapes.
    step : callable
        Runs one frame on the bound buffers.
    """

    def __init__(
        self,
        model: Model,
        states: tuple[State, ...],
        constants: Mapping[str, Any],
        shapes: Mapping[str, tuple[int, ...]],
        initial: Mapping[str, Any],
    ) -> None:
        self.model = model
        self.state = StateView(self)
        self.inputs: dict[str, np.ndarray] = {}
        self.outputs: dict[str, np.ndarray] = {}
        self.step: Callable[[], None] = self._step_unbound
        self._states = {state.input: state for state in states}
        self._pairs = tuple((state.input, state.output) for state in states)
        self._constants = {name: as_feed(model.port(name), v, "constant") for name, v in constants.items()}
        self._frame_ports = [p for p in model.inputs if p.name not in self._states and p.name not in self._constants]
        self._result_names = [p.name for p in model.outputs if p.name not in {s.output for s in states}]
        self._arrays: dict[str, np.ndarray] = {}
        self._initial = {n: as_feed(self._state_port(n), v, "initial state").copy() for n, v in initial.items()}
        self._bindings: dict[Any, Binding] = {}
        check_streamable(model, states)
        self._check_constants()
        self._fix_shapes(shapes)

    # ---- calls that copy -------------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, out: Any = None, **frames: Any) -> Any:
        """One frame or chunk through the model.

        Parameters
        ----------
        *args, **frames : array
            Frame inputs in the order of the model's inputs, or by name. Inputs with a default in the file may be left out.
        out : ndarray or dict of str to ndarray, optional
            Where results go; nothing is allocated then.

        Returns
        -------
        The array when the model has one output that is not state, else a dict by output name; `out` when given.
        """
        if len(args) == 1 and not frames and len(self.inputs) == 1:
            (buffer,) = self.inputs.values()
            frame = args[0]
            if type(frame) is np.ndarray and frame.shape == buffer.shape and frame.dtype == buffer.dtype and frame.size:
                buffer[...] = frame
                self.step()
                return self._results(self.outputs, out)
        return self._call(self._named(args, frames), out)

    def _call(self, frames: dict[str, Any], out: Any) -> Any:
        feeds = {name: as_feed(self.model.port(name), value, "frame") for name, value in frames.items()}
        if any(0 in feed.shape for feed in feeds.values()):
            return self._results(self._run_empty(feeds), out)
        binding = self._bind({n: f.shape for n, f in feeds.items()}, self._deciding_feeds(feeds))
        for name, buffer in binding.inputs.items():
            buffer[...] = feeds[name]
        self.step()
        return self._results(binding.outputs, out)

    def _named(self, args: tuple[Any, ...], frames: dict[str, Any]) -> dict[str, Any]:
        names = [port.name for port in self._frame_ports]
        if len(args) > len(names):
            raise ShapeError(f"this stream takes {len(names)} frame inputs ({', '.join(names)}), got {len(args)}")
        named = dict(zip(names, args, strict=False)) | frames
        for name in named:
            if name not in names:
                kind = "state" if name in self._states else "constant" if name in self._constants else "unknown"
                raise ShapeError(f"{name!r} is a {kind} input here; frame inputs: {', '.join(names)}")
        missing = [n for n in names if n not in named and n not in self.model.graph.defaults]
        if missing:
            raise ShapeError(f"frame inputs are missing: {', '.join(missing)}")
        return named

    def _deciding_feeds(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: feed for name, feed in feeds.items() if self.model.is_deciding(name)}

    def _results(self, outputs: Mapping[str, np.ndarray], out: Any) -> Any:
        names = self._result_names
        if out is None:
            if len(names) == 1:
                return outputs[names[0]].copy()
            return {name: outputs[name].copy() for name in names}
        targets = out if isinstance(out, Mapping) else {names[0]: out}
        if set(targets) != set(names):
            raise ShapeError(f"out: expected arrays for {', '.join(names)}, got {', '.join(targets)}")
        for name, target in targets.items():
            result = outputs[name]
            if not isinstance(target, np.ndarray) or target.shape != result.shape or target.dtype != result.dtype:
                raise ShapeError(f"out for {name!r}: expected a {result.dtype} array of shape {result.shape}")
            target[...] = result
        return out

    # ---- bound buffers ---------------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> np.ndarray:
        """Only asked for ports without a buffer: those that have one are attributes."""
        if name.startswith("_") or "inputs" not in self.__dict__:
            raise AttributeError(name)
        if any(name == p.name for p in (*self.model.inputs, *self.model.outputs)):
            raise AttributeError(f"{name!r} has no buffer yet: {self._unbound_reason()}")
        raise AttributeError(f"stream has no attribute or bound port {name!r}")

    def _step_unbound(self) -> NoReturn:
        raise ShapeError(f"nothing is bound yet: {self._unbound_reason()}")

    def _unbound_reason(self) -> str:
        open_ports = ", ".join(f"{p.name} {spell(p.shape)}" for p in self._frame_ports)
        return f"the shape of {open_ports} is open; call the stream with a frame first or pass shapes= to stream()"

    def _fix_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Binds at once when no shape is open."""
        for name, shape in shapes.items():
            check_shape(self.model.port(name), tuple(shape), "shapes=")
        fixed = {name: tuple(int(d) for d in shape) for name, shape in shapes.items()}
        for name in self._states.keys() & fixed.keys():
            self._arrays[name] = self._initial_array(name, fixed[name])
        frames = {}
        for port in self._frame_ports:
            if port.name in self.model.graph.defaults and port.name not in fixed:
                continue
            if self.model.is_deciding(port.name) or not (port.name in fixed or port.type.is_static):
                return
            frames[port.name] = fixed[port.name] if port.name in fixed else port.type.extents
        if not any(0 in shape for shape in frames.values()):
            self._bind(frames, {})

    def _bind(self, frame_shapes: Mapping[str, tuple[int, ...]], deciding: Mapping[str, np.ndarray]) -> Binding:
        """Makes the buffers for these frame shapes current."""
        key = (tuple(sorted(frame_shapes.items())), tuple((n, v.tobytes()) for n, v in sorted(deciding.items())))
        binding = self._bindings.get(key)
        if binding is None:
            plan, arrays = self._plan(frame_shapes, deciding)
            binding = Binding(plan, arrays)
            self._arrays = arrays
            if len(self._bindings) >= MAX_BINDINGS:
                del self._bindings[next(iter(self._bindings))]
            self._bindings[key] = binding
        self._make_current(binding)
        return binding

    def _make_current(self, binding: Binding) -> None:
        """Ports become plain attributes, so that s.x and s.step cost no more than a look-up."""
        for name in self.inputs.keys() | self.outputs.keys():
            if self.__dict__.get(name) is self.inputs.get(name, self.outputs.get(name)):
                self.__dict__.pop(name, None)
        self.inputs, self.outputs, self.step = binding.inputs, binding.outputs, binding.runner.step
        for name, buffer in (binding.outputs | binding.inputs).items():
            if not hasattr(type(self), name):
                self.__dict__.setdefault(name, buffer)

    # ---- plans -----------------------------------------------------------------------------------------------------------

    def _plan(
        self, frame_shapes: Mapping[str, tuple[int, ...]], deciding: Mapping[str, np.ndarray]
    ) -> tuple[Plan, dict[str, np.ndarray]]:
        """The plan for these frames, and the state arrays: those there are, or new ones of the shapes that fit."""
        values = dict(self._constants) | dict(deciding)
        shapes = {n: s for n, s in frame_shapes.items() if n not in values}
        refusals: list[Exception] = []
        for states in self._state_shapes(shapes, values):
            try:
                plan = self.model.plan(shapes | states, values, self._pairs)
                self._check_carry(plan)
            except (ShapeError, StateMismatch, ModelError) as error:
                refusals.append(error)
                continue
            return plan, {n: self._held_or_initial(n, shape) for n, shape in states.items()}
        raise refusals[0]

    def _state_shapes(self, shapes: Shapes, values: Mapping[str, np.ndarray]) -> Iterator[Shapes]:
        """Candidate shapes of all states: extents nobody named are 1, else one of the frames' extents."""
        known = {n: a.shape for n, a in (self._initial | self._arrays).items()}
        dims = bind_shapes(self.model.graph, shapes | known | {n: v.shape for n, v in values.items()})
        ports = {n: self._state_port(n) for n in self._states if n not in known}
        extents = sorted({d for shape in shapes.values() for d in shape if d > 1})
        first = known | {n: _filled(port, dims, 1) for n, port in ports.items()}
        yield first
        for guess in extents:
            other = known | {n: _filled(port, dims, guess) for n, port in ports.items()}
            if other != first:
                yield other

    def _check_carry(self, plan: Plan) -> None:
        for source, output in self._pairs:
            got, wanted = plan.lowered.outputs[output][2], plan.lowered.inputs[source][2]
            if got != wanted:
                raise StateMismatch(f"state {source!r} has shape {wanted}, but {output!r} gives {got}")

    def _run_empty(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A chunk without elements: results have their shapes, state stays as it is."""
        plan, arrays = self._plan({n: f.shape for n, f in feeds.items()}, self._deciding_feeds(feeds))
        scratch = {name: array.copy() for name, array in arrays.items()}
        binding = Binding(plan, scratch)
        for name, buffer in binding.inputs.items():
            buffer[...] = feeds[name]
        binding.runner.step()
        return binding.outputs

    # ---- state -----------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Back to the initial state: zeros, the file's own, or what `stream(initial=...)` gave."""
        for name, array in self._arrays.items():
            array[...] = self._initial_array(name, array.shape)

    @property
    def result_names(self) -> tuple[str, ...]:
        """Outputs that are not state: what a call returns."""
        return tuple(self._result_names)

    def initial_state(self, name: str) -> np.ndarray:
        """A copy of what `reset` restores for state `name`, once its shape is known."""
        return self._initial_array(name, self._state_array(name).shape)

    def _state_port(self, name: str) -> Port:
        if name not in self._states:
            raise StateMismatch(f"no state is called {name!r}; states: {', '.join(self._states) or 'none'}")
        return self.model.port(name)

    def _initial_array(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        given = self._initial.get(name, self.model.graph.defaults.get(name))
        array = np.zeros(shape, self._state_port(name).dtype)
        if given is not None:
            try:
                array[...] = given
            except ValueError:
                raise StateMismatch(f"initial state {name!r} has shape {given.shape}, expected {shape}") from None
        return array

    def _held_or_initial(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        held = self._arrays.get(name)
        return self._initial_array(name, shape) if held is None else held

    def _state_array(self, name: str) -> np.ndarray:
        port = self._state_port(name)
        if name not in self._arrays:
            shape = resolve(port, {})
            if shape is None or any(d is None for d in shape):
                raise StateMismatch(
                    f"the shape of state {name!r} {spell(port.shape)} is open until the first frame; assign it or pass shapes="
                )
            self._arrays[name] = self._initial_array(name, tuple(d for d in shape if d is not None))
        return self._arrays[name]

    def _set_state(self, name: str, value: Any) -> None:
        port = self._state_port(name)
        try:
            array = as_feed(port, value, "state")
        except ShapeError as error:
            raise StateMismatch(str(error)) from None
        held = self._arrays.get(name)
        if held is None:
            self._arrays[name] = array.copy()
        elif held.shape != array.shape:
            raise StateMismatch(f"state {name!r} has shape {held.shape}, got {array.shape}")
        else:
            held[...] = array

    def _check_constants(self) -> None:
        both = self._states.keys() & self._constants.keys()
        if both:
            raise StateMismatch(f"{', '.join(sorted(both))}: an input is either state or a constant")

    def __repr__(self) -> str:
        shapes = {name: buffer.shape for name, buffer in self.inputs.items()} or "unbound"
        return f"<gateinfer.Stream {shapes}, states {', '.join(self._states) or 'none'}>"


def _filled(port: Port, dims: Mapping[str, int], guess: int) -> tuple[int, ...]:
    """The port's shape with named extents from `dims` and all that is still open set to `guess`."""
    if port.shape is None:
        raise StateMismatch(f"not even the rank of state {port.name!r} is known; pass shapes={{{port.name!r}: ...}}")
    return tuple(d if isinstance(d, int) else dims.get(d, guess) if d else guess for d in port.shape)


def check_streamable(model: Model, states: tuple[State, ...]) -> None:
    """Raises StateMismatch when frames fed one by one could not equal one long run."""
    recurrent = [node for node in model.graph.nodes if node.op in ("LSTM", "GRU", "RNN")]
    if recurrent and not states:
        listed = ", ".join(node.label() for node in recurrent)
        raise StateMismatch(
            f"the model keeps its state inside ({listed}): no graph input feeds an initial state and no output carries it on; "
            "export it with state inputs and outputs, pass states={input: output}, or use run() on whole sequences"
        )
    stateful = [node for node in recurrent if any(name and name in {s.input for s in states} for name in node.inputs[5:7])]
    for node in stateful:
        direction = node.attrs.get("direction", "forward")
        direction = direction.decode() if isinstance(direction, bytes) else direction
        if direction != "forward":
            raise StateMismatch(f"{node.label()} runs {direction} in time, which cannot be streamed; use run()")
