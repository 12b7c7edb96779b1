"""Random single-node ONNX models over the whole attribute matrix of LSTM, GRU and RNN, with feeds, by seed.

The cells are kept non-expansive (norm of R and gate values near or below one), so that rounding errors add up over
the steps instead of being amplified: that is what `tolerance.recurrent` assumes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gateinfer import reference
from gateinfer.graph.ir import Node
from gateinfer.graph.recurrent_attrs import parse_recurrent

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
ACTIVATIONS_PER_CELL = {"LSTM": 3, "GRU": 2, "RNN": 1}
INPUTS = {
    "LSTM": ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"),
    "GRU": ("X", "W", "R", "B", "sequence_lens", "initial_h"),
    "RNN": ("X", "W", "R", "B", "sequence_lens", "initial_h"),
}
OUTPUTS = {"LSTM": ("Y", "Y_h", "Y_c"), "GRU": ("Y", "Y_h"), "RNN": ("Y", "Y_h")}

# name -> (takes alpha, takes beta)
ACTIVATIONS = {
    "Sigmoid": (False, False),
    "Tanh": (False, False),
    "Relu": (False, False),
    "Affine": (True, True),
    "LeakyRelu": (True, False),
    "ThresholdedRelu": (True, False),
    "ScaledTanh": (True, True),
    "HardSigmoid": (True, True),
    "Elu": (True, False),
    "Softsign": (False, False),
    "Softplus": (False, False),
}
ODD_SIZES = (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 23, 31, 32, 33, 47, 48, 49, 63, 64, 65, 70)
BIG_SIZES = (96, 127, 129, 193)


@dataclass(frozen=True, slots=True)
class Case:
    """One model with feeds. `arrays` holds every input of the node by its ONNX name, wherever the model keeps it."""

    seed: int
    kind: str
    opset: int
    attrs: dict[str, Any]
    sizes: dict[str, int]
    """T, N, I, H, D."""
    arrays: dict[str, np.ndarray]
    feeds: dict[str, np.ndarray]
    outputs: tuple[str, ...]
    model: onnx.ModelProto = field(repr=False)

    def __str__(self) -> str:
        ports = f"{','.join(self.feeds)} -> {','.join(self.outputs)}"
        return f"{self.seed}: {self.kind} opset {self.opset} {self.sizes} {self.attrs} {ports}"


def make_case(seed: int, *, portable: bool = False) -> Case:
    """The case of this seed.

    Parameters
    ----------
    portable : only what onnxruntime takes without abort or deviation: opset >= 7, layout 0, canonical activation
        names, every alpha and beta spelled out, T and N at least 1, constant weights.
    """
    rng = np.random.default_rng([seed, portable])
    kind = str(rng.choice(list(GATES)))
    opset = int(rng.choice((7, 14, 22) if portable else (1, 7, 14, 22)))
    direction = str(rng.choice(("forward", "reverse", "bidirectional")))
    sizes = _sizes(rng, portable) | {"D": 2 if direction == "bidirectional" else 1}
    attrs = _attributes(rng, kind, opset, direction, sizes, portable)
    if "activations" in attrs and "clip" not in attrs:
        # An unbounded gate grows without limit: over a few steps it stays of the order of one.
        sizes["T"] = min(sizes["T"], 4)
    arrays = _arrays(rng, kind, attrs, sizes)
    outputs = _some(rng, OUTPUTS[kind])
    constant = {name for name in arrays if name != "X" and (portable or rng.random() < 0.7)}
    constant -= {"sequence_lens", "initial_h", "initial_c"} if portable or rng.random() < 0.8 else set()
    feeds = {name: array for name, array in arrays.items() if name not in constant}
    model = _model(kind, opset, attrs, arrays, constant, outputs, symbolic=bool(rng.random() < 0.5))
    return Case(seed, kind, opset, attrs, sizes, arrays, feeds, outputs, model)


def expected(case: Case) -> dict[str, np.ndarray]:
    """All outputs of the node in float64, wanted by the model or not."""
    cell = {"LSTM": reference.lstm, "GRU": reference.gru, "RNN": reference.rnn}[case.kind]
    results = cell(**case.arrays, spec=parse_recurrent(Node(case.kind, (), (), case.attrs)))
    return dict(zip(OUTPUTS[case.kind], results, strict=True))


def magnitude(case: Case, results: dict[str, np.ndarray]) -> float:
    """The largest input, state or output: what `tolerance.recurrent` wants to know."""
    arrays = [case.arrays[n] for n in ("X", "initial_h", "initial_c") if n in case.arrays] + list(results.values())
    return float(max(np.abs(a).max(initial=0.0) for a in arrays))


def make_stream_case(seed: int) -> Case:
    """A forward layer whose states are inputs and outputs of the graph, long enough to be cut in chunks; X is fed."""
    rng = np.random.default_rng([seed, 2])
    kind = str(rng.choice(list(GATES)))
    opset = int(rng.choice((7, 14, 22)))
    sizes = _sizes(rng, portable=True) | {"T": int(rng.integers(20, 40)), "D": 1}
    attrs = _attributes(rng, kind, opset, "forward", sizes, portable=False)
    return _stream_case(seed, rng, kind, opset, attrs, sizes, _arrays(rng, kind, attrs, sizes))


def make_cell_case(kind: str, sizes: dict[str, int], attrs: dict[str, Any], peepholes: bool = False) -> Case:
    """A layer of these sizes (T, N, I, H) and attributes, states as in `make_stream_case`; with B, and P if wanted."""
    rng = np.random.default_rng([sizes["H"], 3])
    sizes = sizes | {"D": 2 if attrs.get("direction") == "bidirectional" else 1}
    attrs = {"hidden_size": sizes["H"]} | attrs
    arrays = _arrays(rng, kind, attrs, sizes, ("B", "P") if peepholes else ("B",))
    return _stream_case(0, rng, kind, 14, attrs, sizes, arrays)


def _stream_case(
    seed: int,
    rng: np.random.Generator,
    kind: str,
    opset: int,
    attrs: dict[str, Any],
    sizes: dict[str, int],
    arrays: dict[str, np.ndarray],
) -> Case:
    states = INPUTS[kind][5:7]
    arrays = {n: a for n, a in arrays.items() if n not in (*states, "sequence_lens")}
    axis = 0 if attrs.get("layout") else 1
    N, H, D = (sizes[k] for k in "NHD")
    start = np.zeros((N, D, H) if axis == 0 else (D, N, H), np.float32)
    arrays |= {n: rng.normal(size=start.shape).astype(np.float32) / 2 for n in states}
    feeds = {n: arrays[n] for n in ("X", *states)}
    model = _model(kind, opset, attrs, arrays, set(arrays) - set(feeds), OUTPUTS[kind], symbolic=True)
    return Case(seed, kind, opset, attrs, sizes, arrays, feeds, OUTPUTS[kind], model)


def _sizes(rng: np.random.Generator, portable: bool) -> dict[str, int]:
    def width() -> int:
        return int(rng.choice(BIG_SIZES) if rng.random() < 0.05 else rng.choice(ODD_SIZES))

    sizes = {"T": int(rng.integers(1, 13)), "N": int(rng.integers(1, 6)), "I": width(), "H": width()}
    if not portable and rng.random() < 0.1:
        sizes["T" if rng.random() < 0.5 else "N"] = 0
    return sizes


def _attributes(
    rng: np.random.Generator, kind: str, opset: int, direction: str, sizes: dict[str, int], portable: bool
) -> dict[str, Any]:
    attrs: dict[str, Any] = {"hidden_size": sizes["H"]}
    if direction != "forward" or rng.random() < 0.5:
        attrs["direction"] = direction
    if rng.random() < 0.3:
        attrs["clip"] = float(np.float32(rng.uniform(0.1, 1.5)))
    if kind == "LSTM" and rng.random() < 0.3:
        attrs["input_forget"] = 1
    if kind == "GRU" and opset >= 7 and rng.random() < 0.6:
        attrs["linear_before_reset"] = int(rng.integers(0, 2))
    if opset == 1 and rng.random() < 0.3:
        attrs["output_sequence"] = 1
    if opset >= 14 and not portable and rng.random() < 0.4:
        attrs["layout"] = 1
    if rng.random() < 0.5:
        attrs |= _activations(rng, ACTIVATIONS_PER_CELL[kind] * sizes["D"], portable)
    return attrs


def _activations(rng: np.random.Generator, count: int, portable: bool) -> dict[str, Any]:
    names = [str(n) for n in rng.choice(list(ACTIVATIONS), count)]
    alphas = [_parameter(rng) for n in names if ACTIVATIONS[n][0]]
    betas = [_parameter(rng) for n in names if ACTIVATIONS[n][1]]
    if not portable:
        names = [_any_case(rng, n) for n in names]
        # A list may stop early: the functions left over take their defaults.
        alphas, betas = (values[: int(rng.integers(0, len(values) + 1))] for values in (alphas, betas))
    found = {"activations": names, "activation_alpha": alphas, "activation_beta": betas}
    return {name: value for name, value in found.items() if value}


def _parameter(rng: np.random.Generator) -> float:
    return float(np.float32(rng.uniform(0.1, 0.6)))


def _any_case(rng: np.random.Generator, name: str) -> str:
    return "".join(c.upper() if rng.random() < 0.5 else c.lower() for c in name)


def _arrays(
    rng: np.random.Generator,
    kind: str,
    attrs: dict[str, Any],
    sizes: dict[str, int],
    wanted: tuple[str, ...] | None = None,
) -> dict[str, np.ndarray]:
    """Every input of the node with the optional ones that are `wanted`, or a random half of them."""
    T, N, width, H, D = (sizes[k] for k in "TNIHD")
    GH = GATES[kind] * H
    # Exotic activations do not saturate: smaller weights keep gates below one.
    gain = 0.3 if "activations" in attrs else float(rng.choice((0.5, 1.0, 2.0)))

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    arrays = {
        "X": normal(T, N, width),
        "W": normal(D, GH, width, scale=gain / np.sqrt(width)),
        "R": normal(D, GH, H, scale=min(gain, 0.7) / np.sqrt(H)),
        "B": normal(D, 2 * GH, scale=0.2),
        "sequence_lens": _lengths(rng, T, N),
        "initial_h": normal(D, N, H, scale=0.5),
        "initial_c": normal(D, N, H, scale=0.5),
        "P": normal(D, 3 * H, scale=0.2),
    }
    if attrs.get("layout"):
        arrays |= {name: arrays[name].swapaxes(0, 1).copy() for name in ("X", "initial_h", "initial_c")}
    optional = wanted or [n for n in INPUTS[kind] if n not in "XWR" and rng.random() < 0.5]
    return {name: arrays[name] for name in INPUTS[kind] if name in "XWR" or name in optional}


def _lengths(rng: np.random.Generator, T: int, N: int) -> np.ndarray:
    return rng.integers(0, T + 1, N).astype(np.int32)


def _some(rng: np.random.Generator, names: tuple[str, ...]) -> tuple[str, ...]:
    """A random subset, not empty."""
    chosen = tuple(n for n in names if rng.random() < 0.6)
    return chosen or (str(rng.choice(names)),)


def _model(
    kind: str,
    opset: int,
    attrs: dict[str, Any],
    arrays: dict[str, np.ndarray],
    constant: set[str],
    outputs: tuple[str, ...],
    *,
    symbolic: bool,
) -> onnx.ModelProto:
    """The node with omitted inputs and outputs as empty names, trailing ones left out."""
    inputs = _trim([n if n in arrays else "" for n in INPUTS[kind]])
    results = _trim([n if n in outputs else "" for n in OUTPUTS[kind]])
    node = helper.make_node(kind, inputs, results, name="cell", **attrs)
    graph = helper.make_graph(
        [node],
        "grid",
        [_info(n, a, symbolic, bool(attrs.get("layout"))) for n, a in arrays.items() if n not in constant],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(arrays[n], n) for n in arrays if n in constant],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _trim(names: list[str]) -> list[str]:
    while names and not names[-1]:
        names = names[:-1]
    return names


def _info(name: str, array: np.ndarray, symbolic: bool, batch_first: bool) -> onnx.ValueInfoProto:
    """Static shapes, or T and N as symbols."""
    shape: list[int | str] = list(array.shape)
    if symbolic and name == "X":
        shape[:2] = ["N", "T"] if batch_first else ["T", "N"]
    elif symbolic and name.startswith("initial"):
        shape[0 if batch_first else 1] = "N"
    elif symbolic and name == "sequence_lens":
        shape = ["N"]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), shape)
