"""Loop and Scan nodes as files have them, in one form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gateinfer.errors import ModelError, ShapeError, UnsupportedOp
from gateinfer.graph.ir import Graph, Node

if TYPE_CHECKING:
    from gateinfer.graph.rewriter import Rewriter, Scope

_SCAN_LISTS: Final = ("scan_input_axes", "scan_input_directions", "scan_output_axes", "scan_output_directions")


@dataclass(slots=True)
class Carried:
    """One carried value: its name outside, before and behind a turn inside, and of the node's result ("" if unused)."""

    initial: str
    before: str
    after: str
    result: str


@dataclass(slots=True)
class Stacked:
    """What each turn yields: its name inside, and of the node's result; moved to `axis`, turned around if `reverse`."""

    inner: str
    result: str
    axis: int = 0
    reverse: bool = False


@dataclass(slots=True)
class Loop:
    """A Loop or Scan node as the file has it. Outside names are those of the graph being written."""

    node: Node
    body: Graph
    trip_count: str = ""
    condition: str = ""
    turn: str = ""
    condition_before: str = ""
    condition_after: str = ""
    carried: list[Carried] = field(default_factory=list)
    scanned: list[tuple[str, str]] = field(default_factory=list)
    """(outside, inside)"""
    stacked: list[Stacked] = field(default_factory=list)
    fixed: list[tuple[str, str]] = field(default_factory=list)
    """(outside, inside) of carried values that no turn changes."""

    def release_constants(self, scope: Scope) -> None:
        """Turns carried values that the body hands through into captured ones."""
        through = _handed_through(self.body, [(c.before, c.after) for c in self.carried])
        for index in sorted(through, reverse=True):
            carried = self.carried.pop(index)
            self.fixed.append((carried.initial, carried.before))
            if carried.result:
                scope[carried.result] = carried.initial

    def scalar_shape(self, name: str) -> tuple[int, ...]:
        """() or (1,), as the body declares one of its first two inputs."""
        return next(((1,) for p in self.body.inputs[:2] if p.name == name and p.shape and len(p.shape) == 1), ())


def parse_loop(node: Node) -> Loop:
    """A Loop node as it stands in the file."""
    carried = max(len(node.inputs) - 2, 0)  # trailing omitted inputs are not there
    body = _body(node, carried + 2, carried + 1)
    inside, outside = [p.name for p in body.inputs], [p.name for p in body.outputs]
    loop = Loop(node, body, node.input(0), node.input(1), inside[0], inside[1], outside[0])
    for i in range(carried):
        loop.carried.append(Carried(node.inputs[2 + i], inside[2 + i], outside[1 + i], node.output(i)))
    for i in range(carried, len(outside) - 1):
        loop.stacked.append(Stacked(outside[1 + i], node.output(i)))
    return loop


def parse_scan(rewriter: Rewriter, node: Node, nodes: list[Node]) -> Loop:
    """A Scan node, its scanned values brought to axis 0 and into the order of the turns by nodes added to `nodes`."""
    if rewriter.opset < 9:
        raise UnsupportedOp(f"{node.label()}: operator set 8 is not implemented; convert the model to 9 or newer")
    scanned = node.attrs.get("num_scan_inputs")
    if not isinstance(scanned, int) or not 1 <= scanned <= len(node.inputs):
        raise ModelError(f"{node.label()}: num_scan_inputs is {scanned!r}, the node has {len(node.inputs)} inputs")
    carried = len(node.inputs) - scanned
    body = _body(node, len(node.inputs), carried)
    loop = Loop(node, body)
    for i in range(carried):
        loop.carried.append(Carried(node.inputs[i], body.inputs[i].name, body.outputs[i].name, node.output(i)))
    stacked = len(body.outputs) - carried
    in_axes, in_reverse, out_axes, out_reverse = (
        _list(node, name, scanned if "input" in name else stacked) for name in _SCAN_LISTS
    )
    for i, port in enumerate(body.inputs[carried:]):
        name = first_axis(rewriter, node, node.inputs[carried + i], in_axes[i], nodes)
        loop.scanned.append((turned_around(rewriter, name, nodes) if in_reverse[i] else name, port.name))
    for i, port in enumerate(body.outputs[carried:]):
        loop.stacked.append(Stacked(port.name, node.output(carried + i), out_axes[i], bool(out_reverse[i])))
    return loop


def _body(node: Node, inputs: int, least_outputs: int) -> Graph:
    body = node.attrs.get("body")
    if not isinstance(body, Graph):
        raise ModelError(f"{node.label()}: has no graph in its attribute body")
    found = len(body.outputs)
    if len(body.inputs) != inputs or not max(least_outputs, len(node.outputs) + (node.op == "Loop")) <= found:
        raise ModelError(
            f"{node.label()}: {len(node.inputs)} inputs and {len(node.outputs)} outputs do not fit a body of "
            f"{len(body.inputs)} inputs and {found} outputs"
        )
    if not all(node.inputs[2 if node.op == "Loop" else 0 :]):
        raise ModelError(f"{node.label()}: a carried or scanned value is omitted")
    return body


def _list(node: Node, name: str, count: int) -> list[int]:
    values = node.attrs.get(name) or [0] * count
    if not isinstance(values, list) or len(values) != count or not all(isinstance(v, int) for v in values):
        raise ModelError(f"{node.label()}: attribute {name} must be a list of {count} integers, got {values!r}")
    return values


def first_axis(rewriter: Rewriter, node: Node, name: str, axis: int, nodes: list[Node]) -> str:
    """`name` with `axis` in front."""
    rank = len(rewriter.types[name].extents)
    if not -rank <= axis < rank:
        raise ShapeError(f'{node.label()}: it scans axis {axis} of "{name}", which has rank {rank}')
    axis %= rank
    perm = [axis, *(i for i in range(rank) if i != axis)]
    return rewriter.insert("Transpose", (name,), nodes, perm=perm) if axis else name


def turned_around(rewriter: Rewriter, name: str, nodes: list[Node]) -> str:
    """`name` with the order along axis 0 reversed."""
    ends = [[-1], [-(2**62)], [0], [-1]]
    if rewriter.opset >= 10:
        return rewriter.insert("Slice", (name, *map(rewriter.integers, ends)), nodes)
    extent = rewriter.types[name].extents[0]
    return rewriter.insert("Gather", (name, rewriter.integers(list(range(extent))[::-1])), nodes, axis=0)


# ---- values that no turn changes -------------------------------------------------------------------------------------


def _handed_through(body: Graph, pairs: Sequence[tuple[str, str]]) -> Iterable[int]:
    producers = {o: node for node in body.nodes for o in node.outputs}
    return (index for index, (before, after) in enumerate(pairs) if _source(producers, after) == before)


def _source(producers: dict[str, Node], name: str) -> str:
    """What `name` is another name of, through Identity nodes and through loops that hand it on."""
    while (node := producers.get(name)) is not None and not node.domain:
        if node.op == "Identity":
            name = node.input(0)
        elif node.op == "Loop" and node.outputs.index(name) < len(node.inputs) - 2:
            index = node.outputs.index(name)
            body = node.attrs.get("body")
            if not isinstance(body, Graph) or len(body.inputs) < index + 3 or len(body.outputs) < index + 2:
                break
            pair = body.inputs[index + 2].name, body.outputs[index + 1].name
            if not list(_handed_through(body, [pair])):
                break
            name = node.inputs[index + 2]
        else:
            break
    return name
