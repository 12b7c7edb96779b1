"""Values the graph does not have yet: what a view of a product becomes when it is taken of the product's operand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from gateinfer.graph.ir import Node, TensorType
from gateinfer.graph.recognise.flow import F32, Flow


class Pushed:
    """New values by name, each with the nodes and constants that make it.

    Attributes
    ----------
    nodes : by value; nothing for a value that the graph has
    constants : of these nodes
    types : of the new values
    joined : the value that already joins these parts side by side
    """

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.nodes: dict[str, list[Node]] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.types: dict[str, TensorType] = {}
        self.joined: dict[tuple[str, ...], str] = {}

    def size(self, name: str) -> int:
        return self.types[name].size if name in self.types else self.flow.size(name)

    def push(self, node: Node, root: str, source: str, lead: tuple[int, ...]) -> str | None:
        """`source` seen as [*lead, K] instead of what `node` takes its rows from. Returns the new value's name."""
        name = f"{root}~of~{source}"
        if name not in self.nodes:
            inner = self.size(source) // math.prod(lead)
            view = self._view(node, root, len(lead), name)
            if view is None:
                return None
            whole = f"{name}~whole"
            make = self.reshape(source, (*lead, inner), whole)
            self.nodes[name] = [*self.nodes.get(source, ()), *make, replace(view, inputs=(whole, *view.inputs[1:]))]
            self.types[name] = TensorType(F32, (*self._lead_shape(node, root, lead), inner))
        return name

    def reshape(self, source: str, shape: tuple[int, ...], name: str) -> list[Node]:
        """The node that makes `source` the value `name` of this shape."""
        self.types[name] = TensorType(F32, shape)
        self.constants[f"{name}~shape"] = np.array(shape, "i8")
        return [Node("Reshape", (source, f"{name}~shape"), (name,))]

    def _lead_shape(self, node: Node, root: str, lead: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the view without its columns."""
        probe = np.empty(lead, np.bool_)
        if node.op == "Transpose":
            return probe.transpose(self._perm(node, root, len(lead))).shape
        if node.op == "Gather":
            axis = self._axis(node)
            return lead[:axis] + (self.flow.shape(node.inputs[1]) or ()) + lead[axis + 1 :]
        for axis, part in self._ranges(node, root):
            probe = probe[(slice(None),) * axis + (part,)]
        return probe.shape

    def _view(self, node: Node, root: str, lead: int, name: str) -> Node | None:
        """`node` with its axes counted on [*lead, K]; None when it touches the columns."""
        if node.op == "Transpose":
            perm = self._perm(node, root, lead)
            return (
                Node("Transpose", ("",), (name,), {"perm": [*perm, lead]}) if sorted(perm) == [*range(lead)] else None
            )
        if node.op == "Gather":
            axis = self._axis(node)
            return Node("Gather", ("", node.inputs[1]), (name,), {"axis": axis}) if axis < lead else None
        ranges = self._ranges(node, root)
        if not ranges or self.flow.opset < 10 or any(axis >= lead for axis, _ in ranges):
            return None
        return Node("Slice", ("", *self._slice_inputs(name, ranges)), (name,))

    def _slice_inputs(self, name: str, ranges: list[tuple[int, slice]]) -> list[str]:
        columns = {
            "starts": [part.start for _, part in ranges],
            "ends": [np.iinfo("i8").min if part.stop is None else part.stop for _, part in ranges],
            "axes": [axis for axis, _ in ranges],
            "steps": [part.step or 1 for _, part in ranges],
        }
        self.constants.update((f"{name}~{what}", np.array(values, "i8")) for what, values in columns.items())
        return [f"{name}~{what}" for what in columns]

    def _rank(self, node: Node) -> int:
        return len(self.flow.shape(node.inputs[0]) or ())

    def _perm(self, node: Node, root: str, lead: int) -> list[int]:
        return self.flow.perm(node, self._rank(node))[:lead]

    def _axis(self, node: Node) -> int:
        return int(node.attrs.get("axis", 0)) % self._rank(node)

    def _ranges(self, node: Node, root: str) -> list[tuple[int, slice]]:
        if node.op == "Slice":
            return self.flow.slices(node) or []
        part = self.flow.split_range(node, node.outputs.index(root))
        return [part] if part else []
