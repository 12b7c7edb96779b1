"""ONNX graphs, nodes and attributes to the neutral graph."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from gateinfer.errors import ModelError, UnsupportedOp
from gateinfer.graph.checks import MAX_DEPTH, MAX_GRAPHS, MAX_NODES
from gateinfer.graph.ir import UNKNOWN_DTYPE, Dim, Graph, Node, Port, TensorType
from gateinfer.loaders.onnx_tensors import TensorReader, dtype_of

# AttributeProto.AttributeType -> (field, how to convert)
_SCALARS: Final = {1: "f", 2: "i"}
_LISTS: Final = {6: "floats", 7: "ints"}
_STRING, _TENSOR, _GRAPH, _STRINGS, _TENSORS, _GRAPHS = 3, 4, 5, 8, 9, 10
_TYPE_NAMES: Final = {11: "SPARSE_TENSOR", 12: "SPARSE_TENSORS", 13: "TYPE_PROTO", 14: "TYPE_PROTOS"}
_FIELDS: Final = {1: "f", 2: "i", 3: "s", 4: "t", 5: "g"}

_CONSTANT_DTYPES: Final = {
    "value": None, "value_float": "f4", "value_floats": "f4", "value_int": "i8", "value_ints": "i8",
    "value_string": "O", "value_strings": "O",
}  # fmt: skip


class GraphReader:
    """Converts one model's graph with its sub-graphs."""

    def __init__(self, tensors: TensorReader, opset: int) -> None:
        self._tensors = tensors
        self._opset = opset
        self._nodes_left = MAX_NODES
        self._graphs_left = 1 + MAX_GRAPHS

    def read_main(self, proto: Any, overridable: bool) -> Graph:
        """The main graph. `overridable`: inputs with an initializer are optional, not constants as before IR 4."""
        graph = self._read(proto, 0)
        _require_types(graph)
        shared = [p for p in graph.inputs if p.name in graph.constants]
        if overridable:
            graph.defaults = {p.name: graph.constants.pop(p.name) for p in shared}
            for port in shared:
                _check_default(port, graph.defaults[port.name])
        else:
            graph.inputs = [p for p in graph.inputs if p.name not in graph.constants]
        return graph

    def _read(self, proto: Any, depth: int) -> Graph:
        if depth > MAX_DEPTH:
            raise ModelError(f"sub-graphs nest deeper than {MAX_DEPTH}")
        self._graphs_left -= 1
        if self._graphs_left < 0:
            raise ModelError(f"the model has more than {MAX_GRAPHS} sub-graphs; export it without nested branches")
        if proto.sparse_initializer:
            raise UnsupportedOp("sparse initializers are not implemented; store them as dense tensors")
        graph = Graph(
            inputs=[_port(p, "input", depth) for p in proto.input],
            outputs=[_port(p, "output", depth) for p in proto.output],
            nodes=[],
            constants=self._initializers(proto),
            opset=self._opset,
            name=checked_name(proto.name),
        )
        self._nodes_left -= len(proto.node)
        if self._nodes_left < 0:
            raise ModelError(f"the model has more than {MAX_NODES} nodes")
        for node in proto.node:
            self._add_node(graph, node, depth)
        return graph

    def _initializers(self, proto: Any) -> dict[str, np.ndarray]:
        constants: dict[str, np.ndarray] = {}
        for tensor in proto.initializer:
            name = checked_name(tensor.name)
            if not name or name in constants:
                raise ModelError(f"initializer {name!r} is {'defined twice' if name else 'without a name'}")
            constants[name] = self._tensors.read(tensor, f'initializer "{name}"')
        return constants

    def _add_node(self, graph: Graph, proto: Any, depth: int) -> None:
        node = Node(
            op=checked_name(proto.op_type),
            inputs=_trimmed(proto.input),
            outputs=_trimmed(proto.output),
            domain="" if proto.domain == "ai.onnx" else checked_name(proto.domain),
            name=checked_name(proto.name),
        )
        if not node.op:
            raise ModelError(f"{node.label()}: the operator type is empty")
        node.attrs = self._attributes(proto, node, depth)
        if node.op == "Constant" and not node.domain:
            _define(graph, node)
        else:
            graph.nodes.append(node)

    def _attributes(self, proto: Any, node: Node, depth: int) -> dict[str, Any]:
        attrs: dict[str, Any] = {}
        for attribute in proto.attribute:
            name = checked_name(attribute.name)
            if not name or name in attrs:
                raise ModelError(f'{node.label()}: attribute "{name}" is nameless or given twice')
            attrs[name] = self._attribute(attribute, f'{node.label()}: attribute "{name}"', depth)
        return attrs

    def _attribute(self, proto: Any, what: str, depth: int) -> Any:
        if proto.ref_attr_name:
            raise ModelError(f"{what} refers to an attribute of a function, but stands outside of one")
        kind = proto.type
        if kind in _FIELDS and not proto.HasField(_FIELDS[kind]):
            raise ModelError(f"{what} has no value of the type it declares")
        if kind in _SCALARS:
            return getattr(proto, _SCALARS[kind])
        if kind in _LISTS:
            return list(getattr(proto, _LISTS[kind]))
        if kind in (_STRING, _STRINGS):
            return _text(proto.s) if kind == _STRING else [_text(s) for s in proto.strings]
        if kind in (_TENSOR, _TENSORS):
            arrays = [self._tensors.read(t, what) for t in ([proto.t] if kind == _TENSOR else proto.tensors)]
            return arrays[0] if kind == _TENSOR else arrays
        if kind in (_GRAPH, _GRAPHS):
            graphs = [self._read(g, depth + 1) for g in ([proto.g] if kind == _GRAPH else proto.graphs)]
            return graphs[0] if kind == _GRAPH else graphs
        raise UnsupportedOp(f"{what} of type {_TYPE_NAMES.get(kind, kind)} is not implemented")


def checked_name(value: str | bytes) -> str:
    """A name of the file. Protobuf hands over text that is not UTF-8 as bytes."""
    if isinstance(value, bytes):
        raise ModelError(f"the model has a name that is no UTF-8 text: {value[:40]!r}")
    return value


def _trimmed(names: Any) -> tuple[str, ...]:
    """Trailing omitted names say nothing."""
    found = [checked_name(n) for n in names]
    while found and not found[-1]:
        found.pop()
    return tuple(found)


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value


def _define(graph: Graph, node: Node) -> None:
    """Turns a Constant node into a constant."""
    if len(node.attrs) != 1 or len(node.outputs) != 1 or node.inputs:
        raise ModelError(f"{node.label()}: expected one output, one attribute and no input")
    ((key, value),) = node.attrs.items()
    if key not in _CONSTANT_DTYPES:
        raise UnsupportedOp(f"{node.label()}: attribute {key!r} is not implemented")
    array = value if isinstance(value, np.ndarray) else _constant_array(node, key, value)
    (name,) = node.outputs
    if name in graph.constants:
        raise ModelError(f"{node.label()}: value {name!r} is defined twice")
    graph.constants[name] = array


def _constant_array(node: Node, key: str, value: Any) -> np.ndarray:
    dtype = _CONSTANT_DTYPES[key]
    try:
        if dtype is None or (np.ndim(value) == 1) != key.endswith("s"):
            raise ValueError
        return np.array(value, dtype=dtype)
    except (TypeError, ValueError, OverflowError):
        raise ModelError(f"{node.label()}: attribute {key!r} holds no value of its kind") from None


def _port(proto: Any, role: str, depth: int) -> Port:
    what = f'graph {role} "{checked_name(proto.name)}"'
    if not proto.name:
        raise ModelError(f"a graph {role} has no name")
    kind = proto.type.WhichOneof("value")
    if kind is None or (kind == "sequence_type" and depth):
        return Port(proto.name, TensorType(UNKNOWN_DTYPE, None))
    if kind != "tensor_type":
        raise UnsupportedOp(f"{what}: only tensors are implemented, got {kind.removesuffix('_type')}")
    tensor = proto.type.tensor_type
    dtype = dtype_of(tensor.elem_type, what) if tensor.elem_type else UNKNOWN_DTYPE
    shape = tuple(_dim(d, what) for d in tensor.shape.dim) if tensor.HasField("shape") else None
    return Port(proto.name, TensorType(dtype.newbyteorder("="), shape))


def _dim(proto: Any, what: str) -> Dim:
    """0 counts as unknown: exporters write it for an extent they do not know."""
    if proto.dim_value < 0:
        raise ModelError(f"{what}: negative extent {proto.dim_value}")
    return proto.dim_value or checked_name(proto.dim_param) or None


def _require_types(graph: Graph) -> None:
    for port in graph.inputs:
        if port.dtype == UNKNOWN_DTYPE:
            raise ModelError(f'graph input "{port.name}" has no element type')


def _check_default(port: Port, array: np.ndarray) -> None:
    declared = port.shape
    fits = declared is None or (
        len(declared) == array.ndim
        and all(not isinstance(d, int) or d == n for d, n in zip(declared, array.shape, strict=True))
    )
    if not fits or port.dtype != array.dtype:
        raise ModelError(
            f'graph input "{port.name}" is declared {port.dtype} {declared}, '
            f"its initializer is {array.dtype} {list(array.shape)}"
        )
