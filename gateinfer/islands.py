"""What the engine has no op for runs in onnxruntime: one session per island, created when a plan is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from gateinfer.errors import ModelError, UnsupportedOp
from gateinfer.graph.checks import uses
from gateinfer.graph.ir import SEQUENCE, UNKNOWN_DTYPE, Graph, Node, Port, TensorType

_DTYPES = {"float": "f4", "double": "f8", "float16": "f2", "bool": "?"}


@cache
def available() -> bool:
    """True when onnxruntime and onnx are installed. They are imported only for nodes that need them."""
    return find_spec("onnx") is not None and find_spec("onnxruntime") is not None


def foreign_types(
    nodes: Sequence[Node],
    types: Mapping[str, TensorType],
    values: Mapping[str, np.ndarray],
    opset: int,
    domains: dict[str, int],
) -> list[TensorType]:
    """Types of the outputs of a node without a shape rule, as onnxruntime infers them for these operands.

    Parameters
    ----------
    nodes : that node, behind those that make the sequences it reads.
    types, values : of all tensors, and of those that are constant.

    Raises
    ------
    UnsupportedOp
        onnxruntime has no such operator either, or the shapes depend on run-time values.
    """
    made = {name for node in nodes for name in node.outputs}
    read = sorted({name for node in nodes for name in uses(node)} - made)
    inputs = [Port(name, types[name]) for name in read if name not in values and name in types]
    constants = {name: values[name] for name in read if name in values}
    node = nodes[-1]
    outputs = [Port(name, SEQUENCE) for name in node.outputs if name]
    session = _session(Graph(inputs, outputs, list(nodes), constants, opset, domains=domains), node.label())
    args = session.get_outputs()
    # It leaves open what joined lists add up to. The shape a run leads to is checked again in every run.
    is_known = all(isinstance(extent, int) for arg in args for extent in arg.shape)
    is_open = node.op == "ConcatFromSequence" and not is_known
    inferred = {arg.name: SEQUENCE if is_open else _tensor_type(node, arg) for arg in args}
    if is_open or any(found.shape == () for found in inferred.values()):
        inferred |= _types_of_a_run(session, inputs, node)
    return [inferred.get(name, TensorType(UNKNOWN_DTYPE, None)) for name in node.outputs]


def _types_of_a_run(session: Any, inputs: Sequence[Port], node: Node) -> dict[str, TensorType]:
    """The types that zeros lead to: onnxruntime says the same of a scalar and of a shape it does not know."""
    names = [arg.name for arg in session.get_outputs()]
    try:
        results = session.run(names, {port.name: np.zeros(port.type.extents, port.dtype) for port in inputs})
    except Exception as error:  # see _session
        raise UnsupportedOp(f"{node.label()}: the shape of its output is not known: {error}") from None
    found = zip(names, results, strict=True)
    return {name: TensorType(r.dtype, r.shape) for name, r in found if isinstance(r, np.ndarray)}


def _tensor_type(node: Node, arg: Any) -> TensorType:
    if arg.type.startswith("seq(tensor("):
        return SEQUENCE
    kind = arg.type.removeprefix("tensor(").removesuffix(")")
    try:
        dtype = np.dtype(_DTYPES.get(kind, kind))
    except TypeError:
        raise UnsupportedOp(f"{node.label()}: its output is a {arg.type}, which the engine cannot hold") from None
    if not all(isinstance(extent, int) for extent in arg.shape):
        raise UnsupportedOp(f"{node.label()}: the shape of its output, {arg.shape}, depends on run-time values")
    return TensorType(dtype, tuple(arg.shape))


def _session(graph: Graph, label: str) -> Any:
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise UnsupportedOp(f"{label}: no native operator, and onnxruntime cannot be imported: {error}") from None
    from gateinfer.loaders.onnx_writer import to_onnx

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    try:
        content = to_onnx(graph).SerializeToString()
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own family of exceptions, some of them bare RuntimeError
        reason = " ".join(str(error).split())
        raise UnsupportedOp(f"{label}: no native operator, and onnxruntime refuses it: {reason}") from None


class Island:
    """A sub-graph in onnxruntime. `run` reads and writes arrays of fixed shapes.

    Attributes
    ----------
    inputs, outputs : list of str
    ops : list of str
        Operators inside, in order.
    """

    def __init__(self, graph: Graph) -> None:
        self.inputs = [port.name for port in graph.inputs]
        self.outputs = [port.name for port in graph.outputs]
        self.ops = [node.op for node in graph.nodes]
        self._session = _session(replace(graph, defaults={}), f"an island of {len(self.ops)} nodes")

    def run(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Reads the inputs from `arrays` and writes the outputs into them.

        Raises
        ------
        ModelError
            onnxruntime fails on these values.
        """
        try:
            results = self._session.run(self.outputs, {name: arrays[name] for name in self.inputs})
        except Exception as error:  # see _session
            raise ModelError(f"onnxruntime failed in an island: {' '.join(str(error).split())}") from None
        for name, result in zip(self.outputs, results, strict=True):
            if result.shape != arrays[name].shape:
                raise ModelError(f"an island gives {name!r} the shape {result.shape}, expected {arrays[name].shape}")
            arrays[name][...] = result
