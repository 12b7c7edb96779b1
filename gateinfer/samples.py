"""What a program is looked at, timed and tried with when nobody gave shapes: picked extents, constants, frames."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gateinfer.errors import GateInferError, StateMismatch
from gateinfer.feeds import as_feed
from gateinfer.graph.ir import RECURRENT, Graph, Port, Shapes, all_nodes
from gateinfer.graph.recurrent_attrs import parse_recurrent

if TYPE_CHECKING:
    from gateinfer.model import Model
    from gateinfer.plan import Plan

FRAME, SEQUENCE = (1, 32, 512, 8192), (100, 32, 512, 8192, 1)
"""What open extents count as, the first that makes a program: of one frame of a stream, and of whole sequences. Windows
need more than 1."""

LOOPS = ("Loop", "Scan")

MOST_CONSTANTS = 8
"""Values that are tried for an input that decides between branches."""

SEED = 0

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Sample:
    """A plan and what it is for.

    Attributes
    ----------
    plan : Plan
    shapes : of all inputs fed.
    picked : "name (shape)" or "name=value" of everything that neither the caller nor the file gave.
    """

    plan: Plan
    shapes: Shapes
    picked: tuple[str, ...]


def find_sample(model: Model, shapes: Shapes, constants: Mapping[str, Any]) -> Sample:
    """The plan for these shapes and constants, whatever is left open picked.

    Raises
    ------
    GateInferError
        No pick makes a program: why the first one did not.
    """
    given = {name: as_feed(model.port(name), value, "constant") for name, value in constants.items()}
    reasons: list[GateInferError] = []
    dissolved: Sample | None = None
    for extent in open_extents(model):
        for values in _constants(model, given, extent):
            try:
                sample = _upright(model, shapes, values, values.keys() - given.keys(), extent)
            except GateInferError as error:
                reasons.append(error)
                continue
            if not _lost_its_cells(model.graph, sample.plan.graph):
                return sample
            dissolved = dissolved or sample
    if dissolved:
        return dissolved
    raise reasons[0]


def sample_shapes(model: Model, shapes: Shapes, constants: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of all inputs, open extents as `find_sample` picks them, or as 1 where it finds none."""
    try:
        return dict(find_sample(model, shapes, constants).shapes)
    except GateInferError:
        return closed(model.inputs, 1) | dict(shapes)


def open_extents(model: Model) -> tuple[int, ...]:
    """Extents to try, one step first for models that stream with states of the file."""
    has_layers = any(node.op in (*RECURRENT, *LOOPS) for node in all_nodes(model.graph))
    try:
        return SEQUENCE if has_layers and not model.file_states else FRAME
    except StateMismatch:
        return FRAME


def closed(ports: Iterable[Port], extent: int, *, time_first: bool = False) -> dict[str, tuple[int, ...]]:
    """Shapes with open extents closed: by `extent`, but an open leading one next to others is a batch of 1.

    `time_first`: the leading one is not the batch, and the others are.
    """
    ports = list(ports)
    batch = {port.shape[axis] for port in ports if port.shape for axis in _batch_axes(port, time_first)} - {None}

    def close(port: Port) -> tuple[int, ...]:
        own = _batch_axes(port, time_first)
        free = [1 if axis in own or d in batch else extent for axis, d in enumerate(port.shape or ())]
        return tuple(d if isinstance(d, int) else free[axis] for axis, d in enumerate(port.shape or ()))

    return {port.name: close(port) for port in ports}


def _batch_axes(port: Port, time_first: bool) -> list[int]:
    """The leading axis if it is open and so are others, or the next is that of a sequence of fixed length."""
    shape = port.shape or ()
    if len(shape) < 2 or isinstance(shape[0], int):
        return []
    others = [axis for axis, d in enumerate(shape) if axis and not isinstance(d, int)]
    if time_first and others:
        return others
    holds_steps = len(shape) > 2 or port.dtype.kind in "iu"
    return [0] if others or (holds_steps and shape[1] != 1) else []


def _upright(model: Model, shapes: Shapes, values: Arrays, picked: Collection[str], extent: int) -> Sample:
    """The sample with time where the recurrent nodes have it: [N, T, ..] unless they then see one step of many rows."""
    try:
        sample = _sample(model, shapes, values, picked, extent)
    except GateInferError:
        if extent == 1:
            raise
        return _sample(model, shapes, values, picked, extent, time_first=True)
    sizes = list(_layer_sizes(sample.plan.graph))
    if not sizes or any(steps > 1 or rows == 1 for steps, rows in sizes):
        return sample
    try:
        return _sample(model, shapes, values, picked, extent, time_first=True)
    except GateInferError:
        return sample


def _layer_sizes(graph: Graph) -> Iterator[tuple[int, int]]:
    """Steps and rows of every recurrent node."""
    for node in graph.nodes:
        if node.op in RECURRENT:
            time = parse_recurrent(node).layout
            x = graph.types[node.inputs[0]].extents
            yield x[time], x[1 - time]


def _sample(
    model: Model, shapes: Shapes, values: Arrays, picked: Iterable[str], extent: int, *, time_first: bool = False
) -> Sample:
    ports = [p for p in model.inputs if p.name not in values and p.name not in model.graph.defaults]
    full = closed(ports, extent, time_first=time_first) | closed([p for p in ports if p.name in _held(model)], 1)
    full |= dict(shapes)
    plan = model.plan(full, values)
    guessed = [f"{p.name} {full[p.name]}" for p in ports if p.name not in shapes and not p.type.is_static]
    settings = [f"{name}={values[name].tolist()}" for name in picked]
    return Sample(plan, full, tuple(guessed + settings))


def _held(model: Model) -> set[str]:
    try:
        return {state.input for state in model.file_states}
    except StateMismatch:
        return set()


def _lost_its_cells(graph: Graph, planned: Graph) -> bool:
    """True when loops dissolved, as those of one turn do, and left no cell to be seen."""
    has_loops = any(node.op in LOOPS for node in all_nodes(graph))
    return has_loops and not any(node.op in (*LOOPS, *RECURRENT) for node in all_nodes(planned))


# ---- constants ----


def _constants(model: Model, given: Arrays, extent: int) -> Iterator[Arrays]:
    """`given` with values for inputs that decide about shapes or branches: what the file compares them with."""
    names = [p.name for p in model.inputs if model.is_deciding(p.name) and p.name not in given]
    names = [name for name in names if name not in model.graph.defaults]
    if not names:
        yield given
        return
    compared = {name: _compared_with(model.graph, name) for name in names}
    for turn in range(max(len(found) for found in compared.values()) or 1):
        picked = {}
        for name, found in compared.items():
            port = model.port(name)
            value = found[min(turn, len(found) - 1)] if found else extent
            shape = tuple(d if isinstance(d, int) else 1 for d in port.shape or ())
            picked[name] = np.full(shape, value).astype(port.dtype)
        yield given | picked


def _compared_with(graph: Graph, name: str) -> list[Any]:
    """Constants that nodes compare the input with, the largest first."""
    derived = {name}
    found: set[Any] = set()
    for node in graph.nodes:
        if not derived & set(node.inputs):
            continue
        if node.op in ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"):
            constants = (graph.constants[source] for source in node.inputs if source in graph.constants)
            found.update(value.item() for value in constants if value.size == 1)
        elif node.op in ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Gather", "Mod"):
            derived.update(node.outputs)
    return sorted(found, reverse=True)[:MOST_CONSTANTS]


# ---- frames ----


def random_arrays(shapes: Mapping[str, tuple[int, ...]], ports: Sequence[Port], count: int) -> list[Arrays]:
    """Normal float frames (integers: 0 or 1) with a fixed seed."""
    rng = np.random.default_rng(SEED)

    def draw(port: Port) -> np.ndarray:
        if np.dtype(port.dtype).kind == "f":
            return rng.standard_normal(shapes[port.name]).astype(port.dtype)
        return rng.integers(0, 2, shapes[port.name]).astype(port.dtype)

    return [{port.name: draw(port) for port in ports} for _ in range(count)]
