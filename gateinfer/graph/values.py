"""Which inputs decide what the graph is, rather than what flows through it: lowering must know their values."""

from __future__ import annotations

from gateinfer.graph.ir import Graph, Node

DECIDING: dict[str, tuple[int, ...]] = {
    "If": (0,),
    "Reshape": (1,),
    "Expand": (1,),
    "Tile": (1,),
    "Slice": (1, 2, 3, 4),
    "Pad": (1, 3),
    "Split": (1,),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
    "ConstantOfShape": (0,),
    "Range": (0, 1, 2),
    "OneHot": (1,),
    "TopK": (1,),
    "CumSum": (1,),
    "Resize": (1, 2, 3),
}
"""Input positions that fix shapes or control flow. The axes input of every Reduce* is at 1."""


def deciding_inputs(graph: Graph) -> frozenset[str]:
    """Names of integer or bool graph inputs whose value some shape or `If` depends on."""
    producers: dict[str, Node] = {}
    wanted: list[str] = []
    _collect(graph, producers, wanted)
    candidates = {port.name for port in graph.inputs if port.dtype.kind in "iub"}
    found, seen = set(), set()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in candidates:
            found.add(name)
        node = producers.get(name)
        if node is not None and node.op not in ("Shape", "Size"):
            wanted.extend(node.inputs)
            wanted.extend(_branch_results(node, name))
    return frozenset(found)


def _collect(graph: Graph, producers: dict[str, Node], wanted: list[str]) -> None:
    for node in graph.nodes:
        producers.update((name, node) for name in node.outputs if name)
        positions = (1,) if node.op.startswith("Reduce") else DECIDING.get(node.op, ())
        wanted.extend(node.input(i) for i in positions if node.input(i))
        for value in node.attrs.values():
            if isinstance(value, Graph):
                _collect(value, producers, wanted)


def _branch_results(node: Node, name: str) -> list[str]:
    """What an If's output `name` is called inside its branches."""
    index = node.outputs.index(name)
    branches = [value for value in node.attrs.values() if isinstance(value, Graph)]
    return [branch.outputs[index].name for branch in branches if index < len(branch.outputs)]
