"""Stream: all mutable memory of one run over frames. One owner at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from gateinfer._core import FrameCalls, Runner
from gateinfer.binding import Binding, check_carry, state_shapes
from gateinfer.errors import ModelError, ShapeError, StateMismatch
from gateinfer.feeds import as_extents, as_feed, as_shape, refuse_twice
from gateinfer.graph.bind import spell
from gateinfer.graph.ir import Port, TensorType
from gateinfer.graph.lift import Lift, may_lift
from gateinfer.graph.states import State, check_forward
from gateinfer.lifts import Slot, no_steps
from gateinfer.plan import Plan
from gateinfer.state import Arrays, StateStore

if TYPE_CHECKING:
    from gateinfer.model import Model

MAX_BINDINGS = 16
"""Frame shapes whose buffers a stream keeps; the one bound first goes first."""

Shapes = dict[str, tuple[int, ...]]


class Stream(FrameCalls):
    """Frames in, results out, state kept. Made by `Model.stream`.

    `s(frame)` copies in and out. On bound buffers, `s.x[...] = frame; s.step(); s.y` is the fastest path, where `x` and
    `y` are names of ports (also `s.inputs["x"]`, `s.outputs["y"]`). The first frame fixes symbolic dimensions; a frame
    of another chunk length is planned once and cached, and the state carries on.

    Attributes
    ----------
    state : StateStore
        State arrays by input name; assignment copies, also before the first frame.
    states : tuple of State
        What the stream keeps; lifted ones are not in the file.
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
        lift: Lift | None = None,
    ) -> None:
        self.model = model
        self.inputs: dict[str, np.ndarray] = {}
        self.outputs: dict[str, np.ndarray] = {}
        self.step: Callable[[], None] = self._step_unbound
        self._states = {state.input: state for state in states}
        self._pairs = tuple((state.input, state.output) for state in states)
        self._constants = {name: as_feed(model.port(name), v, "constant") for name, v in constants.items()}
        carried = {state.output for state in states}
        names = [port.name for port in model.outputs]
        self._result_names = [name for name in names if name not in carried] or names
        self._bindings: dict[Any, Binding] = {}
        check_forward(model.graph, states)
        self._check_constants()
        fixed = {name: as_extents(shape, f"shapes= {name!r}") for name, shape in shapes.items()}
        self._take_lift(lift or model.lifts.guess(states, fixed, self._constants))
        ports = {state.input: model.port(state.input) for state in states}
        self.state = StateStore(ports | self._lifted_ports(), initial, model.graph.defaults | self._learned())
        self._fix_shapes(shapes)

    # ---- lifted states -----------------------------------------------------------------------------------------------

    def _take_lift(self, lift: Lift | None) -> None:
        """What is lifted, and the file's inputs with their time axes free."""
        self._lift = lift
        graph = self._graph = lift.opened(self.model.graph) if lift else self.model.graph
        held = self._states.keys() | self._constants.keys()
        self._frame_ports = [port for port in graph.inputs if port.name not in held]
        self._ports = {port.name: port for port in graph.inputs}

    def _lifted_ports(self) -> dict[str, Port]:
        lifted = self._lift.states if self._lift else ()
        return {state.input: Port(state.input, TensorType(np.dtype(np.float32), state.shape)) for state in lifted}

    def _learned(self) -> Arrays:
        """Initial states of the file for lifted states whose shape is known."""
        learned = self._lift.initial if self._lift else {}
        return {name: array for name, array in learned.items() if self._lifted_ports()[name].type.is_static}

    def _lift_for(self, shapes: Shapes, values: Mapping[str, np.ndarray]) -> Lift | None:
        """What is lifted from frames of these shapes; the first ones may be the first to say."""
        lift = self.model.lifts.at(tuple(self._states.values()), shapes, values, self._lift)
        if lift is not self._lift:
            self._take_lift(lift)
            self.state.extend(self._lifted_ports(), lift.initial if lift else {})
        return lift

    @property
    def states(self) -> tuple[State, ...]:
        """State pairs of the file, then lifted ones."""
        return (*self._states.values(), *(self._lift.states if self._lift else ()))

    @property
    def lift(self) -> Lift | None:
        """What is lifted, once the frames are known to say (engine use)."""
        return self._lift

    # ---- calls that copy ---------------------------------------------------------------------------------------------

    def _call_any(self, args: tuple[Any, ...], frames: dict[str, Any], out: Any) -> Any:
        """Any frames, where `FrameCalls` does not know what to do with them: converts, binds, refuses."""
        return self._call(self._named(args, frames), out)

    def _call(self, frames: dict[str, Any], out: Any) -> Any:
        feeds = {name: as_feed(self._ports[name], value, "frame") for name, value in frames.items()}
        if any(0 in feed.shape for feed in feeds.values()):
            return self._results(self._run_empty(feeds, out), out)
        binding = self._bind({n: f.shape for n, f in feeds.items()}, self._deciding_feeds(feeds))
        if out is not None:
            self._check_out(binding.outputs, out)
        if isinstance(binding.runner, Runner):  # conversions may have run code of the caller, other threads beside it
            binding.runner.refuse_busy()
        for name, buffer in binding.inputs.items():
            buffer[...] = feeds[name]
        binding.runner.step()
        return self._results(binding.outputs, out)

    def _named(self, args: tuple[Any, ...], frames: dict[str, Any]) -> dict[str, Any]:
        names = [port.name for port in self._frame_ports]
        if len(args) > len(names):
            raise ShapeError(f"this stream takes {len(names)} frame inputs ({', '.join(names)}), got {len(args)}")
        refuse_twice(names[: len(args)], frames)
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
        for name, target in (out if isinstance(out, Mapping) else {names[0]: out}).items():
            target[...] = outputs[name]
        return out

    def _check_out(self, outputs: Mapping[str, np.ndarray], out: Any) -> None:
        """Raises ShapeError unless results fit into `out`. Asked before the step: a refused call changes no state."""
        names = self._result_names
        targets = out if isinstance(out, Mapping) else {names[0]: out}
        if set(targets) != set(names):
            raise ShapeError(f"out: expected arrays for {', '.join(names)}, got {', '.join(map(str, targets))}")
        for name, target in targets.items():
            result = outputs[name]
            if not isinstance(target, np.ndarray) or target.shape != result.shape or target.dtype != result.dtype:
                raise ShapeError(f"out for {name!r}: expected a {result.dtype} array of shape {result.shape}")
            if not target.flags.writeable:
                raise ShapeError(f"out for {name!r} is read-only; pass an array that may be written")

    # ---- bound buffers -----------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> np.ndarray:
        """Only asked for ports without a buffer: those that have one are attributes."""
        if name.startswith("_") or "inputs" not in self.__dict__:
            raise AttributeError(name)
        if any(name == p.name for p in (*self.model.inputs, *self.model.outputs)):
            raise AttributeError(f"{name!r} has no buffer yet: {self._unbound_reason()}")
        raise AttributeError(f"stream has no attribute or bound port {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        held = self.__dict__.get(name)
        if held is not None and any(held is self.__dict__[ports].get(name) for ports in ("inputs", "outputs")):
            raise AttributeError(f"{name!r} is a bound buffer: write into it with s.{name}[...] = value")
        if name == "state" and name in self.__dict__:
            raise StateMismatch("assign states one by one: s.state[name] = value")
        object.__setattr__(self, name, value)

    def _step_unbound(self) -> NoReturn:
        raise ShapeError(f"nothing is bound yet: {self._unbound_reason()}")

    def _unbound_reason(self) -> str:
        open_ports = ", ".join(f"{p.name} {spell(p.shape)}" for p in self._frame_ports)
        return f"the shape of {open_ports} is open; call the stream with a frame first or pass shapes= to stream()"

    def _fix_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Binds at once when no shape is open."""
        fixed = {n: as_shape(self._ports.get(n) or self.model.port(n), shape, "shapes=") for n, shape in shapes.items()}
        for name in self._states.keys() & fixed.keys():
            self.state.arrays[name] = self.state.initial_array(name, fixed[name])
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
            plan, arrays = self._plan(frame_shapes, deciding, self._pairs)
            binding = Binding(plan, arrays)
            self.state.arrays = arrays
            if len(self._bindings) >= MAX_BINDINGS:
                del self._bindings[next(iter(self._bindings))]
            self._bindings[key] = binding
        self._make_current(binding)
        fed_as_bound = not deciding and binding.inputs.keys() == frame_shapes.keys()
        self._use_plain(binding if fed_as_bound else None)
        return binding

    def _use_plain(self, binding: Binding | None) -> None:
        """Frames and results that are as these buffers need no more looking at."""
        if binding is None or not isinstance(binding.runner, Runner):
            self._take_plain(None, {}, {}, 0)
            return
        names = [port.name for port in self._frame_ports]
        inputs = {name: binding.inputs[name] for name in names if name in binding.inputs}
        in_order = [a == b for a, b in zip(names, inputs, strict=False)] + [False]
        results = {name: binding.outputs[name] for name in self._result_names}
        self._take_plain(binding.runner, inputs, results, in_order.index(False))

    def _make_current(self, binding: Binding) -> None:
        """Ports become plain attributes, so that s.x and s.step cost no more than a look-up."""
        for name in self.inputs.keys() | self.outputs.keys():
            if self.__dict__.get(name) is self.inputs.get(name, self.outputs.get(name)):
                self.__dict__.pop(name, None)
        self.inputs, self.outputs, self.step = binding.inputs, binding.outputs, binding.runner.step
        for name, buffer in (binding.outputs | binding.inputs).items():
            if not hasattr(type(self), name):
                self.__dict__.setdefault(name, buffer)

    # ---- plans -------------------------------------------------------------------------------------------------------

    def _plan(
        self,
        frame_shapes: Mapping[str, tuple[int, ...]],
        deciding: Mapping[str, np.ndarray],
        pairs: tuple[tuple[str, str], ...],
    ) -> tuple[Plan, dict[str, np.ndarray]]:
        """The plan for these frames, and the state arrays: those there are, or new ones of the shapes that fit."""
        values = dict(self._constants) | dict(deciding)
        shapes = {n: s for n, s in frame_shapes.items() if n not in values}
        refusals: list[Exception] = []
        known = {n: shape for n, shape in self.state.known_shapes().items() if n in self._states}
        ports = [self.state.port(name) for name in self._states]
        for states in state_shapes(self._graph, ports, known, shapes, values):
            try:
                lift = self._lift_for(shapes | states, values)
                plan = self.model.plan(shapes | states, values, pairs, lift)
                check_carry(plan, pairs)
            except (ShapeError, StateMismatch, ModelError) as error:
                refusals.append(error)
                continue
            return plan, {n: self.state.held_or_initial(n, plan.lowered.inputs[n][2]) for n in self.state}
        raise refusals[0]

    def _run_empty(self, feeds: dict[str, np.ndarray], out: Any) -> Mapping[str, np.ndarray]:
        """A chunk without elements: results have their shapes, and nothing is carried into the state."""
        deciding = self._deciding_feeds(feeds)
        outputs = self._without_steps({n: f.shape for n, f in feeds.items()}, deciding)
        if outputs is not None:
            if out is not None:
                self._check_out(outputs, out)
            return outputs
        plan, arrays = self._plan({n: f.shape for n, f in feeds.items()}, deciding, ())
        binding = Binding(plan, {name: array.copy() for name, array in arrays.items()})  # a lift carries all the same
        if out is not None:
            self._check_out(binding.outputs, out)
        for name, buffer in binding.inputs.items():
            buffer[...] = feeds[name]
        binding.runner.step()
        return binding.outputs

    def _without_steps(self, shapes: Shapes, deciding: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
        """Results of no step at all where states are lifted; None for other frames without elements."""
        if self._lift is None and may_lift(self.model.graph, tuple(self._states.values())):
            with suppress(ShapeError):  # the first chunk of all
                self._plan({n: tuple(d or 2 for d in shape) for n, shape in shapes.items()}, deciding, self._pairs)
        times = dict(self._lift.axes) if self._lift else {}
        empty = {(n, axis) for n, shape in shapes.items() for axis, extent in enumerate(shape) if extent == 0}
        if empty != times.items() or self._lift is None:
            return None
        if self._lift.length:
            raise ShapeError(f"this model takes {self._lift.length} steps at a time, an empty chunk has none")
        return no_steps(*(self._result_slots(shapes, times, steps, deciding) for steps in (2, 3)))

    def _result_slots(
        self, shapes: Shapes, times: Mapping[str, int], steps: int, deciding: Mapping[str, np.ndarray]
    ) -> dict[str, Slot]:
        """Element type and shape of the results of a chunk of so many steps."""
        chunk = {n: tuple(steps if times.get(n) == i else d for i, d in enumerate(s)) for n, s in shapes.items()}
        plan, _ = self._plan(chunk, deciding, self._pairs)
        return {name: slot[1:] for name, slot in plan.lowered.outputs.items() if name in self._result_names}

    # ---- state -------------------------------------------------------------------------------------------------------

    def reset(self, rows: Any = None) -> None:
        """Back to the initial state: zeros, the file's own, or what `stream(initial=...)` gave.

        Parameters
        ----------
        rows : sequence of int, or of bool, optional
            Only these rows of a batch.

        Raises
        ------
        StateMismatch
            A row does not exist, or it cannot be known which axis of a state is the batch.
        """
        if rows is None:
            self.state.reset()
        else:
            self.state.reset_rows(rows, self._lift.row_axes if self._lift else {})

    def snapshot(self) -> bytes:
        """The state as bytes, to be given to `restore` on any stream of the same model."""
        return self.state.snapshot()

    def restore(self, snapshot: bytes) -> None:
        """Replaces the state by what `snapshot` returned.

        Raises
        ------
        StateMismatch
            The bytes are not a snapshot, or of another model or batch size. The state is as before then.
        """
        self.state.restore(snapshot)

    def fork(self) -> Stream:
        """Another stream that goes on from the same state on its own."""
        return _rebuilt(*self._parts())

    def __copy__(self) -> Stream:
        return self.fork()

    def __deepcopy__(self, memo: dict[int, Any]) -> Stream:
        return self.fork()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, self._parts()

    def _parts(self) -> tuple[Any, ...]:
        states = tuple(self._states.values())
        return self.model, states, self._constants, self.state.initial, self._lift, self.state.arrays

    @property
    def result_names(self) -> tuple[str, ...]:
        """What a call returns: the outputs that are not state, or all where none is."""
        return tuple(self._result_names)

    def _check_constants(self) -> None:
        both = self._states.keys() & self._constants.keys()
        if both:
            raise StateMismatch(f"{', '.join(sorted(both))}: an input is either state or a constant")

    def __repr__(self) -> str:
        shapes = {name: buffer.shape for name, buffer in self.inputs.items()} or "unbound"
        named = [f"{state.input} (lifted)" if state.lifted else state.input for state in self.states]
        return f"<gateinfer.Stream {shapes}, states {', '.join(named) or 'none'}>"


def _rebuilt(
    model: Model,
    states: tuple[State, ...],
    constants: Arrays,
    initial: Arrays,
    lift: Lift | None,
    arrays: Arrays,
) -> Stream:
    """A stream with the same settings and a copy of the state."""
    stream = Stream(model, states, constants, {}, initial, lift)
    if lift:
        stream.state.extend({}, lift.initial)
    stream.state.update(arrays)
    return stream
