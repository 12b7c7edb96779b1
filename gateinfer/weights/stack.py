"""One recurrent module: its layers in ONNX's layout, read from arrays by the keys of a framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateinfer.errors import GateInferError, ModelError, shown
from gateinfer.graph.recurrent_attrs import GATES
from gateinfer.weights.arrays import Weight, as_weights, listed, near_misses
from gateinfer.weights.conventions import (
    CellWeights,
    from_keras,
    from_onnx,
    from_tf_gru,
    from_tf_lstm,
    from_tf_rnn,
    from_torch,
)
from gateinfer.weights.keras_keys import find_keras, from_list, match_keras
from gateinfer.weights.keys import find_onnx, match_onnx
from gateinfer.weights.tf_keys import find_tf, match_tf
from gateinfer.weights.torch_keys import find_torch, match_torch

LAYOUTS: Final = ("torch", "keras", "onnx", "tf")

Arrays = Mapping[str, Any] | Sequence[Any]


@dataclass(frozen=True, slots=True)
class Stack:
    """Recurrent layers one after another, each on the results of all directions of the one before.

    Attributes
    ----------
    layers : per layer one CellWeights per direction, forward first.
    layout : where the arrays came from; it decides defaults such as batch_first.
    others : keys that belong to no recurrent layer.
    """

    kind: str
    layers: list[list[CellWeights]]
    layout: str
    others: tuple[str, ...] = ()

    @property
    def directions(self) -> int:
        return len(self.layers[0])

    @property
    def input_size(self) -> int:
        return self.layers[0][0].input_size

    @property
    def hidden_size(self) -> int:
        return self.layers[0][0].hidden_size

    @property
    def proj_size(self) -> int:
        """Of PyTorch: 0 without a projection."""
        cell = self.layers[0][0]
        return 0 if cell.projection is None else cell.output_size

    @property
    def output_size(self) -> int:
        return self.directions * self.layers[-1][0].output_size


def read_stack(
    arrays: Arrays,
    kind: str | None = None,
    layout: str | None = None,
    *,
    prefix: str | None = None,
    reset_after: bool | None = None,
    linear_before_reset: bool = False,
    forget_bias: float = 1.0,
    allow_nonfinite: bool = False,
) -> Stack:
    """The recurrent module in `arrays`.

    Parameters
    ----------
    arrays : mapping of key to array, or for layout "keras" the list of layer.get_weights().
    kind, layout : told from the keys and shapes when None; an error when they contradict them.
    prefix : which module, when there are several.
    reset_after : Keras GRU without bias; elsewhere the bias tells. linear_before_reset : ONNX GRU.
    forget_bias : what TensorFlow's LSTM cells add to the forget gate.

    Raises
    ------
    ModelError
        For missing, misspelled or contradictory arrays, naming key, expected and actual shape.
    """
    kind = kind.lower() if isinstance(kind, str) else kind
    check_choice("kind", kind, tuple(GATES))
    check_choice("layout", layout, LAYOUTS)
    if prefix is not None and not isinstance(prefix, str):
        raise GateInferError(f"prefix={shown(prefix)}: expected the beginning of keys")
    arrays, layout = _by_key(arrays, layout)
    layout = layout or _detect(arrays)
    weights = as_weights(arrays, allow_nonfinite=allow_nonfinite)
    if layout == "torch":
        found = find_torch(weights, prefix)
        layers = [[from_torch(roles, kind) for roles in directions] for directions in found.layers]
    elif layout == "keras":
        found = find_keras(weights, prefix)
        layers = [[from_keras(roles, kind, reset_after) for roles in directions] for directions in found.layers]
    elif layout == "onnx":
        found = find_onnx(weights, prefix)
        layers = [from_onnx(found.layers[0][0], kind, linear_before_reset)]
    else:
        found, kind = find_tf(weights, prefix, kind)
        layers = [[_from_tf(roles, kind, forget_bias)] for (roles,) in found.layers]
    _check_layers(layers, found.layers)
    return Stack(layers[0][0].kind, layers, layout, tuple(found.others))


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """GateInferError unless `value` is one of `choices` or None."""
    if value is None or (isinstance(value, str) and value in choices):
        return
    nearest = near_misses(value, choices) if isinstance(value, str) else ""
    raise GateInferError(f"{name}={shown(value)}: expected one of {', '.join(map(repr, choices))}{nearest}")


def _from_tf(roles: Mapping[str, Weight], kind: str, forget_bias: float) -> CellWeights:
    if kind == "lstm":
        return from_tf_lstm(roles, forget_bias)
    return from_tf_gru(roles) if kind == "gru" else from_tf_rnn(roles)


def _by_key(arrays: Arrays, layout: str | None) -> tuple[Mapping[str, Any], str | None]:
    """A list, also as numpy.savez keeps it (arr_0, arr_1, ...), is what a Keras layer's get_weights() returns."""
    if isinstance(arrays, Mapping):
        names = [f"arr_{i}" for i in range(len(arrays))]
        if not arrays or layout != "keras" or set(arrays) != set(names):
            return arrays, layout
        arrays = [arrays[name] for name in names]
    elif not isinstance(arrays, (list, tuple)):
        raise ModelError(f"weights come as a mapping of key to array, got {type(arrays).__name__}")
    if layout not in ("keras", None):
        raise ModelError(f"a list of arrays is Keras' get_weights(); layout={layout!r} needs a mapping of key to array")
    return from_list(arrays), "keras"


def _detect(arrays: Mapping[str, Any]) -> str:
    """The layout whose names for recurrent weights are among the keys."""
    probe = {key: Weight(str(key), None) for key in map(str, arrays)}  # type: ignore[arg-type]  # only keys are read
    roles = {
        layout: {found.role for key, weight in probe.items() if (found := match(key, weight))}
        for layout, match in (("torch", match_torch), ("keras", match_keras), ("onnx", match_onnx), ("tf", match_tf))
    }
    wanted = (("torch", {"weight_hh"}), ("torch", {"weight_ih"}), ("keras", {"recurrent_kernel"}), ("onnx", {"W", "R"}))
    for layout, needed in wanted:
        if needed <= roles[layout]:
            return layout
    if "gates/kernel" in roles["tf"] or ("kernel" in roles["tf"] and any("cell" in key for key in probe)):
        return "tf"
    raise ModelError(
        f"no recurrent weights of PyTorch, Keras, ONNX or TensorFlow among the keys {listed(probe)}; "
        "pass layout= and prefix=, or put the model together with gateinfer.Sequential"
    )


def _check_layers(layers: list[list[CellWeights]], roles: Sequence[Sequence[Mapping[str, Weight]]]) -> None:
    """Sizes have to agree between directions and from layer to layer."""
    before = layers[0][0].input_size
    for number, directions in enumerate(layers):
        first = directions[0]
        for direction, cell in enumerate(directions):
            sizes = (
                ("input size", cell.input_size, before),
                ("hidden size", cell.hidden_size, first.hidden_size),
                ("output size", cell.output_size, first.output_size),
                ("gates", GATES[cell.kind], GATES[layers[0][0].kind]),
            )
            # Both directions of ONNX are in the same arrays.
            named = roles[number][min(direction, len(roles[number]) - 1)]
            _check_sizes(sizes, number, next(w for role, w in named.items() if role in _INPUT_WEIGHTS))
        before = len(directions) * first.output_size


_INPUT_WEIGHTS: Final = ("weight_ih", "kernel", "gates/kernel", "W")


def _check_sizes(sizes: Sequence[tuple[str, int, int]], layer: int, weight: Weight) -> None:
    for what, got, expected in sizes:
        if got != expected:
            raise ModelError(
                f'weight "{weight.key}" {list(weight.shape)}: expected {what} {expected} in layer {layer}, got {got}'
            )
