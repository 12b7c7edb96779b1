"""Proof: the same frames through the engine and through the oracles, compared value by value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gateinfer.errors import GateInferError, ValidationError
from gateinfer.feeds import as_feed, as_mapping
from gateinfer.graph.ir import Graph
from gateinfer.lifted_run import LiftedRun, find_lifted_run, pieces
from gateinfer.oracles import ORACLES, EngineRun, Oracle, Results, as_frames

if TYPE_CHECKING:
    from gateinfer.model import Model

ATOL, RTOL = 1e-4, 1e-3
"""What `ok` means by default: |got - oracle| <= ATOL + RTOL |oracle|. Figures, not verdicts, are in the report."""


ULP_FLOOR = 2.0**-10


@dataclass(slots=True)
class OutputReport:
    """How one output compares with one oracle over all steps.

    max_ulp is in float32 units in the last place of the oracle's value, for values of at least ULP_FLOOR times the
    largest of their step: below, a ULP is smaller than what any float32 sum of that size can resolve.
    first and worst are step numbers: the first beyond the tolerance (None if there is none) and the one of max_abs.
    """

    oracle: str
    output: str
    max_abs: float = 0.0
    max_ulp: float = 0.0
    first: int | None = None
    worst: int = 0
    steps: int = 0

    def add(self, got: np.ndarray, expected: np.ndarray, atol: float, rtol: float) -> None:
        """Takes one step into account."""
        step, self.steps = self.steps, self.steps + 1
        if got.shape != expected.shape:
            self.max_abs = self.max_ulp = float("inf")
            self.first = step if self.first is None else self.first
            return
        if not got.size:
            return
        error = difference(got, expected)
        beyond = error > atol + rtol * np.abs(np.nan_to_num(np.asarray(expected, np.float64)))
        if float(error.max()) > self.max_abs:
            self.max_abs, self.worst = float(error.max()), step
        self.max_ulp = max(self.max_ulp, _max_ulp(error, expected))
        if self.first is None and bool(beyond.any()):
            self.first = step


@dataclass(slots=True)
class Report:
    """The outcome of `validate`.

    Attributes
    ----------
    rows : list of OutputReport
        One per oracle and output (states included).
    skipped : dict of str to str
        Oracles that could not be asked, with the reason.
    how : str
        What was compared with what.
    """

    atol: float
    rtol: float
    how: str = ""
    rows: list[OutputReport] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True when at least one oracle was asked and no value is beyond the tolerance."""
        return bool(self.rows) and all(row.first is None for row in self.rows)

    @property
    def max_abs(self) -> float:
        return max((row.max_abs for row in self.rows), default=0.0)

    @property
    def max_ulp(self) -> float:
        return max((row.max_ulp for row in self.rows), default=0.0)

    @property
    def worst(self) -> OutputReport | None:
        """The row with the largest absolute difference."""
        return max(self.rows, key=lambda row: row.max_abs, default=None)

    def check(self) -> Report:
        """Returns the report, or raises ValidationError naming the first output beyond the tolerance."""
        if not self.rows:
            raise ValidationError(f"no oracle could be asked: {self.skipped}")
        for row in self.rows:
            if row.first is not None:
                raise ValidationError(
                    f"output {row.output!r} differs from {row.oracle} by up to {row.max_abs:.3g} (step {row.worst}), "
                    f"first beyond {self.atol:g} + {self.rtol:g}|ref| at step {row.first}"
                )
        return self

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rows = [{name: getattr(row, name) for name in OutputReport.__slots__} for row in self.rows]
        verdict = {"ok": self.ok, "atol": self.atol, "rtol": self.rtol, "how": self.how}
        return verdict | {"rows": rows, "skipped": dict(self.skipped)}


def difference(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """|got - expected| in float64; equal infinities and NaN on both sides count as 0, on one side as infinite."""
    a, b = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    with np.errstate(invalid="ignore"):
        error = np.abs(a - b)
    error[(a == b) | (np.isnan(a) & np.isnan(b))] = 0.0
    return np.where(np.isnan(error), np.inf, error)


def _max_ulp(error: np.ndarray, expected: np.ndarray) -> float:
    """Largest error in float32 ULP of the expected value, where that is not tiny."""
    magnitude = np.abs(np.asarray(expected, np.float64))
    largest = magnitude[np.isfinite(magnitude)].max(initial=0.0)
    counted = np.isfinite(magnitude) & (magnitude >= ULP_FLOOR * largest) & (magnitude > 0)
    if not counted.any():
        return 0.0
    spacing = np.spacing(magnitude[counted].astype(np.float32)).astype(np.float64)
    return float((error[counted] / spacing).max())


def validate(
    model: Model,
    frames: Any,
    *,
    oracles: Sequence[str] = tuple(ORACLES),
    atol: float = ATOL,
    rtol: float = RTOL,
    constants: Mapping[str, Any] | None = None,
    lift: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Compare the engine with onnxruntime and with the float64 reference.

    A model with state is streamed, and each oracle gets its own previous state handed back. A whole-sequence model
    whose states a stream lifts is streamed as well, and its frames are compared with one long run of the oracle:
    outputs of every step with their part of it, those of the last step alone, and states of the file, at the end. A
    file that fixes its length cannot run longer; there oracles follow the graph with its states lifted. Other models
    run frame by frame.

    Parameters
    ----------
    model : Model
    frames : sequence
        Arrays (models with one frame input) or dicts of input name to array.
    oracles : sequence of str
        Of "onnxruntime" (needs the package and the model's ONNX source) and "reference".
    atol, rtol : float
        What the report calls beyond: |got - oracle| > atol + rtol |oracle|.
    constants : mapping, optional
        Inputs that keep one value, as in `Model.stream`.
    lift : bool
        False: the frames of a whole-sequence model are sequences of their own, one `run` each.
    progress : callable, optional
        Called with (steps done, steps in all).
    """
    if not callable(getattr(model, "stream", None)):
        raise GateInferError(f"expected a loaded model, got {type(model).__name__}; use load(...) first")
    report = Report(atol, rtol)
    given = as_mapping(constants, "constants=")
    fixed = {name: as_feed(model.port(name), value, "constant") for name, value in given.items()}
    steps = as_frames(model, frames, fixed)
    lifted = find_lifted_run(model, steps, fixed) if lift else None
    engine = lifted or EngineRun(model, fixed)
    report.how = engine.how
    asked = _ask(model, oracles, report, engine.graph)
    if lifted and lifted.whole:
        _compare_long_run(lifted, asked, steps, fixed, report, progress)
    else:
        _compare_steps(engine, asked, steps, fixed, report, progress)
    return report


def _compare_steps(
    engine: EngineRun | LiftedRun,
    asked: Mapping[str, Oracle],
    steps: Sequence[Results],
    fixed: Results,
    report: Report,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Every frame with every oracle, which gets its own states back."""
    rows: dict[str, dict[str, OutputReport]] = {oracle: {} for oracle in asked}
    states: dict[str, Results] = {}
    for done, frame in enumerate(steps):
        got = engine.step(frame)
        for oracle, run in asked.items():
            held = states.get(oracle, engine.initial_states)
            expected = run(dict(frame) | fixed | held)
            states[oracle] = {state.input: expected[state.output] for state in engine.pairs}
            for name, value in expected.items():
                row = rows[oracle].setdefault(name, OutputReport(oracle, name))
                row.add(got[name], value, report.atol, report.rtol)
        if progress:
            progress(done + 1, len(steps))
    report.rows = [row for named in rows.values() for row in named.values()]


def _compare_long_run(
    engine: LiftedRun,
    asked: Mapping[str, Oracle],
    steps: Sequence[Results],
    fixed: Results,
    report: Report,
    progress: Callable[[int, int], None] | None,
) -> None:
    """All frames with one run of every oracle."""
    results = []
    for frame in steps:
        results.append(engine.step(frame))
        if progress:
            progress(len(results), len(steps))
    for oracle, run in asked.items():
        for name, whole in run(engine.whole | fixed | engine.initial_states).items():
            row = OutputReport(oracle, name)
            for step, got, expected in pieces([result[name] for result in results], whole):
                row.steps = step
                row.add(got, expected, report.atol, report.rtol)
            report.rows.append(row)


def _ask(model: Model, oracles: Sequence[str], report: Report, graph: Graph | None) -> dict[str, Oracle]:
    """The oracles that can answer, about `graph` if there is one; the others are noted in the report."""
    asked: dict[str, Oracle] = {}
    for name in oracles:
        if name not in ORACLES:
            raise GateInferError(f"no oracle is called {name!r}; there are {', '.join(ORACLES)}")
        try:
            asked[name] = ORACLES[name](model, graph)
        except GateInferError as error:
            report.skipped[name] = str(error)
    return asked
