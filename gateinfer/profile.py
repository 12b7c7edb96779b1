"""What each part of a plan takes, and each op of its native parts, measured on made-up input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np

from gateinfer.feeds import new_buffer
from gateinfer.samples import random_arrays
from gateinfer.stages import StagedRunner

if TYPE_CHECKING:
    from gateinfer._core import Runner
    from gateinfer.plan import Plan

TIME_NS, LEAST, MOST = 300_000_000, 5, 500
"""Rounds go on for that long, but there are at least and at most so many."""


@dataclass(frozen=True, slots=True)
class PartTime:
    """Median microseconds of one call of a part, and of each op of a native one. Ops add up to the part."""

    us: float
    ops: tuple[float, ...]


def profile(plan: Plan) -> list[PartTime]:
    """Times of all parts of `plan`, states as made up as frames, and the same in every round.

    Raises
    ------
    GateInferError
        The model cannot run on made-up input.
    """
    runner = _bound_runner(plan)
    calls = runner.calls if isinstance(runner, StagedRunner) else [runner.step]
    natives = runner.runners if isinstance(runner, StagedRunner) else [runner]
    parts: list[list[int]] = []
    ops: list[list[np.ndarray]] = []
    stop = perf_counter_ns() + TIME_NS
    while len(parts) < LEAST or (len(parts) < MOST and perf_counter_ns() < stop):
        parts.append([_timed(call) for call in calls])
        ops.append([np.zeros(0) if native is None else native.profile() for native in natives])
    medians = np.median(parts, axis=0) / 1000
    return [
        PartTime(float(us), _scaled(np.median([turn[index] for turn in ops], axis=0), float(us)))
        for index, us in enumerate(medians)
    ]


def _bound_runner(plan: Plan) -> Runner | StagedRunner:
    """A runner on made-up input."""
    lowered, runner = plan.lowered, plan.lowered.new_runner()
    ports = [port for port in plan.graph.inputs if port.name in lowered.inputs]
    arrays = random_arrays({port.name: lowered.inputs[port.name][2] for port in ports}, ports, 1)[0]
    for name, (tensor, _, _) in lowered.inputs.items():
        runner.bind(tensor, arrays[name])
    for name, (tensor, dtype, shape) in lowered.outputs.items():
        runner.bind(tensor, new_buffer(shape, dtype, name))
    return runner


def _timed(call: Callable[[], None]) -> int:
    start = perf_counter_ns()
    call()
    return perf_counter_ns() - start


def _scaled(ns: np.ndarray, us: float) -> tuple[float, ...]:
    """Looking at the clock between ops costs time as well: their shares count."""
    total = float(ns.sum())
    return tuple(float(us * op / total) for op in ns) if total else (0.0,) * len(ns)
