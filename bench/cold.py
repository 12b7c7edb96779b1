"""How long until the first answer, and how much memory does it take? One fresh process per engine and turn.

python -m bench.cold [--rounds 5]       a child process measures import + load + first step, and its own peak memory

Byte code is cached, as after an installation with pip: a first process per engine, which does not count, leaves it in a
folder of its own. Files are in the page cache.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from bench import cases
from bench.machine import ROOT
from bench.peers import taking_part


def measure(names: list[str], rounds: int, engines: tuple[str, ...] = tuple(taking_part(1))) -> list[dict]:
    """Medians over `rounds` processes per case and engine, engines taking turns."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            path = Path(folder) / "case.pickle"
            path.write_bytes(pickle.dumps(prepared(name)))
            results = {engine: [] for engine in engines}
            for turn in range(rounds + 1):
                for engine in engines:
                    found = in_fresh_process(path, engine, byte_code=Path(folder) / "byte_code")
                    results[engine] += [found] if turn else []
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


def in_fresh_process(path: Path, engine: str, *, byte_code: Path) -> dict:
    """What a child finds; it takes compiled modules from the folder `byte_code`, and leaves there what it compiles."""
    command = [sys.executable, "-m", "bench.start", str(path), engine]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(byte_code)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
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
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(json.dumps(measure([n for n in cases.COLD if n in cases.names()], args.rounds), indent=1))


if __name__ == "__main__":
    main()
