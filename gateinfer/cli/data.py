"""From files and options of the command line to frames a model takes, and back to a file."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gateinfer.audio import frames_of, read_wav
from gateinfer.errors import GateInferError, ShapeError, StateMismatch
from gateinfer.feeds import as_feed
from gateinfer.graph.ir import Port, Shapes
from gateinfer.samples import closed, random_arrays

if TYPE_CHECKING:
    from gateinfer.model import Model

Arrays = dict[str, np.ndarray]


def parse_setting(text: str) -> tuple[str, Any]:
    """`sr=16000` or `gain=0.5` or `h=[0, 0, 1]` as a name and a value."""
    name, sign, value = text.partition("=")
    try:
        return name.strip(), np.asarray(ast.literal_eval(value)) if sign else _refuse(text)
    except (ValueError, SyntaxError):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=NUMBER, such as sr=16000") from None


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """`x=1,576` as a name and a shape."""
    name, _, value = text.partition("=")
    try:
        return name.strip(), tuple(int(d) for d in value.replace("x", ",").split(",") if d.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=EXTENT,EXTENT, such as x=1,576") from None


def _refuse(text: str) -> Any:
    raise ValueError(text)


def frame_ports(model: Model, fixed: Mapping[str, Any]) -> list[Port]:
    """Inputs that need data: no state, not set, no default in the file."""
    try:
        kept = {state.input for state in model.states}
    except StateMismatch:
        kept = set()
    return [p for p in model.inputs if p.name not in kept | fixed.keys() | model.graph.defaults.keys()]


def constants_of(model: Model, settings: Sequence[tuple[str, Any]]) -> Arrays:
    """Values of --set as arrays of the inputs' types."""
    return {name: as_feed(model.port(name), value, "--set") for name, value in settings}


def read_arrays(path: Path, ports: Sequence[Port]) -> Arrays:
    """Arrays of an .npz by input name, or the one array of an .npy or .wav for the one input that needs data."""
    suffix = path.suffix.lower()
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    if suffix not in (".npy", ".wav"):
        raise GateInferError(f"{path}: expected .npz, .npy or .wav")
    if len(ports) != 1:
        names = ", ".join(port.name for port in ports) or "none"
        raise GateInferError(f"{path} holds one array, but the inputs without a value are: {names}; use .npz and --set")
    array = np.load(path, allow_pickle=False) if suffix == ".npy" else read_wav(path)[0]
    return {ports[0].name: array}


def whole(array: np.ndarray, port: Port) -> np.ndarray:
    """A sound [n] as the port wants it: [.., n] with leading axes of 1."""
    rank = array.ndim if port.shape is None else len(port.shape)
    return array.reshape((1,) * (rank - 1) + array.shape) if array.ndim == 1 and rank > 1 else array


def sound_frames(samples: np.ndarray, port: Port, chunk: int | None, context: int) -> np.ndarray:
    """A sound [n] cut into frames [frames, .., context + chunk] of the port's rank."""
    last = port.shape[-1] if port.shape else None
    if chunk is None and isinstance(last, int):
        chunk = last - context
    if chunk is None:
        raise ShapeError(f"the length of input {port.name!r} is open: pass --chunk N (new samples per frame)")
    cut = frames_of(samples, chunk, context)
    rank = len(port.shape or (1, 1))
    return cut.reshape(cut.shape[:1] + (1,) * (rank - 1) + cut.shape[1:])


def cut_frames(arrays: Mapping[str, np.ndarray], model: Model, chunk: int | None, axis: int) -> list[Arrays]:
    """One dict per step from arrays by input name.

    An array with one axis more than its input holds frames along that first axis. One of the input's own rank is cut
    along `axis` into chunks, or without `chunk` serves every step as it is.
    """
    lists: dict[str, list[np.ndarray]] = {}
    for name, array in arrays.items():
        rank = len(model.port(name).shape or array.shape)
        if array.ndim == rank + 1:
            lists[name] = list(array)
        elif array.ndim == rank and rank and chunk:
            lists[name] = np.split(array, range(chunk, array.shape[axis], chunk), axis)
        else:
            lists[name] = [array]
    count = max((len(steps) for steps in lists.values()), default=0)
    for name, steps in lists.items():
        if len(steps) not in (1, count):
            raise ShapeError(f"input {name!r} has {len(steps)} frames, another has {count}")
    return [{name: steps[i if len(steps) > 1 else 0] for name, steps in lists.items()} for i in range(count)]


def random_frames(model: Model, ports: Sequence[Port], shapes: Shapes, count: int) -> list[Arrays]:
    """Normal float frames (integers: 0 or 1) with a fixed seed; open extents that `shapes` does not give count as 1."""
    for name in shapes:
        model.port(name)
    return random_arrays(closed(ports, 1) | dict(shapes), ports, count)


def guessed_ports(ports: Sequence[Port], shapes: Shapes) -> list[str]:
    """Names of the ports that `random_frames` gave an extent nobody named."""
    return [p.name for p in ports if p.name not in shapes and not all(isinstance(d, int) for d in p.shape or (None,))]


def join_results(results: Sequence[Arrays], axis: int | None) -> Arrays:
    """Outputs of all steps by name: joined along `axis` when the input was cut along it, else stacked on a new axis."""
    joined: Arrays = {}
    for name in results[0] if results else ():
        parts = [result[name] for result in results]
        join_along = axis is not None and parts[0].ndim > max(axis, -axis - 1)
        joined[name] = np.concatenate(parts, axis or 0) if join_along else np.stack(parts)
    return joined
