"""The attributes of an LSTM, GRU or RNN node as one checked record."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

from gateinfer.errors import ModelError, UnsupportedOp
from gateinfer.graph.ir import Node

Activation = tuple[str, float, float]
"""(name, alpha, beta); a parameter the function does not have is 0."""

GATES: Final = {"lstm": 4, "gru": 3, "rnn": 1}

_DIRECTIONS: Final = {"forward": ("forward",), "reverse": ("reverse",), "bidirectional": ("forward", "reverse")}
_DEFAULTS: Final = {"lstm": ("Sigmoid", "Tanh", "Tanh"), "gru": ("Sigmoid", "Tanh"), "rnn": ("Tanh",)}

# name in lower case -> (our name, default alpha, default beta); None: the function has no such parameter.
# The defaults are those of the ONNX operators of the same names; Affine and ScaledTanh, which ONNX has removed, had
# alpha = beta = 1 except for Affine's beta = 0. onnxruntime differs: it takes 0 where Affine, ScaledTanh or
# ThresholdedRelu leave a parameter out.
_ACTIVATIONS: Final[dict[str, tuple[str, float | None, float | None]]] = {
    "sigmoid": ("sigmoid", None, None),
    "tanh": ("tanh", None, None),
    "relu": ("relu", None, None),
    "affine": ("affine", 1.0, 0.0),
    "leakyrelu": ("leaky_relu", 0.01, None),
    "thresholdedrelu": ("thresholded_relu", 1.0, None),
    "scaledtanh": ("scaled_tanh", 1.0, 1.0),
    "hardsigmoid": ("hard_sigmoid", 0.2, 0.5),
    "elu": ("elu", 1.0, None),
    "softsign": ("softsign", None, None),
    "softplus": ("softplus", None, None),
}

# output_sequence, of version 1 only, says whether Y is wanted, which the node's list of outputs says as well.
_COMMON: Final = frozenset(
    "activation_alpha activation_beta activations clip direction hidden_size layout output_sequence".split()
)
_KNOWN: Final = {
    "lstm": _COMMON | {"input_forget"},
    "gru": _COMMON | {"linear_before_reset"},
    "rnn": _COMMON,
}


class Recurrent(NamedTuple):
    """What the attributes of a recurrent node say.

    Attributes
    ----------
    kind : "lstm", "gru" or "rnn".
    hidden_size : None when the node leaves it to the last axis of R.
    directions : ("forward",), ("reverse",) or ("forward", "reverse"), in the order of the weights' first axis.
    activations : per direction: (f, g, h) for LSTM, (f, g) for GRU, (f,) for RNN, each (name, alpha, beta).
    clip : bound of the gate pre-activations, 0 for none.
    linear_before_reset, input_forget : as in ONNX.
    layout : 0 for [T, N, ...], 1 for [N, T, ...].
    """

    kind: str
    hidden_size: int | None
    directions: tuple[str, ...]
    activations: tuple[tuple[Activation, ...], ...]
    clip: float = 0.0
    linear_before_reset: bool = False
    input_forget: bool = False
    layout: int = 0

    @property
    def gates(self) -> int:
        """Blocks of H rows in W and R."""
        return GATES[self.kind]


def parse_recurrent(node: Node) -> Recurrent:
    """Read the attributes of an LSTM, GRU or RNN node.

    Raises
    ------
    UnsupportedOp
        For an attribute or an activation the engine does not know.
    ModelError
        For values that contradict the ONNX text.
    """
    kind = node.op.lower()
    _refuse_unknown(node, kind)
    directions = _directions(node)
    hidden = _integer(node, "hidden_size", None)
    if hidden is not None and hidden < 1:
        raise ModelError(f"{node.label()}: hidden_size must be at least 1, got {hidden}")
    _flag(node, "output_sequence")
    return Recurrent(
        kind=kind,
        hidden_size=hidden,
        directions=directions,
        activations=_activations(node, kind, len(directions)),
        clip=_clip(node),
        linear_before_reset=bool(_flag(node, "linear_before_reset")),
        input_forget=bool(_flag(node, "input_forget")),
        layout=_flag(node, "layout"),
    )


def _refuse_unknown(node: Node, kind: str) -> None:
    extra = sorted(set(node.attrs) - _KNOWN[kind])
    if extra:
        known = ", ".join(sorted(_KNOWN[kind]))
        raise UnsupportedOp(f"{node.label()}: attributes {', '.join(extra)} are not implemented; known: {known}")


def _directions(node: Node) -> tuple[str, ...]:
    direction = _text(node.attrs.get("direction", "forward"))
    if not isinstance(direction, str) or direction not in _DIRECTIONS:
        raise UnsupportedOp(f"{node.label()}: direction must be one of {', '.join(_DIRECTIONS)}, got {direction!r}")
    return _DIRECTIONS[direction]


def _activations(node: Node, kind: str, directions: int) -> tuple[tuple[Activation, ...], ...]:
    per_cell = len(_DEFAULTS[kind])
    names = node.attrs.get("activations") or list(_DEFAULTS[kind]) * directions
    if not isinstance(names, list) or len(names) != per_cell * directions:
        raise ModelError(
            f"{node.label()}: activations must list {per_cell * directions} names "
            f"({per_cell} per direction), got {names!r}"
        )
    alphas, betas = iter(_floats(node, "activation_alpha")), iter(_floats(node, "activation_beta"))
    found = []
    for name in names:
        entry = _ACTIVATIONS.get(str(_text(name)).lower())
        if entry is None:
            known = ", ".join(sorted(_ACTIVATIONS))
            raise UnsupportedOp(f"{node.label()}: activation {_text(name)!r} is not implemented; known: {known}")
        ours, alpha, beta = entry
        found.append((ours, _parameter(alphas, alpha), _parameter(betas, beta)))
    return tuple(tuple(found[i : i + per_cell]) for i in range(0, len(found), per_cell))


def _parameter(given: Any, default: float | None) -> float:
    """The next given value if the function has this parameter: functions without it consume none."""
    return 0.0 if default is None else next(given, default)


def _clip(node: Node) -> float:
    """0 and absent both mean no clip; onnxruntime refuses 0 on LSTM and GRU and squeezes an RNN to zeros with it."""
    clip = node.attrs.get("clip", 0.0)
    if not isinstance(clip, (int, float)) or not clip >= 0.0:
        raise ModelError(f"{node.label()}: clip must be a number >= 0, got {clip!r}")
    return 0.0 if math.isinf(clip) else float(clip)


def _floats(node: Node, name: str) -> list[float]:
    values = node.attrs.get(name) or []
    if not isinstance(values, list) or not all(isinstance(v, (int, float)) and math.isfinite(v) for v in values):
        raise ModelError(f"{node.label()}: {name} must be a list of finite numbers, got {values!r}")
    return [float(v) for v in values]


def _flag(node: Node, name: str) -> int:
    value = _integer(node, name, 0)
    if value not in (0, 1):
        raise UnsupportedOp(f"{node.label()}: {name} must be 0 or 1, got {value}")
    return value


def _integer(node: Node, name: str, default: int | None) -> Any:
    value = node.attrs.get(name, default)
    if value is not default and not isinstance(value, int):
        raise ModelError(f"{node.label()}: {name} must be an integer, got {value!r}")
    return value


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
