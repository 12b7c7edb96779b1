"""Writes a neutral graph as an ONNX model, for what runs or reads ONNX. The `onnx` package is imported when used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from gateinfer.graph.ir import UNKNOWN_DTYPE, Graph, Node, Port
from gateinfer.graph.loops import is_folded, plain

IR_VERSION = 8
"""Old enough for every onnxruntime of the last years, new enough for all operator sets used here."""


def to_onnx(graph: Graph) -> Any:
    """The graph as an onnx.ModelProto, with its constants as initializers and its types written out."""
    from onnx import helper

    domains = {node.domain for node in _all_nodes(graph)} - {"", "ai.onnx"}
    opsets = [helper.make_opsetid("", graph.opset)]
    opsets += [helper.make_opsetid(domain, graph.domains.get(domain, 1)) for domain in sorted(domains)]
    return helper.make_model(_graph_proto(graph), opset_imports=opsets, ir_version=IR_VERSION)


def _all_nodes(graph: Graph) -> Iterable[Node]:
    for node in graph.nodes:
        yield node
        for value in node.attrs.values():
            if isinstance(value, Graph):
                yield from _all_nodes(value)


def _graph_proto(graph: Graph) -> Any:
    from onnx import helper, numpy_helper

    return helper.make_graph(
        [_node_proto(written) for node in graph.nodes for written in (plain(node) if is_folded(node) else [node])],
        graph.name or "graph",
        [_value_info(port) for port in graph.inputs],
        [_value_info(port) for port in graph.outputs],
        [numpy_helper.from_array(np.ascontiguousarray(a).reshape(a.shape), n) for n, a in graph.constants.items()],
    )


def _value_info(port: Port) -> Any:
    from onnx import ValueInfoProto, helper

    if port.dtype == UNKNOWN_DTYPE:
        return ValueInfoProto(name=port.name)
    return helper.make_tensor_value_info(port.name, helper.np_dtype_to_tensor_dtype(port.dtype), port.shape)


def _node_proto(node: Node) -> Any:
    from onnx import NodeProto, helper, numpy_helper

    proto = NodeProto(op_type=node.op, domain=node.domain, name=node.name, input=node.inputs, output=node.outputs)
    for name, value in node.attrs.items():
        if isinstance(value, Graph):
            value = _graph_proto(value)
        elif isinstance(value, np.ndarray):
            value = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape))
        kind = helper.AttributeProto.INTS if isinstance(value, list) and not value else None
        proto.attribute.append(helper.make_attribute(name, value, attr_type=kind))
    return proto
