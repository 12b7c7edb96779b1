"""Model: an immutable, shareable, loaded network. `load` makes one; `stream` gives it memory."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gateinfer import islands
from gateinfer.errors import GateInferError, ModelError, ShapeError, StateMismatch, shown
from gateinfer.feeds import as_feed, as_mapping, as_names, refuse_twice
from gateinfer.graph.bind import bind_shapes, resolve
from gateinfer.graph.fold import fold_constants, unsupported
from gateinfer.graph.ir import Graph, Port
from gateinfer.graph.lift import Lift
from gateinfer.graph.states import State, detect_states
from gateinfer.graph.values import deciding_inputs
from gateinfer.graph.weights import check_weights, constant_elements
from gateinfer.lifts import Lifts
from gateinfer.loaders import load_graph
from gateinfer.lower import NATIVE_OPS
from gateinfer.lower.target import Target, make_target
from gateinfer.node_arg import NodeArg, node_arg
from gateinfer.once import once
from gateinfer.plan import Plan, PlanCache
from gateinfer.trial import native_refusal, plan_first, refuse_hopeless, refuse_out_of_range

if TYPE_CHECKING:
    from gateinfer.stream import Stream
    from gateinfer.summary import Summary

Source = str | os.PathLike[str] | bytes


def load(
    source: Source,
    *,
    isa: str = "auto",
    precision: str = "f32",
    threads: int = 1,
    keep_hot: float = 0.0,
    fallback: str | None = "onnxruntime",
    allow_nonfinite: bool = False,
    **weights: Any,
) -> Model:
    """Load a trained model.

    Parameters
    ----------
    source : path or bytes
        A file or its contents: ONNX, what `Model.save` wrote, or the weights of one recurrent module as .npz,
        .safetensors or .pt.
    isa : str
        Kernel table: "auto", "scalar", "avx2" or "avx512". The environment variable GATEINFER_ISA lowers "auto".
    precision : "f32", "bf16" or "f16"
        How weights of recurrent layers and matrix products are stored; sums are float32 always. 16 bits halve what a
        step reads, which pays where weights do not fit in the nearest caches, and round every weight to 8 (bf16) or 11
        (f16) bits: `validate` says what that does to a model. Convolutions keep float32.
    threads : int
        Threads that share large layers within one step: units of a step, or rows of a batch. Results do not depend on
        it. The others start with the first such layer, and never more of them than there are CPUs the calling thread
        may run on. A model has one team: while it works for one stream, others compute alone on their caller.
    keep_hot : float
        Seconds that the other threads wait awake after a step before they sleep. They occupy their cores for that
        time; but waking takes some 10 microseconds, and if it is more than 0, layers are shared that take 3.
    fallback : "onnxruntime" or None
        Who runs nodes without a native op, if it is installed: each gap between native nodes goes there as one maximal
        sub-graph. Recurrent nodes never do. None: such nodes are refused.
    allow_nonfinite : bool
        Accept NaN and infinity in weights.
    **weights
        For weight files what `from_weights` takes: kind, layout, prefix, batch_first, activation, ...

    Raises
    ------
    ModelError
        The file is corrupt, contradictory, hostile or too large.
    UnsupportedOp
        Nodes or attributes have no implementation; the text lists every one.
    """
    if fallback is not None and (not isinstance(fallback, str) or fallback != "onnxruntime"):
        raise GateInferError(f"fallback={shown(fallback)}: expected 'onnxruntime' or None")
    if not isinstance(allow_nonfinite, (bool, np.bool_)):
        raise GateInferError(f"allow_nonfinite: expected True or False, got {type(allow_nonfinite).__name__}")
    if isinstance(source, (bytearray, memoryview)):
        source = bytes(source)
    allow = bool(allow_nonfinite)
    target = make_target(isa, precision, threads, keep_hot)
    graph = load_graph(source, allow_nonfinite=allow, **weights)
    return Model(graph, target, source=None if weights else source, fallback=fallback, allow_nonfinite=allow)


class Model:
    """A loaded network. Immutable and safe to share between threads.

    Attributes
    ----------
    inputs, outputs : tuple of Port
        Ports with name, shape (int, symbol or None per axis) and dtype. State ports are among them.
    states : tuple of State
        Inputs that `stream` keeps, each with the output that replaces it. A whole-sequence model has lifted ones.
    isa, precision, threads
        Kernel table, format of weights and threads in use.
    """

    def __init__(
        self,
        graph: Graph,
        target: Target,
        *,
        source: Source | None = None,
        fallback: str | None = None,
        allow_nonfinite: bool = False,
    ) -> None:
        self.isa, self.precision = target.isa, target.precision
        self.threads = target.team.threads if target.team else 1
        self.source = source
        self._allow_nonfinite = allow_nonfinite
        self.graph = fold_constants(graph)
        self.fallback = fallback
        refused = unsupported(self.graph, NATIVE_OPS)
        may_fall_back = bool(fallback) and islands.available()
        if refused and not may_fall_back:
            raise native_refusal(refused)
        check_weights(self.graph)
        refuse_out_of_range(self.graph, target.rounded)
        self.inputs: tuple[Port, ...] = tuple(self.graph.inputs)
        self.outputs: tuple[Port, ...] = tuple(self.graph.outputs)
        self.plans = PlanCache(self.graph, target, constant_elements(graph), fallback=may_fall_back)
        self._ports = {port.name: port for port in self.inputs}
        self._output_names = [port.name for port in self.outputs]
        self._deciding = deciding_inputs(self.graph)
        self._last_plan: Plan | None = None
        self.lifts = Lifts(self.graph, self.is_deciding, self.plans.specialize)
        self._surface_errors(refused)

    @once
    def states(self) -> tuple[State, ...]:
        """State pairs of the file, then those that `stream` lifts out of recurrent nodes (`State.lifted`).

        Which are lifted may depend on constants and is then only known to the stream (`Stream.states`).

        Raises
        ------
        StateMismatch
            Pairs are ambiguous; `stream` needs `states=` then.
        """
        try:
            lift = self.lifts.guess(self.file_states, {}, {})
        except StateMismatch:
            return self.file_states
        return self.file_states + (lift.states if lift else ())

    @once
    def file_states(self) -> tuple[State, ...]:
        """State pairs among the file's own inputs and outputs; StateMismatch when they are ambiguous."""
        return () if self.graph.unstreamable else detect_states(self.graph) or self._recognised_states()

    def _recognised_states(self) -> tuple[State, ...]:
        """Those that only show once hand-written cells are recognised, which takes shapes: open extents count as 1."""
        if self._deciding - self.graph.defaults.keys() or any(port.shape is None for port in self.inputs):
            return ()
        fed = [port for port in self.inputs if port.name not in self.graph.defaults]
        shapes = {port.name: tuple(d if isinstance(d, int) else 1 for d in port.shape or ()) for port in fed}
        try:
            graph = self.plans.specialize(self.graph, shapes, self.graph.defaults)
        except GateInferError:
            return ()
        if not any(node.origin for node in graph.nodes):
            return ()
        return tuple(replace(state, shape=self.port(state.input).shape) for state in detect_states(graph))

    def _surface_errors(self, refused: Sequence[str]) -> None:
        """Compiles at once when every shape is known; looks for what no shape can cure when some are open."""
        ports = [port for port in self.inputs if port.name not in self.graph.defaults]
        if any(port.name in self._deciding or port.shape is None for port in ports):
            return
        if all(port.type.is_static for port in ports):
            plan_first(self.graph, {port.name: port.type.extents for port in ports}, self.plan)
        else:
            defaults = self.graph.defaults
            refuse_hopeless(self.graph, refused, lambda s: self.plans.specialize(self.graph, s, defaults))

    def port(self, name: str) -> Port:
        """The input called `name`; ShapeError with the names there are otherwise."""
        if not isinstance(name, str) or name not in self._ports:
            called = name if isinstance(name, str) else type(name).__name__
            raise ShapeError(f"no input is called {called!r}; inputs: {', '.join(self._ports)}")
        return self._ports[name]

    def is_deciding(self, name: str) -> bool:
        """True when shapes or control flow depend on the value of input `name`."""
        return name in self._deciding

    def plan(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        values: Mapping[str, np.ndarray],
        states: Sequence[tuple[str, str]] = (),
        lift: Lift | None = None,
    ) -> Plan:
        """The program for these input shapes and constant inputs (engine use)."""
        unfed = self._unfed_defaults(shapes.keys() | values.keys())
        return self.plans.get(shapes, unfed | dict(values), states, lift)

    def _unfed_defaults(self, fed: Set[str]) -> dict[str, np.ndarray]:
        return {name: value for name, value in self.graph.defaults.items() if name not in fed}

    def open_defaults(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Defaults of unfed inputs with named extents, such as zero states of any batch, stretched to what is fed."""
        open_ports = [p for p in self.inputs if p.name in self.graph.defaults and not p.type.is_static]
        unfed = [port for port in open_ports if port.name not in feeds and port.name not in self._deciding]
        if not unfed:
            return {}
        dims = bind_shapes(self.graph, {name: array.shape for name, array in feeds.items()})
        shapes = {port.name: resolve(port, dims) for port in unfed}
        return {
            name: np.ascontiguousarray(np.broadcast_to(self.graph.defaults[name], shape))
            for name, shape in shapes.items()
            if shape is not None
        }

    # ---- one call ----------------------------------------------------------------------------------------------------

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: Any = None
    ) -> list[np.ndarray]:
        """Same meaning as onnxruntime's InferenceSession.run: all inputs in, the named (or all) outputs out.

        Parameters
        ----------
        output_names : sequence of str or None
        input_feed : mapping of input name to array
        run_options : ignored

        Raises
        ------
        ShapeError
            Names, ranks, extents, dtypes or values of the feed do not fit.
        """
        wanted = self._output_names if output_names is None else self._wanted(output_names)
        return list(map(self._results(input_feed).__getitem__, wanted))

    def _results(self, input_feed: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """All outputs. A feed like the last one needs no more looking at."""
        plan = self._last_plan
        if plan is not None and plan.calls.fit(input_feed):
            return plan.calls.run(input_feed)  # type: ignore[arg-type]  # a dict then
        plan, feeds = self._planned(input_feed)
        return plan.calls.run(feeds)

    def _planned(self, input_feed: Mapping[str, Any]) -> tuple[Plan, dict[str, np.ndarray]]:
        """The plan for a feed, and the arrays to run it on. Remembered for the next feed like it."""
        feeds = self.feeds(input_feed)
        feeds |= self.open_defaults(feeds)
        shapes = {n: a.shape for n, a in feeds.items() if n not in self._deciding}
        values = {n: a for n, a in feeds.items() if n in self._deciding}
        plan = self.plan(shapes, values)
        self._last_plan = None if values else plan
        return plan, feeds

    def _wanted(self, output_names: Sequence[str]) -> list[str]:
        wanted = as_names(output_names, "output_names")
        unknown = [name for name in wanted if name not in self._output_names]
        if unknown:
            raise ShapeError(f"no output is called {unknown[0]!r}; outputs: {', '.join(self._output_names)}")
        return wanted

    def feeds(self, input_feed: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Checked and converted inputs; every input without a default must be there."""
        if not isinstance(input_feed, Mapping):
            raise ShapeError(f"inputs come as a dict of name to array, got {type(input_feed).__name__}")
        feeds = {name: as_feed(self.port(name), value) for name, value in input_feed.items()}
        missing = [n for n in self._ports if n not in feeds and n not in self.graph.defaults]
        if missing:
            raise ShapeError(f"inputs are missing: {', '.join(missing)}")
        return feeds

    def __call__(self, /, *args: Any, **feeds: Any) -> np.ndarray | dict[str, np.ndarray]:
        """Run with inputs in the order of `inputs`, or by name: the array, or a dict when several come out.

        A state that is left to its default is not returned either.
        """
        if len(args) > len(self.inputs):
            raise ShapeError(f"the model has {len(self.inputs)} inputs, got {len(args)}")
        fed = dict(zip(self._ports, args, strict=False))
        refuse_twice(fed, feeds)
        fed |= feeds
        results = self._results(fed)
        for state in self._optional_states:
            if state.input not in fed:
                del results[state.output]
        return results if len(results) != 1 else results.popitem()[1]

    @once
    def _optional_states(self) -> tuple[State, ...]:
        """States whose inputs have a default; none where it is ambiguous which they are."""
        if not self.graph.defaults:
            return ()
        try:
            return tuple(state for state in detect_states(self.graph) if state.input in self.graph.defaults)
        except StateMismatch:
            return ()

    # ---- many calls --------------------------------------------------------------------------------------------------

    def stream(
        self,
        *,
        states: Mapping[str, str] | None = None,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        initial: Mapping[str, Any] | None = None,
        constants: Mapping[str, Any] | None = None,
        **more_constants: Any,
    ) -> Stream:
        """Memory for one run over frames, with state kept between calls.

        In a whole-sequence model, whose recurrent nodes start from nothing or from constants, their states are lifted:
        frames or chunks along the sequence axis, fed one after another, equal one `run` bit for bit. Outputs of the
        last step alone are those of the last step of each chunk.

        Parameters
        ----------
        states : mapping of input name to output name, optional
            Overrides detection.
        shapes : mapping of input name to shape, optional
            Fixes shapes before the first frame, so that bound buffers exist at once.
        initial : mapping of state name to array, optional
            What `reset` restores, instead of zeros or the file's own initial state.
        constants, **more_constants
            Inputs that keep one value, such as `sr=16000`; folded into the program.

        Raises
        ------
        StateMismatch
            State cannot be paired, or the model mixes over time outside its recurrent nodes, or runs backward.
        """
        from gateinfer.stream import Stream

        given = as_mapping(constants, "constants=") | more_constants
        found = self.file_states if states is None else detect_states(self.graph, as_mapping(states, "states="))
        return Stream(self, found, given, as_mapping(shapes, "shapes="), as_mapping(initial, "initial="))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles as the file it came from: by path, or by content when it came as bytes or from arrays."""
        source = self._saved() if self.source is None else self.source
        source = source if isinstance(source, bytes) else os.path.abspath(source)
        target = self.plans.target
        asked = self.isa, self.precision, self.threads, target.team.keep_hot if target.team else 0.0
        return _reloaded, (source, *asked, self.fallback, self._allow_nonfinite)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to an .npz file that `load`, given the same precision, reads back to bit-equal results.

        Parameters
        ----------
        path : of the file, which is replaced. It holds plain arrays and a description; nothing in it is pickled.
        """
        Path(path).write_bytes(self._saved())

    def _saved(self) -> bytes:
        from gateinfer.loaders.saved import dump_graph

        return dump_graph(self.graph)

    # ---- looking at it -----------------------------------------------------------------------------------------------

    def summary(
        self,
        *,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        constants: Mapping[str, Any] | None = None,
        time: bool = False,
    ) -> Summary:
        """What the model is, what runs where and what it costs, as a table; see `summary.summarize`.

        Parameters
        ----------
        shapes, constants : mapping, optional
            What the figures are for, as in `stream`. What is left open is picked, and the table says so.
        time : bool
            Measure what each part takes.
        """
        from gateinfer.summary import summarize

        return summarize(self, shapes, constants, time=time)

    def get_inputs(self) -> list[NodeArg]:
        """onnxruntime's spelling of `inputs`."""
        return [node_arg(port) for port in self.inputs]

    def get_outputs(self) -> list[NodeArg]:
        """onnxruntime's spelling of `outputs`."""
        return [node_arg(port) for port in self.outputs]

    def __repr__(self) -> str:
        ins, outs = (", ".join(p.name for p in ports) for ports in (self.inputs, self.outputs))
        extra = "" if self.precision == "f32" else f", {self.precision} weights"
        extra += f", {self.threads} threads" * (self.threads > 1)
        return f"<gateinfer.Model ({ins}) -> ({outs}), {len(self.graph.nodes)} nodes, {self.isa}{extra}>"


def _reloaded(
    source: Source,
    isa: str,
    precision: str,
    threads: int,
    keep_hot: float,
    fallback: str | None,
    allow_nonfinite: bool,
) -> Model:
    """The pickled model on this machine: its own instruction set if it runs here, else the best one that does."""
    options: dict[str, Any] = {"precision": precision, "threads": threads, "keep_hot": keep_hot, "fallback": fallback}
    again = partial(load, source, allow_nonfinite=allow_nonfinite, **options)
    try:
        return again(isa=isa)
    except ModelError:
        raise
    except GateInferError:
        return again()
