"""Model: an immutable, shareable, loaded network. `load` makes one; `stream` gives it memory."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gateinfer import _core
from gateinfer.errors import GateInferError, ModelError, ShapeError, UnsupportedOp
from gateinfer.feeds import as_feed, as_mapping, as_names, new_buffer
from gateinfer.graph.fold import fold_constants, unsupported
from gateinfer.graph.ir import Graph, Port
from gateinfer.graph.states import State, detect_states
from gateinfer.graph.values import deciding_inputs
from gateinfer.graph.weights import check_weights, constant_elements
from gateinfer.loaders.onnx import load_onnx
from gateinfer.lower import NATIVE_OPS
from gateinfer.plan import Plan, PlanCache

if TYPE_CHECKING:
    from gateinfer.stream import Stream
    from gateinfer.summary import Summary

Source = str | os.PathLike[str] | bytes


@dataclass(frozen=True, slots=True)
class NodeArg:
    """An input or output as onnxruntime describes it."""

    name: str
    shape: list[int | str | None]
    type: str


def load(
    source: Source,
    *,
    isa: str = "auto",
    threads: int = 1,
    fallback: str | None = "onnxruntime",
    allow_nonfinite: bool = False,
) -> Model:
    """Load a trained model.

    Parameters
    ----------
    source : path or bytes
        An ONNX file, or its contents.
    isa : str
        Kernel table: "auto", "scalar", "avx2" or "avx512". The environment variable GATEINFER_ISA lowers "auto".
    threads : int
        Threads per step. This version runs on one.
    fallback : "onnxruntime" or None
        Who may run nodes without a native op. This version runs no islands, so such nodes are refused either way.
    allow_nonfinite : bool
        Accept NaN and infinity in weights.

    Raises
    ------
    ModelError
        The file is corrupt, contradictory, hostile or too large.
    UnsupportedOp
        Nodes or attributes have no implementation; the text lists every one.
    """
    if type(threads) is not int or threads != 1:
        raise GateInferError(f"threads={threads!r}: this version runs a step on one thread; pass threads=1")
    if fallback is not None and (not isinstance(fallback, str) or fallback != "onnxruntime"):
        raise GateInferError(f"fallback={fallback!r}: expected 'onnxruntime' or None")
    if not isinstance(isa, str) or (isa != "auto" and isa not in _core.isa_names()):
        raise GateInferError(f"isa={isa!r}: this build has auto, {', '.join(_core.isa_names())}")
    if not isinstance(allow_nonfinite, (bool, np.bool_)):
        raise GateInferError(f"allow_nonfinite: expected True or False, got {type(allow_nonfinite).__name__}")
    if isinstance(source, (bytearray, memoryview)):
        source = bytes(source)
    graph = load_onnx(source, allow_nonfinite=bool(allow_nonfinite))
    return Model(graph, isa=isa, source=source, allow_nonfinite=allow_nonfinite)


class Model:
    """A loaded network. Immutable and safe to share between threads.

    Attributes
    ----------
    inputs, outputs : tuple of Port
        Ports with name, shape (int, symbol or None per axis) and dtype. State ports are among them.
    states : tuple of State
        Inputs that `stream` keeps, each with the output that replaces it.
    isa : str
        Kernel table in use.
    """

    def __init__(
        self, graph: Graph, *, isa: str = "auto", source: Source | None = None, allow_nonfinite: bool = False
    ) -> None:
        self.isa = _core.best_isa() if isa == "auto" else isa
        self.source = source
        self._allow_nonfinite = allow_nonfinite
        self.graph = fold_constants(graph)
        refused = unsupported(self.graph, NATIVE_OPS)
        if refused:
            raise UnsupportedOp(_refusal(refused))
        check_weights(self.graph)
        self.inputs: tuple[Port, ...] = tuple(self.graph.inputs)
        self.outputs: tuple[Port, ...] = tuple(self.graph.outputs)
        self.plans = PlanCache(self.graph, self.isa, constant_elements(graph))
        self._ports = {port.name: port for port in self.inputs}
        self._deciding = deciding_inputs(self.graph)
        self._plan_if_static()

    @cached_property
    def states(self) -> tuple[State, ...]:
        """State pairs; StateMismatch when they are ambiguous (then `stream` needs `states=`)."""
        return detect_states(self.graph)

    def _plan_if_static(self) -> None:
        """Compiles at once when every shape is known, so that errors surface at load."""
        ports = [port for port in self.inputs if port.name not in self.graph.defaults]
        if all(port.type.is_static for port in ports) and not any(port.name in self._deciding for port in ports):
            self.plan({port.name: port.type.extents for port in ports}, {})

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
    ) -> Plan:
        """The program for these input shapes and constant inputs (engine use)."""
        return self.plans.get(shapes, self._unfed_defaults(shapes.keys() | values.keys()) | dict(values), states)

    def _unfed_defaults(self, fed: Set[str]) -> dict[str, np.ndarray]:
        return {name: value for name, value in self.graph.defaults.items() if name not in fed}

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
        wanted = self._wanted(output_names)
        feeds = self.feeds(input_feed)
        shapes = {n: a.shape for n, a in feeds.items() if n not in self._deciding}
        values = {n: a for n, a in feeds.items() if n in self._deciding}
        plan = self.plan(shapes, values)
        results = self._run_plan(plan, feeds)
        return [results[name] for name in wanted]

    def _wanted(self, output_names: Sequence[str] | None) -> list[str]:
        names = [port.name for port in self.outputs]
        if output_names is None:
            return names
        wanted = as_names(output_names, "output_names")
        unknown = [name for name in wanted if name not in names]
        if unknown:
            raise ShapeError(f"no output is called {unknown[0]!r}; outputs: {', '.join(names)}")
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

    def _run_plan(self, plan: Plan, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        lowered = plan.lowered
        tensors, arrays = [], []
        for name, (tensor, _, _) in lowered.inputs.items():
            tensors.append(tensor)
            arrays.append(feeds[name])
        results = {}
        for name, (tensor, dtype, shape) in lowered.outputs.items():
            results[name] = new_buffer(shape, dtype, name)
            tensors.append(tensor)
            arrays.append(results[name])
        runner = plan.runner()
        runner.run(tensors, arrays)
        plan.idle.append(runner)
        return results

    def __call__(self, /, *args: Any, **feeds: Any) -> np.ndarray | dict[str, np.ndarray]:
        """Run with inputs in the order of `inputs`, or by name: the array, or a dict when several come out."""
        if len(args) > len(self.inputs):
            raise ShapeError(f"the model has {len(self.inputs)} inputs, got {len(args)}")
        named = {port.name: value for port, value in zip(self.inputs, args, strict=False)}
        results = self.run(None, named | feeds)
        if len(results) == 1:
            return results[0]
        return {port.name: value for port, value in zip(self.outputs, results, strict=True)}

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
            State cannot be paired, or the model keeps no state that could be carried.
        """
        from gateinfer.stream import Stream

        given = as_mapping(constants, "constants=") | more_constants
        pairs = detect_states(self.graph, None if states is None else as_mapping(states, "states="))
        return Stream(self, pairs, given, as_mapping(shapes, "shapes="), as_mapping(initial, "initial="))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles as the file it came from: by path, or by content when it came as bytes."""
        if self.source is None:
            raise GateInferError("a model that came from no file cannot be pickled")
        source = self.source if isinstance(self.source, bytes) else os.path.abspath(self.source)
        return _reloaded, (source, self.isa, self._allow_nonfinite)

    # ---- looking at it -----------------------------------------------------------------------------------------------

    def summary(self) -> Summary:
        """Nodes, ops, states, multiply-adds, packed bytes and instruction set, as a table."""
        from gateinfer.summary import summarize

        return summarize(self)

    def get_inputs(self) -> list[NodeArg]:
        """onnxruntime's spelling of `inputs`."""
        return [_node_arg(port) for port in self.inputs]

    def get_outputs(self) -> list[NodeArg]:
        """onnxruntime's spelling of `outputs`."""
        return [_node_arg(port) for port in self.outputs]

    def __repr__(self) -> str:
        ins, outs = (", ".join(p.name for p in ports) for ports in (self.inputs, self.outputs))
        return f"<gateinfer.Model ({ins}) -> ({outs}), {len(self.graph.nodes)} nodes, {self.isa}>"


def _reloaded(source: Source, isa: str, allow_nonfinite: bool) -> Model:
    """The pickled model on this machine: its own instruction set if it runs here, else the best one that does."""
    try:
        return load(source, isa=isa, allow_nonfinite=allow_nonfinite)
    except ModelError:
        raise
    except GateInferError:
        return load(source, allow_nonfinite=allow_nonfinite)


_ONNX_TYPES = {"float32": "float", "float64": "double", "float16": "float16", "bool": "bool"}


def _node_arg(port: Port) -> NodeArg:
    name = np.dtype(port.dtype).name
    return NodeArg(port.name, list(port.shape or ()), f"tensor({_ONNX_TYPES.get(name, name)})")


def _refusal(refused: Sequence[str]) -> str:
    listed = "\n  ".join(refused)
    return (
        f"{len(refused)} node(s) cannot run natively:\n  {listed}\n"
        "Export the model without them (simplify it or use a lower opset), or run it with onnxruntime."
    )
