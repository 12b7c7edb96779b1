"""Whole graphs in float64: recurrent nodes by `gateinfer.reference`, others by the operators of `onnx.reference`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gateinfer.errors import ShapeError, UnsupportedOp
from gateinfer.graph.ir import Graph, Node
from gateinfer.graph.node_proto import node_proto
from gateinfer.graph.recurrent_attrs import parse_recurrent
from gateinfer.reference import Array, State, gru, lstm, rnn

_CELLS: dict[str, Callable[..., State]] = {"LSTM": lstm, "GRU": gru, "RNN": rnn}

# onnx.reference reads the default momentum of the newest text into opset 9 and then trains; at inference all versions
# are version 14 with training_mode = 0.
_NEWER_VERSION = {"BatchNormalization": 14}


def run_graph(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Run a specialised graph once in float64: see `compile_graph`.

    Parameters
    ----------
    graph : as `gateinfer.graph.fold.specialize` returns it.
    feeds : input name -> array; floating point of any width, integers stay as they are.

    Returns
    -------
    dict : output name -> array, float64 where the model says float.
    """
    return compile_graph(graph)(feeds)


def compile_graph(graph: Graph) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """Prepare a specialised graph for many runs in float64.

    Recurrent nodes run by the functions of this module, all others by the operators of `onnx.reference`.

    Raises
    ------
    UnsupportedOp
        For a node that `onnx.reference` does not implement.
    """
    constants = {name: _double(array) for name, array in graph.constants.items()}
    defaults = {name: _double(array) for name, array in graph.defaults.items()}
    step = _walk(graph.nodes, graph.opset)

    def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
        values = constants | defaults | {name: _double(array) for name, array in feeds.items()}
        missing = [port.name for port in graph.inputs if port.name not in values]
        if missing:
            raise ShapeError(f"inputs {', '.join(missing)}: expected an array each, got none; add them to the feeds")
        step(values)
        return {port.name: values[port.name] for port in graph.outputs}

    return run


Operator = Callable[[list[Any]], tuple[Array, ...]]
"""Arrays, None for an omitted input -> results."""

ScopedOperator = Callable[[list[Any], dict[str, Array]], tuple[Array, ...]]
"""The same, with all values of the graph in scope."""


def _walk(nodes: list[Node], opset: int) -> Callable[[dict[str, Array]], None]:
    """A function that runs `nodes` on the values in scope and adds their results."""
    steps = [
        (node, _loop(node, opset) if node.op in ("Loop", "Scan") else _blind(_operator(node, opset))) for node in nodes
    ]

    def run(scope: dict[str, Array]) -> None:
        for node, operator in steps:
            inputs = [scope[name] if name else None for name in node.inputs]
            results = operator(inputs, scope)
            scope.update((name, _double(r)) for name, r in zip(node.outputs, results, strict=False) if name)

    return run


def _blind(operator: Operator) -> ScopedOperator:
    """An operator that looks at its inputs only."""
    return lambda inputs, _scope: operator(inputs)


def _loop(node: Node, opset: int) -> ScopedOperator:
    """A folded loop: inputs are (count, condition, carried values, scanned values); its body sees the outer scope."""
    body: Graph = node.attrs["body"]
    trips, scanned = node.attrs["trips"], node.attrs["scanned"]
    turn, (number, *inside) = _walk(body.nodes, opset), [port.name for port in body.inputs]
    leaving = [port.name for port in body.outputs]

    def run(inputs: list[Any], scope: dict[str, Array]) -> tuple[Array, ...]:
        last = len(inputs) - scanned
        carried, series = inputs[2:last], inputs[last:]
        count = trips if trips >= 0 else math.inf if inputs[0] is None else int(inputs[0])
        going = inputs[1] is None or bool(inputs[1])
        stacked: list[list[Array]] = [[] for _ in leaving[(trips < 0) + len(carried) :]]
        index = 0
        while going and index < count:
            local = dict(scope) | {number: np.array(index, np.int64)}
            local.update(zip(inside, [*carried, *(values[index] for values in series)], strict=True))
            turn(local)
            results = [local[name] for name in leaving]
            going = bool(results.pop(0)) if trips < 0 else True
            carried = results[: len(carried)]
            for rows, row in zip(stacked, results[len(carried) :], strict=True):
                rows.append(row)
            index += 1
        return (*carried, *(np.stack(rows) if rows else np.zeros((0,)) for rows in stacked))

    return run


def _operator(node: Node, opset: int) -> Operator:
    if node.domain in ("", "ai.onnx") and node.op in _CELLS:
        cell, spec = _CELLS[node.op], parse_recurrent(node)
        return lambda inputs: cell(*inputs, spec=spec)
    if node.op in ("Softmax", "LogSoftmax") and opset < 13:
        return _flattened_softmax(node, opset)
    if node.op == "ConvTranspose" and node.attrs.get("group", 1) > 1:
        return _grouped_conv_transpose(node, opset)
    return _onnx_operator(node, opset)


def _grouped_conv_transpose(node: Node, opset: int) -> Operator:
    """Group by group: onnx.reference only gets a single group right. x [N, C, ..], w [C, M / groups, ..], b [M]."""
    groups = node.attrs["group"]
    single = _onnx_operator(Node(node.op, node.inputs, node.outputs, {**node.attrs, "group": 1}, name=node.name), opset)

    def run(inputs: list[Any]) -> tuple[Array, ...]:
        x, w, *rest = inputs
        bias = np.split(rest[0], groups) if rest and rest[0] is not None else [None] * groups
        parts = zip(np.split(x, groups, axis=1), np.split(w, groups), bias, strict=True)
        return (np.concatenate([single(list(part))[0] for part in parts], axis=1),)

    return run


def _flattened_softmax(node: Node, opset: int) -> Operator:
    """Before version 13 softmax spans all axes from `axis` (default 1) on; onnx.reference only knows the newer text."""
    last = _onnx_operator(Node(node.op, node.inputs, node.outputs, {"axis": -1}, name=node.name), opset)

    def run(inputs: list[Any]) -> tuple[Array, ...]:
        (x,) = inputs
        axis = node.attrs.get("axis", 1) % x.ndim
        return (last([x.reshape(*x.shape[:axis], math.prod(x.shape[axis:]))])[0].reshape(x.shape),)

    return run


def _onnx_operator(node: Node, opset: int) -> Operator:
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun
    from onnx.reference.ops._op_list import load_op

    proto = node_proto(_widened(node))
    version = max(opset, _NEWER_VERSION.get(node.op, 0))
    try:
        make = load_op(node.domain, node.op, version, node=proto, evaluator_cls=ReferenceEvaluator)
        operator: OpRun = make(proto, {"log": lambda *_: None, "opsets": {"": version}, "verbose": 0, "new_ops": None})
    except (NotImplementedError, RuntimeError, ValueError) as error:
        raise UnsupportedOp(f"{node.label()}: the float64 reference cannot run it: {error}") from error
    run: Callable[..., tuple[Array, ...]] = operator.run
    return lambda inputs: run(*_trim(inputs))


def _trim(inputs: list[Any]) -> list[Any]:
    """Without omitted inputs at the end: operators count their arguments."""
    while inputs and inputs[-1] is None:
        inputs = inputs[:-1]
    return inputs


def _widened(node: Node) -> Node:
    """What casts to a narrower float casts to float64 here."""
    from onnx import TensorProto

    if node.op != "Cast" or node.attrs.get("to") not in (TensorProto.FLOAT, TensorProto.FLOAT16):
        return node
    return replace(node, attrs={**node.attrs, "to": TensorProto.DOUBLE})


def _double(array: Array) -> Array:
    """Floating point as float64; everything else as it is."""
    array = np.asarray(array)
    return array.astype(np.float64) if array.dtype.kind == "f" else array
