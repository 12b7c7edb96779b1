"""A real model on real sound: Silero VAD over a speech clip, frame by frame, checked and timed against onnxruntime.

Fails (exit code 1) when the two engines differ by more than LIMIT in any frame.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import gateinfer as gi
from gateinfer.audio import frames_of, read_wav
from gateinfer.bench import BOUND, ENGINE, RUN, Comparison, OnnxruntimeRun, compare_engines
from gateinfer.cli.render import Screen
from gateinfer.errors import GateInferError

PACKAGE = "silero-vad==6.2.1"
MODEL_IN_PACKAGE = Path("silero_vad", "data", "silero_vad.onnx")
RATE, CHUNK, CONTEXT = 16000, 512, 64
"""What the model takes: 512 new samples at 16 kHz, after the last 64 of the chunk before."""
LIMIT = 1e-4
"""Largest difference between the engines' probabilities that passes."""
SPEECH_ON, SPEECH_OFF = 0.5, 0.35
"""A segment starts at the first probability and ends below the second, so that it does not flicker."""
MIN_GAP, MIN_SPEECH = 0.1, 0.25
"""Seconds. Shorter gaps are closed, then shorter segments dropped."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the demo found."""

    seconds: float
    probabilities: np.ndarray
    segments: list[tuple[float, float]]
    max_difference: float
    timings: Comparison

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "seconds": self.seconds,
            "frames": len(self.probabilities),
            "segments": [list(segment) for segment in self.segments],
            "max_difference": self.max_difference,
            "limit": LIMIT,
            "ok": self.ok,
            "timings": self.timings.as_dict(),
        }

    @property
    def ok(self) -> bool:
        return self.max_difference <= LIMIT


def fetch_model(cache: Path) -> Path:
    """The model file of the `silero-vad` package, installed without its dependencies into `cache` on first use."""
    path = cache / MODEL_IN_PACKAGE
    if path.is_file():
        return path
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*command, "--target", str(cache), PACKAGE], capture_output=True, text=True)
    if done.returncode or not path.is_file():
        reason = (done.stderr.strip().splitlines() or ["no such file in the package"])[-1]
        raise GateInferError(f"cannot fetch {PACKAGE} with pip: {reason}; or pass --model with a copy of the file")
    return path


def segments_of(probabilities: np.ndarray, frame_seconds: float) -> list[tuple[float, float]]:
    """(start, end) of speech in seconds, from one probability per frame."""
    found: list[tuple[float, float]] = []
    start: float | None = None
    for index, p in enumerate(probabilities):
        now = index * frame_seconds
        if start is None and p >= SPEECH_ON:
            start = now
        elif start is not None and p < SPEECH_OFF:
            found, start = _joined(found, (start, now)), None
    if start is not None:
        found = _joined(found, (start, len(probabilities) * frame_seconds))
    return [(a, b) for a, b in found if b - a >= MIN_SPEECH]


def _joined(segments: list[tuple[float, float]], new: tuple[float, float]) -> list[tuple[float, float]]:
    if segments and new[0] - segments[-1][1] < MIN_GAP:
        return [*segments[:-1], (segments[-1][0], new[1])]
    return [*segments, new]


def run_demo(model_path: Path, wav_path: Path, laps: int, screen: Screen) -> Outcome:
    """Stream the clip through both engines, compare every frame, then time both in one interleaved run."""
    samples, rate = read_wav(wav_path)
    if rate != RATE:
        raise GateInferError(f"{wav_path}: {rate} samples per second; the model takes {RATE}")
    chunks = frames_of(samples, CHUNK, CONTEXT)[:, None, :]  # [frames, 1, 576]
    if not len(chunks):
        raise GateInferError(f"{wav_path}: no samples")
    model = gi.load(model_path)
    stream = model.stream(sr=RATE)
    ours = np.array([stream(frame).item() for frame in chunks])
    frames = [{"input": frame} for frame in chunks]
    constants = {"sr": np.asarray(RATE, np.int64)}
    session = OnnxruntimeRun(model, frames, constants)
    theirs = np.array([session(index)["output"].item() for index in range(len(frames))])
    with screen.progress("timing both engines") as progress:
        timings, skipped = compare_engines(
            model, frames, constants, rounds=laps * len(frames), burst=1, progress=progress
        )
    if skipped:
        raise GateInferError("; ".join(skipped.values()))
    segments = segments_of(ours, CHUNK / RATE)
    return Outcome(len(samples) / RATE, ours, segments, float(np.abs(ours - theirs).max()), timings)


def timeline(outcome: Outcome, marks: str = "█·", width: int = 72) -> list[str]:
    """The clip from left to right: a ruler in seconds, and the first of `marks` where there is speech."""
    count = min(width, len(outcome.probabilities))
    step = outcome.seconds / count
    middles = (np.arange(count) + 0.5) * step
    line = "".join(marks[0] if any(a <= t < b for a, b in outcome.segments) else marks[1] for t in middles)
    ruler = [" "] * (count + 4)
    for second in range(0, int(outcome.seconds) + 1, 2):
        at = round(second / step)
        if at < count:
            ruler[at : at + len(str(second))] = str(second)
    return ["".join(ruler).rstrip() + " s", line]


def show(outcome: Outcome, screen: Screen) -> None:
    """Print what a person wants to know."""
    screen.heading(f"Speech in {outcome.seconds:.1f} s of sound ({len(outcome.probabilities)} frames of 32 ms)")
    for line in timeline(outcome, "█·" if screen.can_print("█·") else "#."):
        screen.line("  " + line)
    for start, end in outcome.segments:
        screen.line(f"  speech from {start:5.2f} to {end:5.2f} s")
    screen.heading("Same answer?")
    verdict = "within" if outcome.ok else "BEYOND"
    screen.line(
        f"  largest difference of a speech probability from onnxruntime: {outcome.max_difference:.2e}"
        f" ({verdict} the limit of {LIMIT:g})"
    )
    screen.heading("How long does a frame take?")
    rows = [(t.name, f"{t.p50:.1f}", f"{t.p99:.1f}", f"{outcome.timings.ratio(t.name, ENGINE):.2f}")
            for t in outcome.timings.timings]  # fmt: skip
    screen.table(("engine", "p50 us", "p99 us", "times gateinfer's"), rows)
    screen.line("  One thread each, taking turns frame by frame in this run on this machine; all carry their state.")
    screen.line(f"  '{RUN}' is what most programs call, '{BOUND}' its fastest form. Other machines differ.")


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m gateinfer demo ...`."""
    from gateinfer.cli import main as cli

    return cli(["demo", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
