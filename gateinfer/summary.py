"""What a loaded model is made of, as a table: ports, states, nodes, program steps, multiply-adds, packed bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gateinfer.errors import GateInferError, StateMismatch
from gateinfer.feeds import as_feed
from gateinfer.graph.bind import spell
from gateinfer.graph.ir import Graph, Node, Port, subgraphs
from gateinfer.graph.states import State

if TYPE_CHECKING:
    from gateinfer.model import Model
    from gateinfer.plan import Plan

OPEN_EXTENTS = (1, 32, 512, 8192)
"""What extents that nobody gave count as: the first that makes a program; windows need more than 1."""


@dataclass(frozen=True, slots=True)
class Row:
    """One node: what the file calls it, its operator, the shape of its first output, and who runs it."""

    node: str
    op: str
    shape: str
    where: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What `Model.summary` returns. `str()` gives a plain-text table.

    Attributes
    ----------
    inputs, outputs, states : tuple of str
        One line each.
    recognised : tuple of str
        Cells that the file spells as products and gates and that run as one node.
    rows : tuple of Row
        Nodes left after folding, in execution order.
    steps : dict of str to int
        Steps of the program by name; empty when shapes are open.
    macs : int or None
        Multiply-adds of one call at `shapes`, None when shapes are open.
    packed_bytes, work_bytes : int or None
        Bytes of packed weights, and of planned memory per stream.
    note : str
        Why the program could not be looked at, or which shapes the figures are for.
    """

    isa: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    states: tuple[str, ...]
    recognised: tuple[str, ...]
    rows: tuple[Row, ...]
    steps: dict[str, int]
    macs: int | None
    packed_bytes: int | None
    work_bytes: int | None
    note: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return fields | {"rows": [{name: getattr(row, name) for name in Row.__slots__} for row in self.rows]}

    def facts(self) -> list[tuple[str, str]]:
        """(what, value) pairs for printing; nodes are in `rows`."""
        pairs = [("input", line) for line in self.inputs] + [("output", line) for line in self.outputs]
        pairs += [("state", line) for line in self.states]
        pairs += [("recognised", line) for line in self.recognised]
        pairs.append(("ISA", self.isa))
        if self.macs is not None:
            steps = ", ".join(f"{name} x{count}" if count > 1 else name for name, count in self.steps.items())
            pairs.append(("program", f"{sum(self.steps.values())} steps: {steps}"))
            pairs.append(("multiply-adds", f"{self.macs:,} per call"))
            pairs.append(("packed weights", f"{self.packed_bytes:,} bytes"))
            pairs.append(("working memory", f"{self.work_bytes:,} bytes per stream"))
        return [*pairs, ("note", self.note)] if self.note else pairs

    def __str__(self) -> str:
        lines = [f"{what:15} {value}" for what, value in self.facts()]
        lines += [f"{row.op:20} {row.where:8} {row.shape:20} {row.node}" for row in self.rows]
        return "\n".join(lines)


def summarize(
    model: Model,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    constants: Mapping[str, Any] | None = None,
) -> Summary:
    """Summary of `model`, with the figures of the program for these input shapes.

    Parameters
    ----------
    model : Model
    shapes : mapping of input name to shape, optional
        Extents that neither this nor the file gives count as the first of `OPEN_EXTENTS` that makes a program.
    constants : mapping, optional
        Inputs that keep one value, as in `Model.stream`.
    """
    plan, note = _plan(model, dict(shapes or {}), dict(constants or {}))
    graph = plan.graph if plan else model.graph
    program = plan.lowered.program if plan else None
    return Summary(
        isa=model.isa,
        inputs=tuple(_port(port) for port in model.inputs),
        outputs=tuple(_port(port) for port in model.outputs),
        states=_states(model),
        recognised=_recognised(graph),
        rows=tuple(_row(graph, node.label(), node.op, next(filter(None, node.outputs))) for node in graph.nodes),
        steps=dict(Counter(program.op_names)) if program else {},
        macs=program.macs if program else None,
        packed_bytes=_packed_bytes(model) if program else None,
        work_bytes=program.work_bytes if program else None,
        note=note,
    )


def _plan(model: Model, shapes: dict[str, tuple[int, ...]], constants: dict[str, Any]) -> tuple[Plan | None, str]:
    """The plan for these shapes and a remark; no plan when they do not determine one."""
    values = {name: as_feed(model.port(name), value, "constant") for name, value in constants.items()}
    ports = [p for p in model.inputs if p.name not in values and p.name not in model.graph.defaults]
    guessed = [p.name for p in ports if p.name not in shapes and _is_open(p)]
    reasons: list[str] = []
    for extent in _extents(model.graph) if guessed else (1,):
        full = _closed(ports, extent) | shapes
        try:
            plan = model.plan(full, values)
        except GateInferError as error:
            reasons.append(str(error).splitlines()[0])
            continue
        used = ", ".join(f"{name} {full[name]}" for name in guessed)
        return plan, f"figures are for {used}" if used else ""
    return None, f"no figures until shapes and constants are given for the open inputs: {reasons[0]}"


def _extents(graph: Graph) -> tuple[int, ...]:
    """Open extents to try: 1 first, unless a loop would then have one turn and dissolve, which hides its cell."""
    return OPEN_EXTENTS[any(node.op in ("Loop", "Scan") for node in graph.nodes) :]


def _closed(ports: list[Port], extent: int) -> dict[str, tuple[int, ...]]:
    """Shapes with open extents closed: all by `extent`, but an open leading one next to others is a batch of 1."""
    batch = {p.shape[0] for p in ports if p.shape and sum(not isinstance(d, int) for d in p.shape) > 1}

    def close(port: Port) -> tuple[int, ...]:
        shape = port.shape or ()
        return tuple(d if isinstance(d, int) else 1 if d and d in batch else extent for d in shape)

    return {port.name: close(port) for port in ports}


def _is_open(port: Port) -> bool:
    return port.shape is None or not all(isinstance(d, int) for d in port.shape)


def _port(port: Port) -> str:
    return f"{port.name} {spell(port.shape)} {np.dtype(port.dtype).name}"


def _states(model: Model) -> tuple[str, ...]:
    try:
        states = model.states
    except StateMismatch as error:
        return (f"ambiguous: {error}",)
    try:
        model.lifts.guess(model.file_states, {}, {})
    except StateMismatch as error:
        return (*map(_state, states), f"none that frames could carry on: {error}")
    return tuple(map(_state, states))


def _state(state: State) -> str:
    if state.lifted:
        return f"{state.input} {spell(state.shape)}, lifted out of the node: the file starts it anew in every run"
    return f"{state.input} -> {state.output} {spell(state.shape)}"


def _recognised(graph: Graph) -> tuple[str, ...]:
    """Each kind of recognised cell with what it was, cells in loops included."""
    counts = Counter((node.op, str(node.origin)) for node in _all_nodes(graph) if node.origin)
    return tuple(f"{op} x{n}, each {was}" if n > 1 else f"{op} {was}" for (op, was), n in counts.items())


def _all_nodes(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes:
        yield node
        for body in subgraphs(node):
            yield from _all_nodes(body)


def _row(graph: Graph, label: str, op: str, output: str) -> Row:
    known = graph.types.get(output)
    # Every node of a model that loaded is native: what is not is refused at load.
    name = label.split(" node ", 1)[-1].strip('"')
    return Row(node=name, op=op, shape=spell(known.shape) if known else "", where="native")


def _packed_bytes(model: Model) -> int:
    """Bytes of all packed arrays the model's programs share; cache entries are (sources, packed)."""
    arrays = (part for entry in model.plans.weights.values() if isinstance(entry, tuple) for part in entry)
    return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))
