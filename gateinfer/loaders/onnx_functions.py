"""Judges the local functions of an ONNX model before a C++ library expands them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from gateinfer.errors import ModelError
from gateinfer.graph.checks import MAX_DEPTH, MAX_NODES

Key = tuple[str, str, str]
"""(domain, name, overload) of a function."""

_CALLING: Final = -1
"""Marks a function whose size is being counted: meeting it again means that it calls itself."""


def check_functions(model: Any) -> None:
    """Refuse functions that call themselves, nest too deeply or would expand to too many nodes."""
    bodies: dict[Key, Any] = {}
    for function in model.functions:
        key = (function.domain, function.name, function.overload)
        if key in bodies:
            raise ModelError(f"local function {function.name!r} is defined twice")
        bodies[key] = function.node
    sizes: dict[Key, int] = {}
    total = _expanded(model.graph.node, bodies, sizes, 0)
    # The inliner expands unused functions' calls as well.
    for key in bodies:
        total = max(total, _size(key, bodies, sizes, 0))
    if total > MAX_NODES:
        raise ModelError(f"local functions expand to {total} nodes, at most {MAX_NODES} expected")


def _expanded(nodes: Any, bodies: dict[Key, Any], sizes: dict[Key, int], depth: int) -> int:
    if depth > MAX_DEPTH:
        raise ModelError(f"local functions and sub-graphs nest deeper than {MAX_DEPTH}")
    total = 0
    for node in nodes:
        key = (node.domain, node.op_type, node.overload)
        total += _size(key, bodies, sizes, depth) if key in bodies else 1
        total += sum(_expanded(graph.node, bodies, sizes, depth + 1) for graph in _subgraphs(node))
    return total


def _size(key: Key, bodies: dict[Key, Any], sizes: dict[Key, int], depth: int) -> int:
    if sizes.get(key) == _CALLING:
        raise ModelError(f"local function {key[1]!r} calls itself")
    if key not in sizes:
        sizes[key] = _CALLING
        sizes[key] = _expanded(bodies[key], bodies, sizes, depth + 1)
    return sizes[key]


def _subgraphs(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
