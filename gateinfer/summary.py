"""What a loaded model is, as a table: how it is used, its ports, states, layers, and the parts that run in turn."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gateinfer.errors import GateInferError, StateMismatch
from gateinfer.graph.bind import spell
from gateinfer.graph.ir import Port, all_nodes
from gateinfer.graph.lift import Lift
from gateinfer.graph.states import State
from gateinfer.parts import ISLAND, Layer, Part, Row, called, list_layers, list_parts, open_rows, tally
from gateinfer.profile import PartTime, profile
from gateinfer.samples import Sample, find_sample
from gateinfer.stages import Staged

if TYPE_CHECKING:
    from gateinfer.model import Model

MANY_LAYERS = 12
"""More recurrent layers than that are told together where they are alike."""

FEW_NAMES = 3

WIDTH = 100
"""Columns of `str()`, names that are longer aside."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What `Model.summary` returns. `str()` gives a plain-text table.

    Attributes
    ----------
    kind : str
        How the model is used: streamed with states of its own, with lifted ones, or run on whole sequences only.
    inputs, outputs, states : tuple of str
        One line each. States say whether they were lifted, and whether they start at something else than zero.
    layers : tuple of Layer
        Recurrent nodes in the order they run.
    recognised : tuple of str
        Cells that the file spells as products and gates and that run as one node.
    parts : tuple of Part
        Native programs and islands in the order they run; empty when shapes are open.
    rows : tuple of Row
        Nodes left after folding, in execution order.
    steps : dict of str to int
        Steps of the program by name; empty when shapes are open.
    macs : int or None
        Multiply-adds of the native parts per call, None when shapes are open.
    packed_bytes, work_bytes : int or None
        Bytes of packed weights and other constants, and of planned memory per stream.
    note : str
        Why the program could not be looked at, or what was picked for the figures.
    """

    isa: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    states: tuple[str, ...]
    layers: tuple[Layer, ...]
    recognised: tuple[str, ...]
    parts: tuple[Part, ...]
    rows: tuple[Row, ...]
    steps: dict[str, int]
    macs: int | None
    packed_bytes: int | None
    work_bytes: int | None
    note: str

    @property
    def us(self) -> float | None:
        """Measured microseconds of one call, all parts together."""
        times = [part.us for part in self.parts if part.us is not None]
        return sum(times) if times else None

    def share(self, item: Part | Row) -> float | None:
        """The part of one call that this takes: of the time if it was measured, else of the multiply-adds."""
        if self.us is not None:
            return None if item.us is None else item.us / self.us
        return item.macs / self.macs if item.macs is not None and self.macs else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def facts(self) -> list[tuple[str, str]]:
        """(what, value) pairs for printing; parts and nodes are in `parts` and `rows`."""
        pairs = [("model", self.kind)]
        pairs += [("input", line) for line in self.inputs] + [("output", line) for line in self.outputs]
        pairs += [("state", line) for line in self.states]
        pairs += [("layer", line) for line in _layer_lines(self.layers)]
        pairs += [("recognised", line) for line in self.recognised]
        pairs.append(("ISA", self.isa))
        if self.macs is not None:
            pairs.append(("program", f"{sum(self.steps.values())} steps: {_spell_counts(self.steps)}"))
            outside = " in the native parts" if any(part.where == ISLAND for part in self.parts) else ""
            pairs.append(("multiply-adds", f"{self.macs:,} per call{outside}"))
            pairs.append(("packed weights", f"{self.packed_bytes:,} bytes"))
            pairs.append(("working memory", f"{self.work_bytes:,} bytes per stream"))
        if self.us is not None:
            pairs.append(("time", f"{self.us:,.1f} us per call: medians of the parts, on made-up input"))
        return [*pairs, ("note", self.note)] if self.note else pairs

    def __str__(self) -> str:
        lines = [_wrapped(what, value) for what, value in self.facts()]
        lines += [_wrapped(f"part {part.number}", _part_line(part)) for part in self.parts]
        lines += [f"{row.op:20} {row.where:11} {row.shape:20} {row.node}" for row in self.rows]
        return "\n".join(lines)


def summarize(
    model: Model,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    constants: Mapping[str, Any] | None = None,
    *,
    time: bool = False,
) -> Summary:
    """Summary of `model`, with the figures of the program for these input shapes.

    Parameters
    ----------
    model : Model
    shapes : mapping of input name to shape, optional
        Extents that neither this nor the file gives are picked, and `note` says what was.
    constants : mapping, optional
        Inputs that keep one value, as in `Model.stream`. Those the file's branches hang on are picked if they are not
        given.
    time : bool
        Measure what every part and node takes, on made-up input.
    """
    sample, times, note = _looked_at(model, dict(shapes or {}), dict(constants or {}), time)
    parts, rows = list_parts(sample.plan, times) if sample else ((), open_rows(model.graph))
    program = sample.plan.lowered.program if sample else None
    kind, states = _use(model)
    return Summary(
        isa=model.isa,
        kind=kind,
        inputs=tuple(_port(port) for port in model.inputs),
        outputs=tuple(_port(port) for port in model.outputs),
        states=states,
        layers=list_layers(sample.plan) if sample else (),
        recognised=tuple(_recognised(sample)) if sample else (),
        parts=parts,
        rows=rows,
        steps=dict(Counter(program.op_names)) if program else {},
        macs=program.macs if program else None,
        packed_bytes=sum(part.weight_bytes for part in parts) if program else None,
        work_bytes=program.work_bytes if program else None,
        note=note,
    )


def _looked_at(
    model: Model, shapes: dict[str, tuple[int, ...]], constants: dict[str, Any], time: bool
) -> tuple[Sample | None, Sequence[PartTime], str]:
    """A plan for these shapes, its times, and a remark."""
    for name in shapes:
        model.port(name)
    try:
        sample = find_sample(model, shapes, constants)
    except GateInferError as error:
        return None, (), f"no figures until shapes and constants are given for the open inputs: {_first_line(error)}"
    picked = f"figures are for {', '.join(sample.picked)}, picked; give others with --shape and --set"
    note = picked if sample.picked else ""
    if not time:
        has_islands = isinstance(sample.plan.lowered, Staged)
        islands = "what islands cost is only known when measured: --time" if has_islands else ""
        return sample, (), "; ".join(filter(None, (note, islands)))
    try:
        return sample, profile(sample.plan), note
    except GateInferError as error:
        return sample, (), "; ".join(filter(None, (note, f"not timed, made-up input will not do: {error}")))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


# ---- kind and states ----


def _use(model: Model) -> tuple[str, tuple[str, ...]]:
    """How the model is used, and a line per state."""
    has_layers = any(node.op in ("LSTM", "GRU", "RNN", "Loop", "Scan") for node in all_nodes(model.graph))
    try:
        states = model.file_states
    except StateMismatch as error:
        return "streams, once it is told which outputs are states: m.stream(states=...)", (f"ambiguous: {error}",)
    try:
        lift = model.lifts.guess(states, {}, {})
    except StateMismatch as error:
        if not has_layers:
            return "no state, no recurrent layer: every call stands for itself", ()
        return f"whole sequences, by run() only: {error}", tuple(_state(model, state, None) for state in states)
    lines = tuple(_state(model, state, lift) for state in (*states, *(lift.states if lift else ())))
    return _kind(model, states, lift, has_layers), lines


def _kind(model: Model, states: Sequence[State], lift: Lift | None, has_layers: bool) -> str:
    if lift:
        time = ", ".join(f"axis {axis} of {name!r}" for name, axis in lift.axes)
        own = f"{_count(len(states))} of the file and " if states else ""
        chunk = f", {lift.length} steps at a time as the file fixes" if lift.length else ""
        return (
            f"whole sequences by run(), or frames along {time} by stream(){chunk}, which keeps {own}"
            f"{_count(len(lift.states))} that the file has no ports for"
        )
    if states:
        return f"streams: {_frames(model, states)}, and keeps {_count(len(states))} from one to the next"
    if has_layers:
        return "no state found that frames could carry on; run() takes whole inputs"
    return "no state, no recurrent layer: every call stands for itself"


def _frames(model: Model, states: Sequence[State]) -> str:
    """The inputs that are neither state nor kept constant by the file or the caller."""
    held = {state.input for state in states} | model.graph.defaults.keys()
    constants = [port.name for port in model.inputs if port.name not in held and model.is_deciding(port.name)]
    frames = [port.name for port in model.inputs if port.name not in held and port.name not in constants]
    settings = ", ".join(f"{name}=..." for name in constants)
    return f"stream({settings}) takes frames of {' and '.join(frames) or 'nothing'}"


def _count(states: int) -> str:
    return f"{states} state{'s' * (states != 1)}"


def _state(model: Model, state: State, lift: Lift | None) -> str:
    shape = spell(state.shape)
    if state.lifted:
        start = "a learned value of the file" if lift and state.input in lift.initial else "zero"
        return f"{state.input} {shape}, lifted out of its node, starts at {start}"
    default = model.graph.defaults.get(state.input)
    starts = ", starts at a learned value of the file" if default is not None and np.any(default) else ""
    return f"{state.input} -> {state.output} {shape}{starts}"


def _port(port: Port) -> str:
    return f"{port.name} {spell(port.shape)} {np.dtype(port.dtype).name}"


# ---- layers and parts ----


def _recognised(sample: Sample) -> Iterator[str]:
    """Each kind of recognised cell with what it was and where it is, cells in loops included."""
    found: dict[tuple[str, str], list[str]] = {}
    for node in all_nodes(sample.plan.graph):
        if node.origin:
            found.setdefault((node.op, str(node.origin)), []).append(called(node))
    for (op, was), names in found.items():
        what = f"{op} x{len(names)}, each {was}" if len(names) > 1 else f"{op} {was}"
        yield f"{what}; at {_some(names)}"


def _layer_lines(layers: Sequence[Layer]) -> list[str]:
    """A line per layer, or per kind of layer where there are many."""
    if len(layers) <= MANY_LAYERS:
        return [f"{layer}: {_place(layer)}" for layer in layers]
    alike: dict[str, list[str]] = {}
    for layer in layers:
        alike.setdefault(str(layer), []).append(_place(layer))
    return [f"{len(places)} x {line}: {_some(places)}" for line, places in alike.items()]


def _place(layer: Layer) -> str:
    return f"{layer.node} in {layer.loop}" if layer.loop else layer.node


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:FEW_NAMES], f"... ({len(names)})"] if len(names) > FEW_NAMES else names)


def _wrapped(what: str, value: str) -> str:
    return textwrap.fill(f"{what:15} {value}", WIDTH, subsequent_indent=" " * 16)


def _part_line(part: Part) -> str:
    ops = tally((op for op, count in part.ops.items() for _ in range(count)), 6)
    time = "" if part.us is None else f", {part.us:,.1f} us"
    crossing = f"{', '.join(part.inputs)} -> {', '.join(part.outputs)}"
    return f"{part.where}, {part.nodes} nodes ({ops}){time}: {crossing}"


def _spell_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} x{count}" if count > 1 else name for name, count in counts.items())
