"""Lists that a Loop appends to, turn by turn: they are what the loop stacks, after what they started with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gateinfer.graph.checks import uses
from gateinfer.graph.ir import UNKNOWN_DTYPE, Graph, Node, Port, TensorType
from gateinfer.graph.sequences.pieces import Pieces, Run

if TYPE_CHECKING:
    from gateinfer.graph.rewriter import Rewriter

Grown = tuple[str, Pieces, Run]
"""Result of the node that was a list, what the list starts with, and what the loop appends: a cut of a new result."""


def without_grown_lists(rewriter: Rewriter, node: Node) -> tuple[Node, list[Grown]]:
    """A loop that stacks what it appended to lists.

    `node` reads names of the result already, its body those of the graph being read. Lists that the body looks at, or
    changes in another way, stay carried values.
    """
    body = node.attrs.get("body")
    grown: list[Grown] = []
    if node.op != "Loop" or not isinstance(body, Graph):
        return node, grown
    for index in reversed(range(min(len(node.inputs), len(body.inputs), len(body.outputs) + 1) - 2)):
        pieces = rewriter.sequences.get(node.inputs[2 + index])
        if pieces is None or (not rewriter.static and any(isinstance(piece, Run) for piece in pieces)):
            continue  # two lists of unknown lengths could not be made one again
        body = node.attrs["body"]
        found = _appended(body, body.inputs[2 + index].name, body.outputs[1 + index].name)
        if found is None:
            continue
        result, stack = node.output(index), rewriter.fresh("stack")
        node = _stacking(node, index, rewriter.fresh("member"), stack, *found)
        if result:
            grown.append((result, pieces, Run(stack, 0, drops=True)))
    return node, grown


def _appended(body: Graph, before: str, after: str) -> tuple[str, set[int]] | None:
    """The tensor that each turn appends and the nodes that handle the list, by id, if nothing else is done to it."""
    producers = {name: node for node in body.nodes for name in node.outputs if name}
    handlers: set[int] = set()
    names, member, name = {after}, "", after
    while name != before:
        node = producers.get(name)
        if node is None or node.domain or len(node.outputs) != 1:
            return None
        if node.op == "SequenceInsert" and len(node.inputs) == 2 and not member:
            member = node.inputs[1]
        elif node.op != "Identity":
            return None
        handlers.add(id(node))
        name = node.input(0)
        names.add(name)
    others = [user for user in body.nodes if id(user) not in handlers and not names.isdisjoint(uses(user))]
    leaving = [port.name for port in body.outputs if port.name in names]
    return (member, handlers) if member and not others and leaving == [after] else None


def _stacking(node: Node, index: int, leaving: str, stack: str, member: str, handlers: set[int]) -> Node:
    """`node` with a stack of `member`, as its last result, instead of the carried list `index`."""
    body: Graph = node.attrs["body"]
    kept = [inner for inner in body.nodes if id(inner) not in handlers]
    outputs = [port for i, port in enumerate(body.outputs) if i != index + 1]
    changed = replace(
        body,
        inputs=[port for i, port in enumerate(body.inputs) if i != index + 2],
        outputs=[*outputs, Port(leaving, TensorType(UNKNOWN_DTYPE, None))],
        nodes=[*kept, Node("Identity", (member,), (leaving,))],
    )
    results = [name for i, name in enumerate(node.outputs) if i != index]
    results += [""] * (len(outputs) - 1 - len(results))
    return replace(
        node,
        inputs=tuple(name for i, name in enumerate(node.inputs) if i != index + 2),
        outputs=(*results, stack),
        attrs=node.attrs | {"body": changed},
    )
