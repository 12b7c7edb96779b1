"""What the tests of hand-written cells ask: which cells are found, and whether the figures stay."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
from tolerance import recurrent

import gateinfer as gi
from gateinfer.graph.fold import fold_constants, specialize
from gateinfer.graph.ir import Graph, Node, subgraphs
from gateinfer.graph.recognise import recognise
from gateinfer.loaders.onnx import load_onnx


def specialised(proto: onnx.ModelProto) -> Graph:
    """The graph as it is before anything is recognised."""
    return specialize(fold_constants(load_onnx(proto.SerializeToString())), {})


def all_nodes(graph: Graph) -> list[Node]:
    """Those inside loops as well."""
    return [
        inner for node in graph.nodes for inner in (node, *(n for body in subgraphs(node) for n in all_nodes(body)))
    ]


def cells(proto: onnx.ModelProto) -> list[Node]:
    """Recognised nodes."""
    return [node for node in all_nodes(recognise(specialised(proto))) if node.origin is not None]


def feeds_of(proto: onnx.ModelProto, seed: int = 0) -> dict[str, np.ndarray]:
    """Figures below one for every input."""
    rng = np.random.default_rng(seed)
    shapes = {p.name: [d.dim_value for d in p.type.tensor_type.shape.dim] for p in proto.graph.input}
    return {name: rng.uniform(-1.0, 1.0, shape).astype(np.float32) for name, shape in shapes.items()}


def agrees(proto: onnx.ModelProto, terms: int = 64, steps: int = 1) -> None:
    """The engine against onnxruntime, both within the bound of a recurrent layer; weights are below one."""
    feeds = feeds_of(proto)
    loaded = gi.load(proto.SerializeToString(), fallback=None)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for got, expected in zip(loaded.run(None, feeds), session.run(None, feeds), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=2 * recurrent(terms, steps, 4.0))
