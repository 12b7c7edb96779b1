"""How long does a call take, and how many times as long in other engines? All engines take turns in one run.

taskset -c 1 python -m bench.speed [--only lstm-64] [--threads 2] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path
from time import perf_counter

import numpy as np

from bench import cases, machine
from bench.cases import Case
from bench.peers import HOT, OURS, Peer, Skip, first_line, make, taking_part
from gateinfer.bench import WARMUP_ROUNDS, Comparison, interleave

BURST = 9
"""Calls in one turn. The first finds the caches full of other engines' data: reported apart; the rest counts."""

LEAD = 30e-3
"""Seconds of calls before each turn with several threads: OpenBLAS's wait awake for 26 ms after a call."""

LEAD_ROUNDS = 40
"""With them, turns are few."""

AGREEMENT = 1e-3
"""Largest difference from gateinfer's answer, relative to its largest element, or another function is timed."""

QUANTILES = np.concatenate([np.linspace(0, 98, 50), np.linspace(98.5, 99.9, 15), [100]])


def engines(case: Case, threads: int, only: tuple[str, ...] | None = None) -> tuple[dict[str, Peer], dict[str, str]]:
    """Engines whose answers agree, and why the others take no part."""
    taking, skipped = {}, {}
    expected = None
    for name in only or taking_part(threads):
        try:
            peer, note = with_threads(name, case, threads)
            answer = first_answer(peer)
            expected = answer if expected is None else expected
            check(answer, expected)
            taking[name] = peer
            skipped |= note
        except Skip as reason:
            skipped[name] = str(reason)
    return taking, skipped


def with_threads(name: str, case: Case, threads: int) -> tuple[Peer, dict[str, str]]:
    """The engine, and a note if it is ours and has to do with one thread: the others still want a base."""
    try:
        return make(name, case, threads), {}
    except Skip as reason:
        if name != OURS or threads == 1:
            raise
        return make(name, case, 1), {name: f"one thread instead of {threads}: {reason}"}


def first_answer(peer: Peer) -> np.ndarray:
    try:
        for index in range(3):
            peer(index)
        return peer.answer()
    except Exception as error:  # each engine has its own family of exceptions
        raise Skip(f"fails at run time: {first_line(error)}") from None


def check(answer: np.ndarray, expected: np.ndarray) -> None:
    if answer.size != expected.size:
        raise Skip(f"another answer: shape {answer.shape} instead of {expected.shape}")
    worst = np.abs(answer.ravel() - expected.ravel()).max() / max(np.abs(expected).max(), 1e-30)
    if not worst <= AGREEMENT:
        raise Skip(f"another answer: differs by {worst:.1e} of its largest element")


def rounds_for(peers: dict[str, Peer], seconds: float) -> tuple[int, int]:
    """Rounds and calls per turn that fill about `seconds`; slow cases get shorter turns, to have some rounds."""
    once = sum(mean_call(peer) for peer in peers.values())
    burst = BURST if once * BURST < seconds / 20 else 3
    return int(np.clip(seconds / (once * burst), 6, 1500)), burst


def mean_call(peer: Peer) -> float:
    """Seconds; the mean, because threads that wait for each other are now fast, now a time slice late."""
    start, count = perf_counter(), 6
    for index in range(count):
        peer(index)
    return (perf_counter() - start) / count


def measure(case: Case, threads: int, seconds: float, only: tuple[str, ...] | None = None) -> dict:
    """One case as plain values; the ratio of an engine is how many times as long as gateinfer it takes."""
    peers, skipped = engines(case, threads, only)
    row = {"case": case.name, "group": case.group, "threads": threads, "skipped": skipped, "engines": []}
    if case.layer:
        row |= {"op": case.layer.op, "size": case.layer.size}
    if OURS not in peers:
        return row
    rounds, burst = rounds_for(peers, seconds * (2 if case.name in cases.LATENCY else 1))
    rounds = min(rounds, LEAD_ROUNDS) if threads > 1 else rounds
    calls = {name: peer.__call__ for name, peer in peers.items()}  # costs less than calling the object
    result = interleave(calls, rounds, burst, lead=LEAD if threads > 1 else 0.0)
    return row | {"rounds": rounds, "burst": burst, "engines": [figures(result, name, case) for name in peers]}


def figures(result: Comparison, name: str, case: Case) -> dict:
    """p50, p99 of warm calls; the median of first calls in a turn; the median over turns of the ratio in a turn."""
    ours, theirs = (result[n].samples[:, 1:] for n in (OURS, name))
    low, ratio, high = np.percentile(np.median(theirs, axis=1) / np.median(ours, axis=1), [25, 50, 75])
    p50, p99 = np.percentile(theirs, [50, 99])
    found = {"engine": name, "p50_us": p50, "p99_us": p99, "first_us": np.median(result[name].samples[:, 0])}
    found |= {"ratio": ratio, "ratio_iqr": [low, high], "calls": theirs.size}
    if case.name in cases.LATENCY:
        found["quantiles_us"] = np.percentile(theirs, QUANTILES)
    return {key: np.asarray(value).tolist() for key, value in found.items()}


def best_peer(row: dict) -> dict | None:
    """The engine of others with the smallest ratio."""
    peers = (e for e in row["engines"] if e["engine"] not in (OURS, HOT))
    return min(peers, key=lambda e: e["ratio"], default=None)


def line(row: dict) -> str:
    """What is shown while it runs."""
    if not row["engines"]:
        return f"{row['case']:24} gateinfer takes no part: {row['skipped'][OURS]}"
    best, ours = best_peer(row), row["engines"][0]
    rest = f"   best peer {best['engine']}: {best['ratio']:.2f} times as long" if best else ""
    return f"{row['case']:24}{ours['p50_us']:10.2f} us{rest}"


def run(names: list[str], threads: int, seconds: float, only: tuple[str, ...] | None = None) -> dict:
    """All cases one after the other, with what was so while they ran."""
    before, rows = machine.load_average(), []
    for number, name in enumerate(names, 1):
        rows.append(measure(cases.load(name), threads, seconds, only))
        print(f"[{number}/{len(names)}] {line(rows[-1])}", file=sys.stderr, flush=True)
    settings = {
        "threads": threads,
        "cpus": sorted(os.sched_getaffinity(0)),
        "seconds_per_case": seconds,
        "warmup_rounds": WARMUP_ROUNDS,
        "load_average": [before, machine.load_average()],
    }
    return {"settings": settings, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="PATTERN", help="cases whose name this regular expression finds")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0, help="per case")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    names = [name for name in cases.names() if re.search(args.only, name)]
    result = run(names, args.threads, args.seconds)
    if args.json:
        args.json.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
