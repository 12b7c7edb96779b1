"""What each command does. Every function takes parsed arguments and a screen, and returns the exit code."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from gateinfer.cli.data import (
    Arrays,
    constants_of,
    cut_frames,
    frame_ports,
    guessed_ports,
    join_results,
    random_frames,
    read_arrays,
    sound_frames,
    whole,
)
from gateinfer.cli.render import Screen
from gateinfer.errors import GateInferError, ShapeError, StateMismatch
from gateinfer.graph.ir import Shapes
from gateinfer.samples import sample_shapes

if TYPE_CHECKING:
    from gateinfer.model import Model

DONE, DIFFERS = 0, 1


def info(args: argparse.Namespace, screen: Screen) -> int:
    """`gateinfer info`."""
    from gateinfer.cli.info import show
    from gateinfer.summary import summarize

    model = _load(args, screen)
    with screen.waiting("planning, timing and looking for states" if args.time else "planning and looking for states"):
        summary = summarize(model, dict(args.shapes), constants_of(model, args.settings), time=args.time)
    if args.json:
        screen.json(summary.as_dict())
    else:
        show(summary, screen, everything=args.all)
    return DONE


def run(args: argparse.Namespace, screen: Screen) -> int:
    """`gateinfer run`."""
    model = _load(args, screen)
    constants = constants_of(model, args.settings)
    results = _run_stream(args, model, constants, screen) if args.stream else _run_once(args, model, constants)
    if args.output:
        np.savez(args.output, **results)  # type: ignore[arg-type]
    rows = [_figures(name, array) for name, array in results.items()]
    if args.json:
        keys = ("name", "shape", "dtype", "min", "mean", "max")
        screen.json({"output": str(args.output or ""), "arrays": [dict(zip(keys, row, strict=True)) for row in rows]})
    else:
        screen.table(("output", "shape", "dtype", "min", "mean", "max"), rows)
        if args.output:
            screen.line(f"written to {args.output}")
    return DONE


def _run_once(args: argparse.Namespace, model: Model, constants: Arrays) -> Arrays:
    # Everything that is not set comes from the file, states included, as onnxruntime's run has it.
    ports = [p for p in model.inputs if p.name not in constants and p.name not in model.graph.defaults]
    arrays = read_arrays(args.data, ports)
    if args.data.suffix.lower() == ".wav":
        arrays = {name: whole(array, model.port(name)) for name, array in arrays.items()}
    outputs = model.run(None, arrays | constants)
    return {port.name: value for port, value in zip(model.outputs, outputs, strict=True)}


def _run_stream(args: argparse.Namespace, model: Model, constants: Arrays, screen: Screen) -> Arrays:
    frames = _frames_from_file(args, model, constants)
    stream = model.stream(constants=constants)
    results = []
    with screen.progress("streaming") as progress:
        for index, frame in enumerate(frames):
            result = stream(**frame)
            results.append(result if isinstance(result, dict) else {stream.result_names[0]: result})
            progress(index + 1, len(frames))
    is_cut = args.chunk and args.data.suffix.lower() != ".wav"
    return join_results(results, args.axis if is_cut else None)


def validate(args: argparse.Namespace, screen: Screen) -> int:
    """`gateinfer validate`."""
    from gateinfer.validate import validate as compare

    model = _load(args, screen)
    constants = constants_of(model, args.settings)
    if args.data:
        frames = _frames_from_file(args, model, constants)
    else:
        lifts, given = args.lift and _lifts(model), dict(args.shapes)
        shapes = given if lifts else sample_shapes(model, given, constants)
        frames = random_frames(model, frame_ports(model, constants), shapes, args.steps)
    options: dict[str, Any] = {"lift": args.lift} | ({"oracles": tuple(args.against)} if args.against else {})
    with screen.progress("validating") as progress, _explained(args, model, constants):
        report = compare(model, frames, constants=constants, progress=progress, **options)
    if args.json:
        screen.json(report.as_dict())
        return DONE if report.ok else DIFFERS
    rows = [
        (r.output, r.oracle, f"{r.max_abs:.2e}", f"{r.max_ulp:.1f}", _step(r.first), str(r.worst)) for r in report.rows
    ]
    screen.table(("output", "against", "max abs", "max ulp", "first beyond", "worst step"), rows)
    for name, reason in report.skipped.items():
        screen.line(f"{name} was not asked: {reason}")
    verdict = "agrees" if report.ok else "DIFFERS" if report.rows else "nothing was compared"
    screen.line(report.how)
    screen.line(f"{len(frames)} steps: {verdict} (tolerance {report.atol:g} + {report.rtol:g} |oracle|)")
    return DONE if report.ok else DIFFERS


def bench(args: argparse.Namespace, screen: Screen) -> int:
    """`gateinfer bench`."""
    from gateinfer.bench import ENGINE, compare_engines, what_is_timed

    model = _load(args, screen)
    constants = constants_of(model, args.settings)
    _refuse_empty(dict(args.shapes))
    shapes = sample_shapes(model, dict(args.shapes), constants)
    frames = random_frames(model, frame_ports(model, constants), shapes, count=16)
    with screen.progress("timing") as progress, _explained(args, model, constants):
        result, skipped = compare_engines(
            model, frames, constants, rounds=args.rounds, burst=args.burst, progress=progress
        )
    if args.json:
        screen.json(
            result.as_dict()
            | {"what": what_is_timed(model, frames), "isa": model.isa, "precision": model.precision}
            | {"threads": model.threads, "skipped": skipped}
        )
        return DONE
    rows = [(t.name, f"{t.p50:.2f}", f"{t.p99:.2f}", f"{result.ratio(t.name, ENGINE):.2f}") for t in result.timings]
    screen.table(("engine", "p50 us", "p99 us", "times gateinfer's"), rows)
    screen.line(what_is_timed(model, frames))
    threads = "one thread" if model.threads == 1 else f"{model.threads} threads (onnxruntime: one)"
    weights = "" if model.precision == "f32" else f", {model.precision} weights (onnxruntime: as in the file)"
    screen.line(f"{args.rounds} rounds of {args.burst} calls each, {threads}, {model.isa} kernels{weights}")
    for name, reason in skipped.items():
        screen.line(f"{name} was not timed: {reason}")
    return DONE


def demo(args: argparse.Namespace, screen: Screen) -> int:
    """`gateinfer demo`."""
    from gateinfer.demo import fetch_model, run_demo, show

    if not args.wav.is_file():
        raise GateInferError(f"{args.wav}: no such file; run this in a checkout of the project, or pass --wav")
    outcome = run_demo(args.model or fetch_model(args.cache), args.wav, args.laps, screen)
    if args.json:
        screen.json(outcome.as_dict())
    else:
        show(outcome, screen)
    return DONE if outcome.ok else DIFFERS


COMMANDS = {"info": info, "run": run, "validate": validate, "bench": bench, "demo": demo}


def _load(args: argparse.Namespace, screen: Screen) -> Model:
    from gateinfer.model import load

    with screen.waiting(f"loading {args.model}"):
        return load(args.model, isa=args.isa, precision=args.precision, threads=args.threads)


def _frames_from_file(args: argparse.Namespace, model: Model, constants: Arrays) -> list[Arrays]:
    ports = frame_ports(model, constants)
    arrays = read_arrays(args.data, ports)
    if args.data.suffix.lower() == ".wav":
        arrays = {p.name: sound_frames(arrays[p.name], p, args.chunk, args.context) for p in ports}
    return cut_frames(arrays, model, args.chunk, args.axis)


def _refuse_empty(shapes: Shapes) -> None:
    for name, shape in shapes.items():
        if 0 in shape:
            raise ShapeError(f"--shape {name}={','.join(map(str, shape))} has no elements: there is nothing to time")


def _lifts(model: Model) -> bool:
    try:
        return any(state.lifted for state in model.states)
    except StateMismatch:
        return False


def _step(step: int | None) -> str:
    return "-" if step is None else str(step)


@contextmanager
def _explained(args: argparse.Namespace, model: Model, constants: Arrays) -> Iterator[None]:
    """Adds to a shape error which extents were made up, if any were."""
    try:
        yield
    except ShapeError as error:
        ports = [] if getattr(args, "data", None) else frame_ports(model, constants)
        deciding = [port.name for port in ports if model.is_deciding(port.name)]
        guessed = guessed_ports([port for port in ports if port.name not in deciding], dict(args.shapes))
        remedies = [f"{name} decides over shapes: pass --set {name}=NUMBER" for name in deciding]
        if guessed:
            remedies.append(f"open extents of {', '.join(guessed)} were made up: pass --shape NAME=N,N")
        if not remedies:
            raise
        raise ShapeError("; ".join([str(error), *remedies])) from error


def _figures(name: str, array: np.ndarray) -> tuple[str, str, str, str, str, str]:
    figures = [f"{fn(array):.5g}" for fn in (np.min, np.mean, np.max)] if array.size else ["-"] * 3
    return name, str(array.shape), str(array.dtype), *figures  # type: ignore[return-value]
