"""What is measured, named once: layers of several sizes as ONNX models, and real models where the corpora are."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

GATES = {"LSTM": 4, "GRU": 3}
SIZES = (16, 32, 64, 128, 256, 512)
SEQ_LEN = 100
ROWS = (1, 4, 16)

Frame = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """A model, frames to feed it, and inputs that keep one value."""

    name: str
    model: Callable[[], bytes]
    frames: Callable[[], list[Frame]]
    constants: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        return self.name


@cache
def layer(op: str, size: int, seq_len: int, batch: int, biases: bool = True) -> bytes:
    """One forward layer, input_size = hidden_size: x [T, N, I], states h (and c) [1, N, H] -> y [T, 1, N, H]."""
    rng = np.random.default_rng(size)
    rows = GATES[op] * size
    bound = 1 / np.sqrt(size)  # PyTorch's initialisation
    shapes = {"W": (1, rows, size), "R": (1, rows, size)} | ({"B": (1, 2 * rows)} if biases else {})
    weights = [numpy_helper.from_array(rng.uniform(-bound, bound, s).astype(np.float32), n) for n, s in shapes.items()]
    states = ["h", "c"] if op == "LSTM" else ["h"]
    attrs = {"hidden_size": size} | ({"linear_before_reset": 1} if op == "GRU" else {})
    node = helper.make_node(
        op, ["x", "W", "R", "B" if biases else "", "", *states], ["y", *(f"{s}n" for s in states)], **attrs
    )

    def port(name: str, *shape: int):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    state_shape = (1, batch, size)
    graph = helper.make_graph(
        [node], f"{op}-{size}",
        [port("x", seq_len, batch, size), *(port(s, *state_shape) for s in states)],
        [port("y", seq_len, 1, batch, size), *(port(f"{s}n", *state_shape) for s in states)],
        weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    return model.SerializeToString()


def layer_case(op: str, size: int, seq_len: int = 1, batch: int = 1) -> Case:
    def frames() -> list[Frame]:
        rng = np.random.default_rng(1)
        return [{"x": rng.standard_normal((seq_len, batch, size)).astype(np.float32)} for _ in range(8)]

    return Case(f"{op.lower()}-{size}-t{seq_len}-n{batch}", lambda: layer(op, size, seq_len, batch), frames)


STEPS = [layer_case(op, size) for op in GATES for size in SIZES]
"""One frame, one row: where a call costs more than its arithmetic, and where weights come from L2 and L3."""

SEQUENCES = [layer_case(op, size, seq_len=SEQ_LEN) for op in GATES for size in (32, 128, 512)]
"""A hundred steps in one call: the input product is one matrix product."""

BATCHES = [layer_case(op, 128, batch=rows) for op in GATES for rows in ROWS]
"""Several rows in one step: weights are read once for all of them."""

REAL = ("silero-vad", "rnnoise", "plc-nsnet2", "pose-gru")
"""Streaming models of the optional corpus."""


def real_cases() -> list[Case]:
    """Cases of the real models that are there: in the folder GATEINFER_SHARED, or `shared` next to the repository."""
    given = os.environ.get("GATEINFER_SHARED")
    zoo = (Path(given) if given else Path(__file__).resolve().parents[2] / "shared") / "zoo"
    found = [real_case(zoo / name) for name in REAL if (zoo / name / "case.json").is_file()]
    return [case for case in found if case is not None]


def real_case(folder: Path) -> Case | None:
    """A model of the corpus with its own recorded frames; None for a model that is not fed frame by frame."""
    info = json.loads((folder / "case.json").read_text())
    if info["kind"] != "stream":
        return None

    def frames() -> list[Frame]:
        with np.load(folder / "ref.npz") as file:
            arrays = {name: file[f"in/{name}"] for name in info["inputs"]}
        return [{name: array[i] for name, array in arrays.items()} for i in range(min(100, info["frames"]))]

    return Case(folder.name, (folder / "model.onnx").read_bytes, frames, tuple(info.get("constants", {}).items()))
