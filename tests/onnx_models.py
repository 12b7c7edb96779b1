"""Small ONNX models for tests of the loader and the graph passes, and the way back from a graph to ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gateinfer.graph.ir import Graph, Node, Port
from gateinfer.loaders.onnx import load_onnx

OPSET = 17
FLOAT = TensorProto.FLOAT

Dims = Sequence[int | str | None]


def node(op: str, inputs: str, outputs: str, **attrs: Any) -> onnx.NodeProto:
    """A node; operands are written as words, "_" for one that is left out."""
    names = [["" if n == "_" else n for n in text.split()] for text in (inputs, outputs)]
    return helper.make_node(op, *names, name=f"{op.lower()}_of_{outputs.split()[0] if outputs else 'nothing'}", **attrs)


def subgraph(nodes: Sequence[onnx.NodeProto], outputs: str, inputs: str = "", **constants: Any) -> onnx.GraphProto:
    return helper.make_graph(
        nodes,
        "branch",
        [helper.make_tensor_value_info(n, FLOAT, None) for n in inputs.split()],
        [helper.make_tensor_value_info(n, FLOAT, None) for n in outputs.split()],
        [_initializer(n, a) for n, a in constants.items()],
    )


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Dims | tuple[int, Dims]],
    outputs: str,
    constants: Mapping[str, Any] | None = None,
    *,
    opset: int = OPSET,
    ir_version: int = 8,
) -> onnx.ModelProto:
    """A model. An input is its shape, or (element type, shape); an output has no declared shape."""
    graph = helper.make_graph(
        nodes,
        "g",
        [_input(name, given) for name, given in inputs.items()],
        [helper.make_tensor_value_info(n, FLOAT, None) for n in outputs.split()],
        [_initializer(n, a) for n, a in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def graph_of(nodes: list[onnx.NodeProto], inputs: dict, outputs: str = "y", opset: int = 17, **constants: Any) -> Graph:
    return load_onnx(model(nodes, inputs, outputs, constants, opset=opset).SerializeToString())


def lstm(**attrs: Any) -> onnx.ModelProto:
    """One LSTM 2 -> 4 with named dimensions seq and batch; the attributes need not fit its weights."""
    rng = np.random.default_rng(1)
    input_size, hidden_size, rows = 2, 4, 16
    weights = {
        "W": rng.standard_normal((1, rows, input_size), dtype="f4"),
        "R": rng.standard_normal((1, rows, hidden_size), dtype="f4"),
        "B": rng.standard_normal((1, 2 * rows), dtype="f4"),
    }
    layer = node("LSTM", "x W R B", "y yh yc", **({"hidden_size": hidden_size} | attrs))
    return model([layer], {"x": ("seq", "batch", input_size)}, "y yh yc", weights)


def to_onnx(graph: Graph) -> onnx.ModelProto:
    """A specialised graph as a model, its inferred types as value_info, so that a checker can contradict them."""
    ports = {p.name for p in [*graph.inputs, *graph.outputs]}
    inner = [Port(n, t) for n, t in graph.types.items() if n not in ports and n not in graph.constants]
    proto = helper.make_graph(
        [_node_proto(n) for n in graph.nodes],
        "g",
        [_value_info(p) for p in graph.inputs],
        [_value_info(p) for p in graph.outputs],
        [_initializer(n, a) for n, a in graph.constants.items()],
        value_info=[_value_info(p) for p in inner],
    )
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", graph.opset)], ir_version=8)


def _input(name: str, given: Any) -> onnx.ValueInfoProto:
    kind, shape = given if len(given) == 2 and isinstance(given[1], (tuple, list)) else (FLOAT, given)
    return helper.make_tensor_value_info(name, kind, shape)


def _initializer(name: str, value: Any) -> onnx.TensorProto:
    if isinstance(value, onnx.TensorProto):
        value.name = name
        return value
    array = np.asarray(value)
    return numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)


def _value_info(port: Port) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(port.name, helper.np_dtype_to_tensor_dtype(port.dtype), port.shape)


def _node_proto(source: Node) -> onnx.NodeProto:
    attrs = {k: numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v for k, v in source.attrs.items()}
    return helper.make_node(source.op, source.inputs, source.outputs, **{k: v for k, v in attrs.items() if v != []})
