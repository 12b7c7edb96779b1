"""A folded loop as an operator set has it, for whoever reads ONNX."""

from __future__ import annotations

import dataclasses

import numpy as np

from gateinfer.graph.ir import Graph, Node, Port, TensorType

_BOOL = TensorType(np.dtype(bool), ())


def plain(node: Node) -> list[Node]:
    """A folded loop as a Loop node, with the constant that it needs in front of it."""
    body: Graph = node.attrs["body"]
    trips, scanned = node.attrs["trips"], node.attrs["scanned"]
    carried = len(node.inputs) - 2 - scanned
    count, condition = node.inputs[0], f"{body.inputs[0].name}~condition"
    before = []
    if trips >= 0:
        count = f"{body.inputs[0].name}~trips"
        before.append(Node("Constant", (), (count,), {"value": np.array(trips, "i8")}))
    ports = body.outputs if trips < 0 else [Port(condition, _BOOL), *body.outputs]
    # A value may leave a body once, and only if the body itself makes it.
    leaving = [Port(f"{body.inputs[0].name}~out{i}", port.type) for i, port in enumerate(ports)]
    inner = dataclasses.replace(
        body,
        inputs=[body.inputs[0], Port(condition, _BOOL), *body.inputs[1 : 1 + carried]],
        outputs=leaving,
        nodes=[
            *_picked(body, node.inputs[2 + carried :], body.inputs[1 + carried :]),
            *body.nodes,
            *(Node("Identity", (port.name,), (out.name,)) for port, out in zip(ports, leaving, strict=True)),
        ],
    )
    inputs = (count, *node.inputs[1 : 2 + carried])
    return [*before, Node("Loop", inputs, node.outputs, {"body": inner}, name=node.name)]


def _picked(body: Graph, scanned: tuple[str, ...], inside: list[Port]) -> list[Node]:
    """The nodes that take the elements of one turn."""
    turn = f"{body.inputs[0].name}~scalar"
    picks = [Node("Gather", (name, turn), (port.name,)) for name, port in zip(scanned, inside, strict=True)]
    return [Node("Squeeze", (body.inputs[0].name,), (turn,)), *picks] if picks else []
