"""How even steps are: times of a million single steps of bound streams, on one core.

.venv/bin/python -m bench.tail [--steps 1000000] [--cpu 0]

Every step is timed on its own with `perf_counter_ns`, whose own time is not taken off. What another process, the kernel
or the host takes from this core counts as well. So every model takes turns with a loop that takes about as long, but
computes nothing and touches no memory: the last column says how even that is on this machine.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Callable
from itertools import repeat

import numpy as np

import gateinfer as gi
from bench.cases import Layer, layer_model, zoo_case, zoo_names

SIZES = (16, 64, 128, 256)
WARM_UP = 1000
STRETCH = 100
PASSES = 100


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


def nothing(passes: int) -> None:
    for _ in repeat(None, passes):
        pass


def stretch(step: Callable[[], None], times: np.ndarray) -> None:
    """Fills `times` [STRETCH] with ns of single steps."""
    clock = time.perf_counter_ns
    for i in range(STRETCH):
        start = clock()
        step()
        times[i] = clock() - start


def loop_as_long_as(step: Callable[[], None]) -> Callable[[], None]:
    times = np.zeros((3, STRETCH), np.int64)
    for _ in range(WARM_UP // STRETCH):
        for line, one in zip(times, (step, lambda: nothing(0), lambda: nothing(PASSES)), strict=True):
            stretch(one, line)
    wanted, call, loop = np.median(times, axis=1)
    passes = max(0, int(PASSES * (wanted - call) / (loop - call)))
    return lambda: nothing(passes)


def times_of(step: Callable[[], None], steps: int) -> np.ndarray:
    """ns [2, steps], of steps and of loops as long, in turns of STRETCH."""
    both = step, loop_as_long_as(step)
    times = np.zeros((2, -(-steps // STRETCH), STRETCH), np.int64)
    for turn in range(times.shape[1]):
        for which, one in enumerate(both):
            stretch(one, times[which, turn])
    return times.reshape(2, -1)


def row(name: str, times: np.ndarray) -> str:
    p50, p99, p999 = np.percentile(times[0], (50, 99, 99.9))
    loop = np.percentile(times[1], (50, 99.9))
    return (
        f"| {name} | {p50:.0f} | {p99:.0f} | {p999:.0f} | {times[0].max()} | {p999 / p50:.2f} "
        f"| {loop[0]:.0f} | {loop[1]:.0f} | {loop[1] / loop[0]:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--cpu", type=int, default=min(os.sched_getaffinity(0)))
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.cpu})
    gc.disable()
    load = os.getloadavg()[0]
    print(f"{gi.best_isa()}, pinned to CPU {args.cpu} of {os.cpu_count()}, load {load:.1f}, {args.steps} steps, ns\n")
    print("| step | p50 | p99 | p99.9 | max | p99.9/p50 | loop p50 | loop p99.9 | loop p99.9/p50 |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    cases = {f"lstm-{size}": lstm_step(size) for size in SIZES} | real_steps()
    for name, step in cases.items():
        print(row(name, times_of(step, args.steps)), flush=True)


if __name__ == "__main__":
    main()
