"""Weights of recurrent nodes against their attributes, as far as that is known before any shape is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from gateinfer.graph.infer import infer
from gateinfer.graph.ir import RECURRENT, Graph, Node, TensorType, subgraphs
from gateinfer.graph.recurrent_attrs import parse_recurrent

X, W, R = 0, 1, 2
WEIGHT_INPUTS = {1: "W", 2: "R", 3: "B", 7: "P"}


def known_weights(node: Node, constants: Mapping[str, np.ndarray]) -> tuple[Any, ...] | None:
    """W, R, B and P of a recurrent node (None where absent), or None when some of it comes at run time."""
    names = [node.input(index) for index in WEIGHT_INPUTS]
    if any(name and name not in constants for name in names):
        return None
    return tuple(constants[name] if name else None for name in names)


def constant_elements(graph: Graph) -> int:
    """Elements of all constants and defaults, those of sub-graphs included."""
    held = (*graph.constants.values(), *graph.defaults.values())
    inner = (constant_elements(branch) for node in graph.nodes for branch in subgraphs(node))
    return sum(array.size for array in held) + sum(inner)


def check_weights(graph: Graph) -> None:
    """Raises ShapeError, ModelError or UnsupportedOp for a recurrent node that no input shape can make right."""
    for node, constants in recurrent_nodes(graph, dict(graph.constants)):
        parse_recurrent(node)
        w = constants.get(node.input(W))
        if w is None or node.input(R) not in constants or w.ndim != 3:
            continue
        types: list[TensorType | None] = [None] * len(node.inputs)
        types[X] = TensorType(w.dtype, (1, 1, w.shape[2]))
        for index in WEIGHT_INPUTS:
            array = constants.get(node.input(index))
            if array is not None:
                types[index] = TensorType(array.dtype, array.shape)
        infer(node, types, [None] * len(types), graph.opset)


def recurrent_nodes(graph: Graph, constants: dict) -> Iterator[tuple[Node, dict]]:
    """All recurrent nodes, those inside branches too, each with the constants it can see."""
    for node in graph.nodes:
        if node.op in RECURRENT and node.domain == "":
            yield node, constants
        for value in node.attrs.values():
            if isinstance(value, Graph):
                yield from recurrent_nodes(value, constants | value.constants if value.constants else constants)
