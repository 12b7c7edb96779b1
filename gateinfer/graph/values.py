"""Which inputs decide what the graph is, rather than what flows through it: lowering must know their values."""

from __future__ import annotations

from gateinfer.graph.ir import Graph, Node, subgraphs

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
    "SplitToSequence": (1,),
    "SequenceInsert": (2,),
    "SequenceErase": (1,),
}
"""Input positions that fix shapes, control flow or what a list is made of. The axes input of every Reduce* is at 1."""


def deciding_inputs(graph: Graph) -> frozenset[str]:
    """Names of integer or bool graph inputs whose value some shape, `If` or length of a stack depends on."""
    flow = _Flow()
    flow.collect(graph)
    candidates = {port.name for port in graph.inputs if port.dtype.kind in "iub"}
    found, seen = set(), set()
    while flow.wanted:
        name = flow.wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in candidates:
            found.add(name)
        flow.wanted.extend(flow.aliases.get(name, ()))
        node = flow.producers.get(name)
        if node is not None and node.op not in ("Shape", "Size"):
            flow.wanted.extend(node.inputs)
    return frozenset(found)


class _Flow:
    """Producers of all values, what other names they have around sub-graphs, and the values that decide."""

    def __init__(self) -> None:
        self.producers: dict[str, Node] = {}
        self.aliases: dict[str, list[str]] = {}
        self.wanted: list[str] = []

    def collect(self, graph: Graph) -> None:
        for node in graph.nodes:
            self.producers.update((name, node) for name in node.outputs if name)
            positions = (1,) if node.op.startswith("Reduce") else DECIDING.get(node.op, ())
            self.wanted.extend(node.input(i) for i in positions if node.input(i))
            for inner in subgraphs(node):
                self.collect(inner)
                self._link_results(node, inner)
            if node.op == "Loop" and isinstance(node.attrs.get("body"), Graph):
                self._add_loop(node, node.attrs["body"])

    def _link_results(self, node: Node, inner: Graph) -> None:
        """What outputs of an If or a Loop are called inside."""
        results = inner.outputs[1:] if node.op == "Loop" else inner.outputs
        for name, port in zip(node.outputs, results, strict=False):
            self.aliases.setdefault(name, []).append(port.name)

    def _add_loop(self, node: Node, body: Graph) -> None:
        """Carried values come from outside and from the turn before; a stack is as long as the loop makes turns."""
        for source, before, after in zip(node.inputs[2:], body.inputs[2:], body.outputs[1:], strict=False):
            self.aliases.setdefault(before.name, []).extend((source, after.name))
        if len(body.outputs) > max(len(node.inputs) - 2, 0) + 1:
            self.wanted.extend((node.input(0), node.input(1), body.outputs[0].name))
