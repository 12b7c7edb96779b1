"""How even steps are: times of a million single steps of bound streams, on one core.

.venv/bin/python -m bench.tail [--steps 1000000] [--cpu 0]

Every step is timed on its own with `perf_counter_ns`, whose own time is not taken off. What another process or the
kernel takes from this core counts as well: compare with `idle`, the same loop around nothing. `kept` is the share of
stretches of 100 steps in which the kernel gave the core to nobody else, and the ratio after it is of those alone.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import time
from collections.abc import Callable

import numpy as np

import gateinfer as gi
from bench.cases import Layer, layer_model, zoo_case, zoo_names

SIZES = (16, 64, 128, 256)
WARM_UP = 1000
STRETCH = 100


def lstm_step(size: int) -> Callable[[], None]:
    stream = gi.load(layer_model(Layer("LSTM", size))).stream()
    stream.inputs["x"][...] = np.random.default_rng(1).standard_normal((1, 1, size))
    return stream.step


def real_steps() -> dict[str, Callable[[], None]]:
    """Models of the optional corpus, on their first frame."""
    found = {}
    for case in (zoo_case(name) for name in zoo_names() if ":" not in name):
        stream = gi.load(case.model).stream(states=case.pairs, constants=case.constants, initial=case.initial)
        stream(**case.frames[0])
        found[case.name] = stream.step
    return found


def times_of(step: Callable[[], None], steps: int) -> tuple[np.ndarray, np.ndarray]:
    """ns [stretches, STRETCH], and whether the core was lost in between [stretches]."""
    clock, times = time.perf_counter_ns, np.zeros((-(-steps // STRETCH), STRETCH), np.int64)
    lost = np.zeros(len(times), np.bool_)
    for _ in range(WARM_UP):
        step()
    for stretch, line in enumerate(times):
        before = switches()
        for i in range(STRETCH):
            start = clock()
            step()
            line[i] = clock() - start
        lost[stretch] = switches() != before
    return times, lost


def switches() -> int:
    used = resource.getrusage(resource.RUSAGE_THREAD)
    return used.ru_nivcsw + used.ru_nvcsw


def row(name: str, times: np.ndarray, lost: np.ndarray) -> str:
    p50, p99, p999 = np.percentile(times, (50, 99, 99.9))
    undisturbed = np.percentile(times[~lost], (50, 99.9)) if not lost.all() else np.full(2, np.nan)
    all_steps = f"| {name} | {p50:.0f} | {p99:.0f} | {p999:.0f} | {times.max()} | {p999 / p50:.2f}"
    return f"{all_steps} | {1 - lost.mean():.1%} | {undisturbed[1] / undisturbed[0]:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--cpu", type=int, default=min(os.sched_getaffinity(0)))
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.cpu})
    gc.disable()
    load = os.getloadavg()[0]
    print(f"{gi.best_isa()}, pinned to CPU {args.cpu} of {os.cpu_count()}, load {load:.1f}, {args.steps} steps, ns\n")
    print("| step | p50 | p99 | p99.9 | max | p99.9/p50 | kept | p99.9/p50 |\n|---|---:|---:|---:|---:|---:|---:|---:|")
    cases = {"idle": lambda: None} | {f"lstm-{size}": lstm_step(size) for size in SIZES} | real_steps()
    for name, step in cases.items():
        print(row(name, *times_of(step, args.steps)), flush=True)


if __name__ == "__main__":
    main()
