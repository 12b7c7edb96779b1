"""What nobody needs of a folded loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from gateinfer.graph.checks import uses
from gateinfer.graph.ir import Graph, Node

Needed = Callable[[list[Node], set[str]], list[Node]]
"""The nodes that some values depend on."""


def trimmed(node: Node, wanted: set[str], needed: Needed) -> Node:
    """A folded loop without results that are not in `wanted`, and without what only they need."""
    body: Graph = node.attrs["body"]
    carried = len(body.inputs) - 1 - node.attrs["scanned"]
    ends = 1 if node.attrs["trips"] < 0 else 0
    outs, results = [p.name for p in body.outputs], [o if o in wanted else "" for o in node.outputs]
    keep = {i for i, name in enumerate(results) if name}
    while True:
        names = set(outs[:ends]) | {outs[ends + i] for i in keep}
        live = needed(body.nodes, names)
        used = names | {n for inner in live for n in uses(inner)}
        more = {i for i in range(carried) if body.inputs[1 + i].name in used} - keep
        if not more:
            break
        keep |= more
    kept = sorted(keep)
    inside = [i for i in range(carried, len(body.inputs) - 1) if body.inputs[1 + i].name in used]
    chosen = [i for i in kept if i < carried] + inside
    graph = dataclasses.replace(
        body,
        inputs=body.inputs[:1] + [body.inputs[1 + i] for i in chosen],
        outputs=body.outputs[:ends] + [body.outputs[ends + i] for i in kept],
        nodes=live,
    )
    return dataclasses.replace(
        node,
        inputs=node.inputs[:2] + tuple(node.inputs[2 + i] for i in chosen),
        outputs=tuple(results[i] for i in kept),
        attrs=node.attrs | {"body": graph, "scanned": len(inside)},
    )
