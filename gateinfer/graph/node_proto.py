"""A node as ONNX spells it, for whoever runs or reads ONNX. The `onnx` package is imported when used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gateinfer.graph.ir import Graph, Node

GraphWriter = Callable[[Graph], Any]
"""A sub-graph as an onnx.GraphProto."""


def node_proto(node: Node, write_graph: GraphWriter | None = None) -> Any:
    """`node` as an onnx.NodeProto; `write_graph` is needed only for nodes with sub-graphs."""
    from onnx import NodeProto, helper

    proto = NodeProto(op_type=node.op, domain=node.domain, name=node.name, input=node.inputs, output=node.outputs)
    for name, value in node.attrs.items():
        kind = helper.AttributeProto.INTS if isinstance(value, list) and not value else None
        proto.attribute.append(helper.make_attribute(name, _encoded(value, write_graph), attr_type=kind))
    return proto


def tensor_proto(array: np.ndarray, name: str | None = None) -> Any:
    """`array` as an onnx.TensorProto, whatever its strides."""
    from onnx import numpy_helper

    return numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)


def _encoded(value: Any, write_graph: GraphWriter | None) -> Any:
    if isinstance(value, list):
        return [_encoded(v, write_graph) for v in value]
    if isinstance(value, np.ndarray):
        return tensor_proto(value)
    if isinstance(value, Graph):
        if write_graph is None:
            raise TypeError("a node with a sub-graph needs a writer of graphs")
        return write_graph(value)
    return value
