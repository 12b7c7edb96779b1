"""What a file computes in float16 or float64 is computed in float32, as the engine has no other arithmetic.

Inputs and outputs keep their types, and a value that the file itself casts to float16 is still rounded to it. Between
those points float32 is finer than float16; of float64 it keeps seven digits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from gateinfer.graph.ir import Graph, Node, Port, TensorType

FLOAT: Final = np.dtype(np.float32)
_OTHERS: Final = (np.dtype(np.float16), np.dtype(np.float64))
_NUMBERS: Final = {np.dtype(np.float32): 1, np.dtype(np.float16): 10, np.dtype(np.float64): 11}
"""How ONNX attributes spell element types."""
_TYPE_ATTRS: Final = ("dtype", "output_datatype")
"""Attributes, other than that of casts, that say which element type a node makes."""


def in_float32(graph: Graph) -> Graph:
    """`graph` with float16 and float64 only at its ports.

    Parameters
    ----------
    graph : Graph
        Specialised, its types complete. It is not changed.

    Returns
    -------
    The same graph if all it computes with is float32, integers and bools.
    """
    if all(found.dtype not in _OTHERS for found in graph.types.values()):
        return graph
    return _Conversion(graph).result


class _Conversion:
    """The new graph, and under which names it has the values whose own names stay with ports of another type."""

    def __init__(self, graph: Graph) -> None:
        self._before = graph.types
        self.types = {name: _as_float32(found) for name, found in graph.types.items()}
        self.types.update((port.name, graph.types[port.name]) for port in (*graph.inputs, *graph.outputs))
        self.constants = dict(graph.constants)
        made = {name for node in graph.nodes for name in node.outputs}
        entering = self._aliases(graph, (port.name for port in graph.inputs))
        leaving = self._aliases(graph, (port.name for port in graph.outputs if port.name in made))
        self.names = entering | leaving
        nodes = [self._cast(name, alias) for name, alias in entering.items()]
        for name, array in graph.constants.items():
            self._convert_constant(name, array, is_output=any(port.name == name for port in graph.outputs))
        for node in graph.nodes:
            nodes += self._converted(node)
        nodes += [self._cast(alias, name) for name, alias in leaving.items()]
        self.result = replace(graph, nodes=nodes, constants=self.constants, types=self.types)

    def _aliases(self, graph: Graph, names: Iterable[str]) -> dict[str, str]:
        """New names of the values among `names` that are not computed with as they are."""
        others = [name for name in names if graph.types[name].dtype in _OTHERS]
        return {name: self._new(f"{name}~float32", _as_float32(graph.types[name])) for name in others}

    def _new(self, name: str, found: TensorType) -> str:
        """A name that nothing else has, for a value of this type."""
        while name in self.types:
            name += "~"
        self.types[name] = found
        return name

    def _cast(self, source: str, target: str) -> Node:
        return Node("Cast", (source,), (target,), {"to": _NUMBERS[self.types[target].dtype]})

    def _convert_constant(self, name: str, array: np.ndarray, *, is_output: bool) -> None:
        if array.dtype not in _OTHERS:
            return
        if is_output:
            name = self.names[name] = self._new(f"{name}~float32", TensorType(FLOAT, array.shape))
        with np.errstate(over="ignore"):
            self.constants[name] = array.astype(FLOAT)

    def _converted(self, node: Node) -> list[Node]:
        """`node` on float32, in two steps where it is a cast to float16."""
        new = replace(
            node,
            inputs=_renamed(node.inputs, self.names),
            outputs=_renamed(node.outputs, self.names),
            attrs={key: self._converted_attr(key, value) for key, value in node.attrs.items()},
        )
        wanted = self._before.get(node.outputs[0]) if node.op in ("Cast", "CastLike") else None
        if wanted is None or wanted.dtype not in _OTHERS:
            return [new]
        target = new.outputs[0]
        if wanted.dtype == np.float64:
            return [Node("Cast", new.inputs[:1], (target,), {"to": _NUMBERS[FLOAT]}, name=node.name)]
        rounded = self._new(f"{target}~float16", wanted)
        return [replace(self._cast(new.inputs[0], rounded), name=node.name), self._cast(rounded, target)]

    def _converted_attr(self, key: str, value: Any) -> Any:
        if isinstance(value, Graph):
            return self._body(value)
        if isinstance(value, list):
            return [self._converted_attr(key, item) for item in value]
        if key in _TYPE_ATTRS and isinstance(value, int) and value in _NUMBERS.values():
            return _NUMBERS[FLOAT]
        return value.astype(FLOAT) if isinstance(value, np.ndarray) and value.dtype in _OTHERS else value

    def _body(self, graph: Graph) -> Graph:
        return replace(
            graph,
            inputs=[Port(port.name, _as_float32(port.type)) for port in graph.inputs],
            outputs=[Port(self.names.get(port.name, port.name), _as_float32(port.type)) for port in graph.outputs],
            nodes=[new for node in graph.nodes for new in self._converted(node)],
        )


def _renamed(names: tuple[str, ...], aliases: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(aliases.get(name, name) for name in names)


def _as_float32(found: TensorType) -> TensorType:
    return found._replace(dtype=FLOAT) if found.dtype in _OTHERS else found
