"""Cuts a specialised graph into stages: native ones, and islands of nodes that something else must run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from gateinfer.graph.checks import makers, uses
from gateinfer.graph.ir import SEQUENCE, Graph, Node, Port, first_output


@dataclass(frozen=True, slots=True)
class Stage:
    """A sub-graph that runs as one: its inputs come from graph inputs and earlier stages."""

    graph: Graph
    foreign: bool


def partition(graph: Graph, foreign: Collection[str]) -> list[Stage]:
    """Stages in execution order.

    Every node goes to the earliest stage of its kind that its operands allow, so that each gap between native stages is
    one maximal sub-graph. Sequences do not go from stage to stage: each makes those it reads.

    Parameters
    ----------
    graph : Graph
        Specialised, its types complete.
    foreign : collection of str
        First outputs of the nodes that are not native.
    """
    levels = _levels(graph, foreign)
    lists = {name: node for node in graph.nodes for name in node.outputs if graph.types.get(name) == SEQUENCE}
    stages = []
    for level in range(max(levels.values(), default=0) + 1):
        own = [node for node in graph.nodes if levels[first_output(node)] == level]
        nodes = [node for node in own if not lists.keys() >= _outputs(node)]
        # What an output passes straight on from an input or a constant is the first native stage's business.
        if nodes or level == 0:
            stages.append(Stage(_stage_graph(graph, nodes, lists, passes_through=level == 0), foreign=level % 2 == 1))
    return stages


def _outputs(node: Node) -> set[str]:
    return set(filter(None, node.outputs))


def _levels(graph: Graph, foreign: Collection[str]) -> dict[str, int]:
    """Even levels are native, odd ones are islands; a node is above everything it uses that is of the other kind."""
    level_of_value: dict[str, int] = {}
    levels = {}
    for node in graph.nodes:
        parity = int(node.outputs[0] in foreign or first_output(node) in foreign)
        below = max((level_of_value.get(name, 0) for name in uses(node)), default=0)
        levels[first_output(node)] = level = below + (below % 2 != parity)
        level_of_value.update((name, level) for name in node.outputs if name)
    return levels


def _stage_graph(graph: Graph, nodes: list[Node], lists: Mapping[str, Node], *, passes_through: bool) -> Graph:
    own = {name for node in nodes for name in _outputs(node) if name not in lists}
    wanted = {id(maker) for node in nodes for maker in makers(node, lists)} | {id(node) for node in nodes}
    nodes = [node for node in graph.nodes if id(node) in wanted]
    made = {name for node in nodes for name in node.outputs if name}
    used = {name for node in nodes for name in uses(node)}
    outputs = _outputs_of(graph, own, nodes)
    if passes_through:
        produced = {name for node in graph.nodes for name in node.outputs}
        outputs += [port.name for port in graph.outputs if port.name not in produced]
        used.update(name for name in outputs if name not in made)
    inputs = sorted(used - made - graph.constants.keys())
    return replace(
        graph,
        inputs=[Port(name, graph.types[name]) for name in inputs],
        outputs=[Port(name, graph.types[name]) for name in outputs],
        nodes=nodes,
        constants={name: graph.constants[name] for name in used & graph.constants.keys()},
    )


def _outputs_of(graph: Graph, made: set[str], nodes: list[Node]) -> list[str]:
    """What these nodes make that is a graph output or that other nodes use."""
    inside = {id(node) for node in nodes}
    wanted = {port.name for port in graph.outputs}
    for node in graph.nodes:
        if id(node) not in inside:
            wanted |= uses(node)
    return sorted(made & wanted)
