"""What is measured, named once: layers of several sizes as weights and as ONNX, and real models where the corpus is."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

GATES = {"LSTM": 4, "GRU": 3}
SIZES = (16, 32, 64, 128, 200, 256, 512, 1024)
FORMS = {"step": (1, 1), "sequence": (100, 1), "rows16": (1, 16), "rows64": (1, 64)}
"""Group to (steps in a call, rows). 100 steps: the input product is one matrix product. Rows share each weight read."""

LATENCY = ("lstm-64-step", "lstm-256-step", "gru-128-sequence", "silero-vad", "gtcrn")
"""Cases whose whole distribution is kept, not only p50 and p99."""

COLD = ("lstm-128-step", "lstm-1024-step", "silero-vad", "gtcrn")
"""Cases whose start in a fresh process, and memory, is measured."""

Frame = dict[str, np.ndarray]


@dataclass(frozen=True)
class Layer:
    """One forward layer, input_size I = hidden_size H = size: x [T, N, I], h (and c) [1, N, H] -> y [T, 1, N, H]."""

    op: str
    size: int
    seq_len: int = 1
    rows: int = 1
    biases: bool = True

    def weights(self) -> Frame:
        """W [1, G H, I], R [1, G H, H], B [1, 2 G H] in ONNX's gate order, drawn as PyTorch initialises."""
        rng = np.random.default_rng(self.size)
        rows, bound = GATES[self.op] * self.size, 1 / np.sqrt(self.size)
        shapes = {"W": (1, rows, self.size), "R": (1, rows, self.size)} | ({"B": (1, 2 * rows)} if self.biases else {})
        return {name: rng.uniform(-bound, bound, shape).astype(np.float32) for name, shape in shapes.items()}

    @property
    def states(self) -> list[str]:
        return ["h", "c"] if self.op == "LSTM" else ["h"]


@dataclass(frozen=True)
class Case:
    """A model with frames to feed it.

    pairs: state inputs to the outputs that are handed back to them; initial: what those states start with;
    constants: inputs that keep one value; prepared: the model in other formats, made before anything is timed.
    """

    name: str
    group: str
    model: bytes
    frames: list[Frame]
    pairs: dict[str, str] = field(default_factory=dict)
    initial: Frame = field(default_factory=dict)
    constants: Frame = field(default_factory=dict)
    layer: Layer | None = None
    prepared: dict[str, bytes] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    def feeds(self, index: int) -> Frame:
        """All inputs of call `index` but its states."""
        return self.frames[index % len(self.frames)] | self.constants


# ---- layers ----


@cache
def layer_model(layer: Layer) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    def port(name: str, *shape: int):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    states, (T, N, H) = layer.states, (layer.seq_len, layer.rows, layer.size)
    attrs = {"hidden_size": H} | ({"linear_before_reset": 1} if layer.op == "GRU" else {})
    outputs = ["y", *(f"{s}n" for s in states)]
    node = helper.make_node(layer.op, ["x", "W", "R", "B" if layer.biases else "", "", *states], outputs, **attrs)
    graph = helper.make_graph(
        [node], f"{layer.op}-{H}",
        [port("x", T, N, H), *(port(s, 1, N, H) for s in states)],
        [port("y", T, 1, N, H), *(port(f"{s}n", 1, N, H) for s in states)],
        [numpy_helper.from_array(value, name) for name, value in layer.weights().items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    return model.SerializeToString()


def layer_case(layer: Layer, group: str) -> Case:
    rng = np.random.default_rng(1)
    shape = (layer.seq_len, layer.rows, layer.size)
    frames = [{"x": rng.standard_normal(shape).astype(np.float32)} for _ in range(8)]
    initial = {name: np.zeros((1, layer.rows, layer.size), np.float32) for name in layer.states}
    pairs = {name: f"{name}n" for name in layer.states}
    return Case(layer_name(layer, group), group, layer_model(layer), frames, pairs, initial, layer=layer)


def layer_name(layer: Layer, group: str) -> str:
    return f"{layer.op.lower()}-{layer.size}-{group}"


LAYERS = {
    layer_name(layer, group): (layer, group)
    for group, (seq_len, rows) in FORMS.items()
    for op in GATES
    for layer in (Layer(op, size, seq_len, rows) for size in SIZES)
}

# ---- real models ----


def zoo() -> Path:
    """Where the models are, if they are: in the folder GATEINFER_SHARED, or `shared` next to the repository."""
    given = os.environ.get("GATEINFER_SHARED")
    return (Path(given) if given else Path(__file__).resolve().parents[2] / "shared") / "zoo"


def zoo_names() -> list[str]:
    """Streams under the name of their folder; models called whole as `name:call`, the first call and the largest."""
    names = []
    for path in sorted(zoo().glob("*/case.json")):
        info = json.loads(path.read_text())
        calls = [""] if info["kind"] == "stream" else [f":{k}" for k in _telling_calls(path.parent, info)]
        names += [path.parent.name + call for call in calls]
    return names


def _telling_calls(folder: Path, info: dict) -> list[int]:
    with np.load(folder / "ref.npz") as file:
        sizes = [sum(file[f"in/{name}/{k}"].size for name in info["inputs"]) for k in range(info["calls"])]
    return sorted({0, int(np.argmax(sizes))})


def zoo_case(name: str) -> Case:
    """A model of the corpus with its own recorded frames."""
    folder, _, call = name.partition(":")
    info = json.loads((zoo() / folder / "case.json").read_text())
    model = (zoo() / folder / "model.onnx").read_bytes()
    with np.load(zoo() / folder / "ref.npz") as file:
        if call:
            return Case(name, "model", model, [{n: file[f"in/{n}/{call}"] for n in info["inputs"]}])
        arrays = {n: file[f"in/{n}"][:100] for n in info["inputs"]}
        initial = {n: file[f"init/{n}"] for n in info["states"]}
    frames = [{n: np.ascontiguousarray(a[i]) for n, a in arrays.items()} for i in range(min(map(len, arrays.values())))]
    constants = {n: np.asarray(value) for n, value in info.get("constants", {}).items()}
    return Case(name, "model", model, frames, dict(info["states"]), initial, constants)


def names() -> list[str]:
    return [*LAYERS, *zoo_names()]


def load(name: str) -> Case:
    """The case of that name; made on demand, since large layers take memory."""
    return layer_case(*LAYERS[name]) if name in LAYERS else zoo_case(name)
