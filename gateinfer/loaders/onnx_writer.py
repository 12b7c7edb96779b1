"""Writes a neutral graph as an ONNX model, for what runs or reads ONNX. The `onnx` package is imported when used."""

from __future__ import annotations

from typing import Any

from gateinfer.graph.ir import UNKNOWN_DTYPE, Graph, Port, all_nodes
from gateinfer.graph.loops import is_folded, plain
from gateinfer.graph.node_proto import node_proto, tensor_proto

IR_VERSION = 8
"""Old enough for every onnxruntime of the last years, new enough for all operator sets used here."""


def to_onnx(graph: Graph) -> Any:
    """The graph as an onnx.ModelProto, with its constants as initializers and its types written out."""
    from onnx import helper

    domains = {node.domain for node in all_nodes(graph)} - {"", "ai.onnx"}
    opsets = [helper.make_opsetid("", graph.opset)]
    opsets += [helper.make_opsetid(domain, graph.domains.get(domain, 1)) for domain in sorted(domains)]
    return helper.make_model(_graph_proto(graph), opset_imports=opsets, ir_version=IR_VERSION)


def _graph_proto(graph: Graph) -> Any:
    from onnx import helper

    written = (node for given in graph.nodes for node in (plain(given) if is_folded(given) else [given]))
    return helper.make_graph(
        [node_proto(node, _graph_proto) for node in written],
        graph.name or "graph",
        [_value_info(port) for port in graph.inputs],
        [_value_info(port) for port in graph.outputs],
        [tensor_proto(array, name) for name, array in graph.constants.items()],
    )


def _value_info(port: Port) -> Any:
    from onnx import ValueInfoProto, helper

    if port.dtype == UNKNOWN_DTYPE:
        return ValueInfoProto(name=port.name)
    return helper.make_tensor_value_info(port.name, helper.np_dtype_to_tensor_dtype(port.dtype), port.shape)
