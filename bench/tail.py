"""How even steps are: times of a million single steps of bound streams, on one core.

.venv/bin/python -m bench.tail [--steps 1000000] [--cpu 0]

Every step is timed on its own. What another process, the kernel or the host takes from this core counts as well. So
every model takes turns with a loop that takes about as long, but computes nothing and touches no memory: the last
column says how even that is on this machine.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from itertools import repeat

import numpy as np

import gateinfer as gi
from bench.cases import Layer, layer_model, zoo_case, zoo_names
from gateinfer.bench import Comparison, interleave

SIZES = (16, 64, 128, 256)
TURN = 100
"""Steps, or loops, that come one after the other."""

TRIAL_ROUNDS = 10
TRIAL_PASSES = 1000


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


def beside_a_loop(step: Callable[[], None], steps: int) -> Comparison:
    """`step` in turns with a loop of about the same length, `loop`."""

    def turns(rounds: int, passes: int) -> Comparison:
        return interleave({"step": lambda _: step(), "loop": lambda _: nothing(passes)}, rounds, TURN)

    trial = turns(TRIAL_ROUNDS, TRIAL_PASSES)
    return turns(-(-steps // TURN), round(TRIAL_PASSES * trial["step"].p50 / trial["loop"].p50))


def row(name: str, found: Comparison) -> str:
    step, loop = (timing.samples * 1000 for timing in found.timings)
    p50, p99, p999 = np.percentile(step, (50, 99, 99.9))
    loop_p50, loop_p999 = np.percentile(loop, (50, 99.9))
    return (
        f"| {name} | {p50:.0f} | {p99:.0f} | {p999:.0f} | {step.max():.0f} | {p999 / p50:.2f} "
        f"| {loop_p50:.0f} | {loop_p999:.0f} | {loop_p999 / loop_p50:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--cpu", type=int, default=min(os.sched_getaffinity(0)))
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.cpu})
    load = os.getloadavg()[0]
    print(f"{gi.best_isa()}, pinned to CPU {args.cpu} of {os.cpu_count()}, load {load:.1f}, {args.steps} steps, ns\n")
    print("| step | p50 | p99 | p99.9 | max | p99.9/p50 | loop p50 | loop p99.9 | loop p99.9/p50 |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    cases = {f"lstm-{size}": lstm_step(size) for size in SIZES} | real_steps()
    for name, step in cases.items():
        print(row(name, beside_a_loop(step, args.steps)), flush=True)


if __name__ == "__main__":
    main()
