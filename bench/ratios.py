"""Prints README's table: p50 of gateinfer and of onnxruntime's better form, taken in turns in one run, and their ratio.

.venv/bin/python bench/ratios.py [--json ratios.json]
"""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from cases import BATCHES, SEQUENCES, STEPS, Case, real_cases

import gateinfer as gi
from gateinfer.bench import compare_engines

WANTED = ("lstm-16", "lstm-64", "lstm-128", "lstm-256", "gru-64", "gru-128", "lstm-512")


@dataclass(frozen=True)
class Row:
    """Microseconds per call: medians and a 99th percentile. ratio: the median of the ratios per turn."""

    case: str
    gateinfer_us: float
    gateinfer_p99_us: float
    onnxruntime_us: float
    ratio: float


def measure(case: Case, rounds: int) -> Row:
    """One row; onnxruntime's form with the lower median counts."""
    model = gi.load(case.model())
    constants = {name: np.asarray(value) for name, value in case.constants}
    result, _ = compare_engines(model, case.frames(), constants, rounds=rounds)
    ours, *others = result.timings
    best = min(others, key=lambda timing: timing.p50)
    return Row(case.name, ours.p50, ours.p99, best.p50, result.ratio(best.name, ours.name))


def cases() -> list[Case]:
    steps = [case for case in STEPS if case.name.removesuffix("-t1-n1") in WANTED]
    return [*steps, *SEQUENCES, *BATCHES, *real_cases()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=300)
    args = parser.parse_args()
    print("| case | gateinfer p50 us | p99 us | onnxruntime p50 us | ratio |\n|---|---:|---:|---:|---:|")
    rows = []
    for case in cases():
        row = measure(case, args.rounds)
        rows.append(row)
        figures = f"{row.gateinfer_us:.2f} | {row.gateinfer_p99_us:.2f} | {row.onnxruntime_us:.2f} | {row.ratio:.2f}"
        print(f"| {row.case} | {figures} |", flush=True)
    if args.json:
        facts = {"isa": gi.best_isa(), "onnxruntime": onnxruntime.__version__, "machine": platform.platform()}
        args.json.write_text(json.dumps(facts | {"rows": [asdict(row) for row in rows]}, indent=1))


if __name__ == "__main__":
    main()
