"""How long until the first answer, and how much memory does it take? One fresh process per engine and turn.

python -m bench.cold [--rounds 5]       a child process measures import + load + first step, and its own peak memory
"""

from __future__ import annotations

import argparse
import json
import pickle
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter

from bench import cases
from bench.machine import ROOT
from bench.peers import PEERS, Skip, make

STEPS = 200
"""Steps before the peak of memory is read: enough for arenas and caches to have grown."""


def child(path: str, engine: str) -> dict:
    """Seconds and MiB of this process; Python is up, nothing of the engine (nor NumPy) is imported yet."""
    start = perf_counter()
    case = pickle.loads(Path(path).read_bytes())  # imports NumPy, which every engine needs
    try:
        peer = make(engine, case)
        loaded = perf_counter()
        peer(0)
    except Skip as reason:
        return {"skipped": str(reason)}
    first = perf_counter()
    for index in range(STEPS):
        peer(index)
    return {"load_s": loaded - start, "first_s": first - loaded, "total_s": first - start, "peak_MiB": peak_mib()}


def peak_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measure(names: list[str], rounds: int, engines: tuple[str, ...] = tuple(PEERS)) -> list[dict]:
    """Medians over `rounds` processes per case and engine, engines taking turns."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            path = Path(folder) / "case.pickle"
            path.write_bytes(pickle.dumps(prepared(name)))
            results = {engine: [] for engine in engines}
            for _ in range(rounds):
                for engine in engines:
                    results[engine].append(in_fresh_process(path, engine))
            rows += [summary(name, engine, found) for engine, found in results.items()]
            print(f"cold start of {name}: {len(engines) * rounds} processes", file=sys.stderr, flush=True)
    return rows


def prepared(name: str) -> cases.Case:
    """The case with its .tflite file made, so that making it does not count."""
    case = cases.load(name)
    if case.layer and find_spec("ai_edge_litert"):
        from bench.peers.litert_model import build

        case.prepared["tflite"] = build(case.layer)
    return case


def in_fresh_process(path: Path, engine: str) -> dict:
    command = [sys.executable, "-m", "bench.cold", "--child", str(path), engine]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"skipped": f"fails: {lines[-1][:160]}"}
    return json.loads(done.stdout.splitlines()[-1])


def summary(name: str, engine: str, found: list[dict]) -> dict:
    reasons = [one["skipped"] for one in found if "skipped" in one]
    if reasons:
        return {"case": name, "engine": engine, "skipped": reasons[0]}
    return {"case": name, "engine": engine} | {key: round(median(one[key] for one in found), 4) for key in found[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", nargs=2, metavar=("CASE", "ENGINE"), help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(child(*args.child)))
    else:
        print(json.dumps(measure([n for n in cases.COLD if n in cases.names()], args.rounds), indent=1))


if __name__ == "__main__":
    main()
