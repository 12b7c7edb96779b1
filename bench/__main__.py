"""The whole benchmark: limits, speed on one thread and two, cold start; results as JSON, a table, and pictures.

python -m bench [--quick] [--only PATTERN] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from bench import cases, cold, limits, machine, table

QUICK = r"-(16|128|512)-|^silero-vad$|^gtcrn$|^rnnoise$"

THREADED = r"-(256|512)-(step|rows64)$|-256-sequence$|^dgaintel:"
"""Cases with work enough for two threads; where others are at work on the machine, each takes its time."""


def speed(pattern: str, threads: int, seconds: float) -> dict:
    """bench.speed in a process of its own: pinned before any engine starts its threads, which look at the affinity."""
    cpus = sorted(os.sched_getaffinity(0))[-threads:]
    environment = os.environ | {name: str(threads) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")}
    environment["OMP_WAIT_POLICY"] = "PASSIVE"  # threads that spin after a call would take a core from the next engine
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "speed.json"
        words = [f"--only={pattern}", "--threads", str(threads), "--seconds", str(seconds), "--json", str(out)]
        command = [sys.executable, "-m", "bench.speed", *words]
        pin = lambda: os.sched_setaffinity(0, cpus)  # noqa: E731
        subprocess.run(command, cwd=machine.ROOT, env=environment, preexec_fn=pin, check=True)
        return json.loads(out.read_text())


def measure(pattern: str, quick: bool) -> dict:
    start = perf_counter()
    print("limits of this machine", file=sys.stderr, flush=True)
    found = machine.facts() | {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), "quick": quick}
    found |= limits.measure()
    threads = [1] if quick or len(os.sched_getaffinity(0)) < 2 else [1, 2]
    wanted = {1: pattern, 2: pattern or THREADED}
    found["speed"] = [speed(wanted[n], n, (0.5 if quick else 2.5) / n) for n in threads]
    names = [name for name in cases.COLD if name in cases.names() and re.search(pattern, name)]
    found["cold"] = cold.measure(names[:1] if quick else names, 2 if quick else 5)
    return found | {"minutes": round((perf_counter() - start) / 60, 1)}


def pattern_of_cases(text: str) -> str:
    """A regular expression that finds a case; a long run must not end with nothing to show."""
    try:
        found = any(re.search(text, name) for name in cases.names())
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression: {error}") from None
    if not found:
        raise argparse.ArgumentTypeError(f"no case is found by {text!r}; there are {', '.join(cases.names())}")
    return text


def folder(text: str) -> Path:
    """A folder that exists from now on, not only after the measurements."""
    try:
        Path(text).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be a folder for results: {error.strerror}") from None
    return Path(text)


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="three sizes, one thread, short: about two minutes")
    parser.add_argument(
        "--only", type=pattern_of_cases, default="", metavar="PATTERN", help="cases this regular expression finds"
    )
    parser.add_argument("--out", type=folder, default=str(machine.ROOT / "build/bench"), metavar="FOLDER")
    args = parser.parse_args()
    found = measure(args.only or (QUICK if args.quick else ""), args.quick)
    path = args.out / f"{machine.slug()}.json"
    path.write_text(table.compact(found))
    print(table.full(found))
    try:
        from bench import plots
    except ModuleNotFoundError as error:
        print(f"no pictures: {error.name} is not installed (pip install gateinfer[viz])", file=sys.stderr)
    else:
        plots.draw(found, args.out)
    print(f"{path.parent}: {path.name}, *.png", file=sys.stderr)


if __name__ == "__main__":
    main()
