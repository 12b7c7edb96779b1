"""What a fresh process measures of itself, for `bench.cold`: python -m bench.start CASE ENGINE

Nothing is imported before the clock runs that an engine would have to import itself.
"""

from __future__ import annotations

import sys
from time import perf_counter

STEPS = 200
"""Steps before the peak of memory is read: enough for arenas and caches to have grown."""


def measured(path: str, engine: str) -> dict:
    """Seconds and MiB: import and load, of which NumPy, which every engine needs; then the first step.

    The case, its frames and its model as bytes, is read behind NumPy's import, off the clock.
    """
    start = perf_counter()
    import numpy  # noqa: F401

    numpy_s = perf_counter() - start
    import pickle

    from bench.peers import Skip, make

    with open(path, "rb") as file:
        case = pickle.load(file)
    start = perf_counter()
    try:
        peer = make(engine, case)
        loaded = perf_counter()
        peer(0)
    except Skip as reason:
        return {"skipped": str(reason)}
    first = perf_counter()
    for index in range(STEPS):
        peer(index)
    load_s, first_s = numpy_s + loaded - start, first - loaded
    times = {"numpy_s": numpy_s, "load_s": load_s, "first_s": first_s, "total_s": load_s + first_s}
    return times | {"peak_MiB": peak_mib()}


def peak_mib() -> float:
    with open("/proc/self/status") as status:
        return int(status.read().split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    found = measured(*sys.argv[1:])
    import json

    print(json.dumps(found))
