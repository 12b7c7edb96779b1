"""The parts a plan runs in turn, native ones and islands: what is in each, what crosses between them, what it costs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateinfer.graph.bind import spell
from gateinfer.graph.ir import RECURRENT, SEQUENCE, Graph, Node, first_output, subgraphs
from gateinfer.graph.loops import is_folded
from gateinfer.graph.recurrent_attrs import parse_recurrent
from gateinfer.islands import Island
from gateinfer.profile import PartTime
from gateinfer.stages import Staged

if TYPE_CHECKING:
    from gateinfer.lower import Lowered
    from gateinfer.plan import Plan

NATIVE, ISLAND, OPEN = "native", "onnxruntime", "?"
"""Who runs a node; OPEN: not known before shapes are."""

X, R = 0, 2


@dataclass(frozen=True, slots=True)
class Layer:
    """One recurrent node.

    Attributes
    ----------
    node, op : as the file has them; `origin` says so if the node was recognised from others.
    part : number of the part that runs it.
    loop : label of the loop whose body it is in, or "".
    input_size, hidden_size : I and H.
    direction : "forward", "reverse" or "bidirectional".
    steps, batch : T and N of one call; steps in a body are turns of its loop, None when only the values tell.
    """

    node: str
    op: str
    part: int
    loop: str
    input_size: int
    hidden_size: int
    direction: str
    steps: int | None
    batch: int
    origin: str

    def __str__(self) -> str:
        steps = "as many steps as its condition lets" if self.steps is None else _count(self.steps, "step")
        return f"{self.op} {self.input_size} -> {self.hidden_size} {self.direction}, {steps}, batch {self.batch}"


@dataclass(frozen=True, slots=True)
class Row:
    """One node.

    Attributes
    ----------
    node, op, shape : what the file calls it, its operator, the shape of its first output.
    where, part : who runs it, and the number of its part from 1; 0 when that is not known.
    macs : multiply-adds of one call, None where nobody counts them.
    us : microseconds of one call, None when not measured.
    """

    node: str
    op: str
    shape: str
    where: str
    part: int = 0
    macs: int | None = None
    us: float | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Nodes that run as one: a native program, or an island in onnxruntime.

    Attributes
    ----------
    number : from 1, in the order they run.
    where : "native" or "onnxruntime".
    nodes, ops : how many, and how many of each operator, the commonest first.
    inputs, outputs : "name (shape) dtype" of what comes in and goes out, model inputs and outputs included.
    macs : multiply-adds of one call, None for islands.
    weight_bytes : packed weights and other constants; of an island those of its nodes.
    us : median microseconds of one call, None when not measured.
    """

    number: int
    where: str
    nodes: int
    ops: dict[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    macs: int | None
    weight_bytes: int
    us: float | None


def list_parts(plan: Plan, times: Sequence[PartTime] = ()) -> tuple[tuple[Part, ...], tuple[Row, ...]]:
    """The parts of `plan` and all their nodes in the order they run; `times` as `profile` measures them."""
    parts: list[Part] = []
    rows: list[Row] = []
    for number, index, graph, stage in _stages(plan):
        time = times[index] if times else None
        parts.append(_part(number, graph, stage, time))
        rows += _rows(parts[-1], graph, stage, time)
    return tuple(parts), tuple(rows)


def list_layers(plan: Plan) -> tuple[Layer, ...]:
    """Recurrent nodes of `plan` in the order they run, those in bodies of loops too."""
    return tuple(layer for number, _, graph, _ in _stages(plan) for layer in _layers(graph, graph, number))


def open_rows(graph: Graph) -> tuple[Row, ...]:
    """Nodes of a graph without a plan."""
    return tuple(Row(called(node), node.op, _shape(graph, node), OPEN) for node in graph.nodes)


def called(node: Node) -> str:
    """A node's name, or its first output."""
    return node.name or first_output(node)


def tally(names: Iterable[str], most: int | None = None) -> str:
    """Counts as text: Conv x2, Relu, and the `most` most common of them with a hint at others."""
    counts = Counter(names).most_common()
    shown = [f"{name} x{count}" if count > 1 else name for name, count in counts[:most]]
    return ", ".join([*shown, "..."] if most and len(counts) > most else shown)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _stages(plan: Plan) -> Iterator[tuple[int, int, Graph, Lowered | Island]]:
    """(number of the part, index of the stage, graph, stage) of stages with nodes."""
    lowered = plan.lowered
    if isinstance(lowered, Staged):
        graphs, stages = lowered.graphs, lowered.stages
    else:
        graphs, stages = [lowered.graph], [lowered]
    busy = [index for index, graph in enumerate(graphs) if graph.nodes]
    return ((number, index, graphs[index], stages[index]) for number, index in enumerate(busy, 1))


def _part(number: int, graph: Graph, stage: Lowered | Island, time: PartTime | None) -> Part:
    native = None if isinstance(stage, Island) else stage.program
    constants = sum(array.nbytes for array in graph.constants.values())
    return Part(
        number,
        ISLAND if isinstance(stage, Island) else NATIVE,
        len(graph.nodes),
        dict(Counter(node.op for node in graph.nodes).most_common()),
        tuple(f"{port.name} {spell(port.shape)} {port.dtype.name}" for port in graph.inputs),
        tuple(f"{port.name} {spell(port.shape)} {port.dtype.name}" for port in graph.outputs),
        native.macs if native else None,
        sum(native.constant_bytes.values()) if native else constants,
        time.us if time else None,
    )


def _rows(part: Part, graph: Graph, stage: Lowered | Island, time: PartTime | None) -> Iterator[Row]:
    macs: dict[str, int] = defaultdict(int)
    us: dict[str, float] = defaultdict(float)
    if not isinstance(stage, Island):
        for number, shares in enumerate(stage.sources):
            whole = sum(shares.values())
            for source, share in shares.items():
                macs[source] += share
                us[source] += time.ops[number] * (share / whole if whole else 1.0) if time else 0.0
    for node in graph.nodes:
        name = first_output(node)
        counted = macs[name] if part.where == NATIVE else None
        measured = us[name] if part.where == NATIVE else part.us if part.nodes == 1 else None
        taken = measured if time else None
        yield Row(called(node), node.op, _shape(graph, node), part.where, part.number, counted, taken)


def _shape(graph: Graph, node: Node) -> str:
    known = graph.types.get(first_output(node))
    if known == SEQUENCE:
        return "a list"
    return spell(known.shape) if known else ""


def _layers(graph: Graph, whole: Graph, part: int, loop: Node | None = None) -> Iterator[Layer]:
    for node in graph.nodes:
        if node.op in RECURRENT and not node.domain:
            yield _layer(node, whole, part, loop)
        for body in subgraphs(node) if is_folded(node) else ():
            yield from _layers(body, whole, part, node)


def _layer(node: Node, whole: Graph, part: int, loop: Node | None) -> Layer:
    attrs = parse_recurrent(node)
    steps, batch, input_size = whole.types[node.inputs[X]].extents
    if attrs.layout:
        steps, batch = batch, steps
    return Layer(
        node=called(node),
        op=node.op,
        part=part,
        loop=loop.label() if loop else "",
        input_size=input_size,
        hidden_size=whole.types[node.inputs[R]].extents[2],
        direction="bidirectional" if len(attrs.directions) == 2 else attrs.directions[0],
        steps=_turns(loop) if loop else steps,
        batch=batch,
        origin=str(node.origin or ""),
    )


def _turns(loop: Node) -> int | None:
    """Turns of a folded loop, if they are known."""
    trips = loop.attrs["trips"]
    return trips if trips >= 0 else None
