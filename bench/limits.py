"""What can this machine do at most? Read bandwidth of each cache, FMA peak, and the cells in bare C next to them.

python -m bench.limits        builds and runs bench/c/roofline.c, which says how a limit is found
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = "build/bench/roofline"
GROUPS = {(1, 1): "step", (100, 1): "sequence", (1, 16): "rows16", (1, 64): "rows64"}


def build() -> None:
    """The program, made by plain `cc` from the same C sources as the extension."""
    subprocess.run(["make", "--silent", PROGRAM], cwd=ROOT, check=True)


def measure() -> dict:
    """{"limits": peaks of the machine, "cells": microseconds per call in C and at the limit, by name of the case}."""
    build()
    lines = subprocess.run([f"./{PROGRAM}"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    limits, *cells = map(json.loads, lines)
    return {"limits": limits, "cells": {name(cell): per_call(cell) for cell in cells}}


def name(cell: dict) -> str:
    return f"{cell['cell']}-{cell['size']}-{GROUPS[cell['steps'], cell['rows']]}"


def per_call(cell: dict) -> dict:
    """The tool counts per step."""
    return {key: round(cell[key] * cell["steps"], 4) for key in ("us", "limit_us")}


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
