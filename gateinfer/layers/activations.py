"""Activation functions by the names PyTorch and Keras give them."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from gateinfer.errors import GateInferError, shown
from gateinfer.layers.builder import GraphBuilder
from gateinfer.weights.arrays import near_misses

_NODES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "relu": ("Relu", {}),
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "exp": ("Exp", {}),
    "softmax": ("Softmax", {"axis": -1}),
    "log_softmax": ("LogSoftmax", {"axis": -1}),
    "elu": ("Elu", {"alpha": 1.0}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
    # max(0, min(1, x / 6 + 1 / 2)): torch.nn.Hardsigmoid, Keras 3.
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    # max(0, min(1, 0.2 x + 0.5)): Keras 1 and 2, whose old LSTM used it for its gates.
    "hard_sigmoid_keras2": ("HardSigmoid", {"alpha": 0.2, "beta": 0.5}),
}
_COMPOSED: Final = ("relu6", "silu", "gelu")
_NONE: Final = (None, "linear", "identity")
_SYNONYMS: Final = {
    "swish": "silu",
    "hardsigmoid": "hard_sigmoid",
    "leakyrelu": "leaky_relu",
    "logsoftmax": "log_softmax",
}

_CELL: Final = {
    "relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "softplus": "Softplus", "softsign": "Softsign", "elu": "Elu",
    "leaky_relu": "LeakyRelu", "hard_sigmoid": "HardSigmoid", "hard_sigmoid_keras2": "HardSigmoid",
}  # fmt: skip
"""Those that recurrent nodes have."""


def check_activation(name: str | None) -> str | None:
    """The name in one spelling, None for the identity; GateInferError when there is no such function."""
    if name is not None and not isinstance(name, str):
        raise GateInferError(f"activation {shown(name)}: expected a name")
    spelled = _SYNONYMS.get(name.lower(), name.lower()) if name is not None else None
    if spelled in _NONE:
        return None
    known = (*_NODES, *_COMPOSED)
    if spelled not in known:
        raise GateInferError(
            f"activation {name!r} is not known{near_misses(str(spelled), known)}; known: {', '.join(known)}, linear"
        )
    return spelled


def apply_activation(b: GraphBuilder, name: str | None, x: str, alpha: float | None = None) -> str:
    """The value of a checked activation of `x`. alpha : slope of leaky_relu, scale of elu."""
    if name is None:
        return x
    if name == "relu6":
        limits = (b.constant(key, np.array(bound, np.float32)) for key, bound in (("zero", 0.0), ("six", 6.0)))
        return b.add("Clip", x, *limits)
    if name == "silu":
        return b.add("Mul", x, b.add("Sigmoid", x))
    if name == "gelu":
        return _gelu(b, x)
    op, attrs = _NODES[name]
    return b.add(op, x, **(attrs if alpha is None else attrs | {"alpha": float(alpha)}))


def _gelu(b: GraphBuilder, x: str) -> str:
    """x (1 + erf(x / sqrt 2)) / 2, the exact form."""
    scaled = b.add("Mul", x, b.constant("rsqrt2", np.array(math.sqrt(0.5), np.float32)))
    grown = b.add("Add", b.add("Erf", scaled), b.constant("one", np.array(1.0, np.float32)))
    return b.add("Mul", b.add("Mul", x, b.constant("half", np.array(0.5, np.float32))), grown)


def cell_activations(names: list[str | None]) -> dict[str, Any]:
    """Attributes of a recurrent node whose functions are `names`."""
    checked = [check_activation(name) for name in names]
    unknown = [name for name in checked if name is not None and name not in _CELL]
    if unknown:
        raise GateInferError(f"activation {unknown[0]!r} does not exist inside recurrent cells; {', '.join(_CELL)} do")
    nodes = [("Affine", {"alpha": 1.0, "beta": 0.0}) if n is None else (_CELL[n], _NODES[n][1]) for n in checked]
    found: dict[str, Any] = {"activations": [op for op, _ in nodes]}
    for parameter in ("alpha", "beta"):
        values = [attrs[parameter] for _, attrs in nodes if parameter in attrs]
        found |= {f"activation_{parameter}": values} if values else {}
    return found
