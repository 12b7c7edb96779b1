"""Reads a value back as act(affine), whatever the activation is spelled with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from gateinfer.graph.ir import Node
from gateinfer.graph.recognise.affine import Affine, AffineReader
from gateinfer.graph.recognise.flow import MOVES, Flow, ways

Activation = tuple[str, float, float]
"""(ONNX name, alpha, beta); a parameter the function does not have is 0."""

IDENTITY: Final[Activation] = ("Affine", 1.0, 0.0)
SIGMOID: Final[Activation] = ("Sigmoid", 0.0, 0.0)
TANH: Final[Activation] = ("Tanh", 0.0, 0.0)

NATIVE: Final[dict[str, tuple[float, float]]] = {
    "Sigmoid": (0.0, 0.0),
    "Tanh": (0.0, 0.0),
    "Relu": (0.0, 0.0),
    "Softsign": (0.0, 0.0),
    "Softplus": (0.0, 0.0),
    "Elu": (1.0, 0.0),
    "LeakyRelu": (0.01, 0.0),
    "ThresholdedRelu": (1.0, 0.0),
    "HardSigmoid": (0.2, 0.5),
}
"""Activation nodes that are also activations of the fused cells, with the defaults of their parameters."""

CLOSE: Final = 1e-6
"""How far the bounds of a hand-written HardSigmoid may be from 0 and 1: 6 times float32(1/6) is 1 + 3e-8."""

MAX_CHAIN: Final = 32
"""Nodes that scale, shift or bound one value in a row."""


@dataclass(frozen=True, slots=True)
class Gate:
    """factor act(affine) + addend, [N, n]."""

    act: Activation
    affine: Affine
    factor: float = 1.0
    addend: float = 0.0

    @property
    def sources(self) -> frozenset[str]:
        """What the products multiply."""
        return frozenset(self.affine.matrices)


def same_activation(a: Activation, b: Activation) -> bool:
    """Equal up to the rounding of parameters: 0.2 in one gate is x / 5 in another."""
    return a[0] == b[0] and all(abs(p - q) <= CLOSE * max(abs(p), abs(q)) for p, q in zip(a[1:], b[1:], strict=True))


def complement(gate: Gate) -> Gate | None:
    """1 - gate, for the activations that are symmetric about one half."""
    if gate.act[0] not in ("Sigmoid", "HardSigmoid"):
        return None
    return Gate(gate.act, gate.affine.times(-1.0))


def activation_of(node: Node) -> Activation | None:
    """The activation that a single node is."""
    defaults = NATIVE.get(node.op)
    if defaults is None or node.domain or len(node.inputs) != 1:
        return None
    alpha, beta = float(node.attrs.get("alpha", defaults[0])), float(node.attrs.get("beta", defaults[1]))
    return node.op, alpha, beta


class GateReader:
    """`read` for the values of one flow, remembered."""

    def __init__(self, flow: Flow, affine: AffineReader) -> None:
        self.flow = flow
        self.affine = affine
        self._known: dict[tuple[str, int], Gate | None] = {}

    def read(self, name: str, rows: int) -> Gate | None:
        """`name` [rows, n] as an activation of a sum of products, factor 1 and addend 0; None when it is none."""
        key = (self.flow.root(name), rows)
        if key not in self._known:
            raw = self._raw(*key)
            self._known[key] = _normal(raw) if raw is not None and raw.affine.matrices else None
        return self._known[key]

    def read_linear(self, name: str, rows: int) -> Gate | None:
        """As `read`, or without any activation."""
        gate = self.read(name, rows)
        if gate is not None:
            return gate
        affine = self.affine.read(name, rows)
        return Gate(IDENTITY, affine) if affine.matrices else None

    def _raw(self, root: str, rows: int, depth: int = 0) -> Gate | None:
        """`depth` counts the views passed so far."""
        core, factor, addend = self.scaled(root)
        gate = (self._cut(core, rows, depth) if depth < MAX_CHAIN else None) or self._activated(core, rows)
        if gate is None:
            return None
        return replace(gate, factor=factor * gate.factor, addend=factor * gate.addend + addend)

    def _cut(self, core: str, rows: int, depth: int) -> Gate | None:
        """Part of a gate that several share."""
        node = self.flow.node(core)
        if node is None or node.op not in MOVES or node.domain:
            return None
        columns = self.affine.columns(node, core, rows)
        gate = None if columns is None else self._raw(self.flow.root(node.inputs[0]), rows, depth + 1)
        affine = gate.affine.select(columns) if gate and columns is not None else None
        return replace(gate, affine=affine) if gate and affine else None

    def _activated(self, core: str, rows: int) -> Gate | None:
        node = self.flow.node(core)
        if node is None or node.domain:
            return None
        clamped = self._clamped(core)
        if clamped is not None:
            return self._clamp_gate(*clamped, rows)
        act = activation_of(node)
        if act is None:
            return self._logistic(core, rows)
        if act[0] == "HardSigmoid":
            return _hard_sigmoid(self.affine.read(node.inputs[0], rows), act[1], act[2])
        return Gate(act, self.affine.read(node.inputs[0], rows))

    def _logistic(self, core: str, rows: int) -> Gate | None:
        """1 / (1 + exp(-x))."""
        node = self.flow.node(core)
        if node is None or node.op not in ("Reciprocal", "Div"):
            return None
        if node.op == "Div" and self.flow.scalar(node.inputs[0]) != 1.0:
            return None
        power, factor, addend = self.scaled(node.inputs[-1])
        exp = self.flow.node(power)
        if exp is None or exp.op != "Exp" or (factor, addend) != (1.0, 1.0):
            return None
        return Gate(SIGMOID, self.affine.read(exp.inputs[0], rows).times(-1.0))

    # ---- scale and shift --------------------------------------------------------------------------------------------

    def scaled(self, name: str) -> tuple[str, float, float]:
        """(value, a, b) such that `name` is a value + b with numbers a and b."""
        factor, addend = 1.0, 0.0
        for _ in range(MAX_CHAIN):
            step = self._scale_step(name)
            if step is None:
                break
            name, a, b = step
            factor, addend = factor * a, factor * b + addend
        return self.flow.root(name), factor, addend

    def _scale_step(self, name: str) -> tuple[str, float, float] | None:
        node = self.flow.node(name)
        if node is None or node.domain or not 1 <= len(node.inputs) <= 2:
            return None
        if node.op == "Neg":
            return node.inputs[0], -1.0, 0.0
        if len(node.inputs) != 2 or node.op not in _STEPS:
            return None
        for index, value in enumerate(node.inputs):
            number = self.flow.scalar(node.inputs[1 - index])
            same = self.flow.size(value) == self.flow.size(node.outputs[0])
            if number is not None and same and self.flow.const(value) is None:
                coefficients = _STEPS[node.op](number, index)
                return None if coefficients is None else (value, *coefficients)
        return None

    # ---- hard sigmoid -----------------------------------------------------------------------------------------------

    def _clamped(self, name: str) -> tuple[str, float, float] | None:
        """(value, low, high) of a clamp, as Clip, Min and Max, or Relu and Min."""
        node = self.flow.node(name)
        if node is None or node.domain:
            return None
        if node.op == "Clip":
            return self._clip(node)
        low, high = -np.inf, np.inf
        for _ in range(MAX_CHAIN):
            step = self._bound(name)
            if step is None:
                break
            name, least, most = step
            low, high = max(low, least), min(high, most)
        # In either order of the two the result is the clamp, as long as low <= high.
        return (name, low, high) if -np.inf < low <= high < np.inf else None

    def _bound(self, name: str) -> tuple[str, float, float] | None:
        node = self.flow.node(name)
        if node is None or node.domain:
            return None
        if node.op == "Relu":
            return node.inputs[0], 0.0, np.inf
        if node.op in ("Min", "Max") and len(node.inputs) == 2:
            for value, bound in ways((node.inputs[0], node.inputs[1])):
                number = self.flow.scalar(bound)
                if number is not None and self.flow.size(value) == self.flow.size(node.outputs[0]):
                    return (value, -np.inf, number) if node.op == "Min" else (value, number, np.inf)
        return None

    def _clip(self, node: Node) -> tuple[str, float, float] | None:
        bounds = []
        for index, attr in ((1, "min"), (2, "max")):
            given = self.flow.scalar(node.input(index)) if node.input(index) else node.attrs.get(attr)
            bounds.append(None if given is None else float(given))
        low, high = bounds
        return None if low is None or high is None else (node.inputs[0], low, high)

    def _clamp_gate(self, name: str, low: float, high: float, rows: int) -> Gate | None:
        """clamp(a v + b, low, high) = width HardSigmoid(v) + low with alpha a / width, beta (b - low) / width."""
        if not low < high:
            return None
        value, factor, addend = self.scaled(name)
        width = high - low
        gate = _hard_sigmoid(self.affine.read(value, rows), factor / width, (addend - low) / width)
        return None if gate is None else replace(gate, factor=width, addend=low)


def _scale(number: float, _index: int) -> tuple[float, float] | None:
    return number, 0.0


def _shift(number: float, _index: int) -> tuple[float, float] | None:
    return 1.0, number


def _difference(number: float, index: int) -> tuple[float, float] | None:
    """x - number, or number - x."""
    return (1.0, -number) if index == 0 else (-1.0, number)


def _quotient(number: float, index: int) -> tuple[float, float] | None:
    return (1.0 / number, 0.0) if index == 0 and number else None


_STEPS: Final[dict[str, Callable[[float, int], tuple[float, float] | None]]] = {
    "Mul": _scale,
    "Add": _shift,
    "Sub": _difference,
    "Div": _quotient,
}


def _hard_sigmoid(affine: Affine, alpha: float, beta: float) -> Gate | None:
    """max(0, min(1, alpha v + beta)) with beta = 0.5 and alpha > 0, so that the gates of a cell compare equal."""
    if not alpha or not np.isfinite([alpha, beta]).all():
        return None
    affine, alpha = affine.times(np.sign(alpha)), abs(alpha)
    if abs(beta - 0.5) > CLOSE:
        shift = np.broadcast_to(np.array((beta - 0.5) / alpha), (affine.columns,))
        affine = affine.plus(Affine(affine.columns, rows=[shift]))
    return Gate(("HardSigmoid", alpha, 0.5), affine)


# (activation, factor, addend) -> the same as (activation, factor of its argument):
# 1 - sigmoid(v) = sigmoid(-v), 1 - hard(v) = hard(-v) when beta = 0.5, tanh is odd, tanh(v) = 2 sigmoid(2 v) - 1.
_NORMAL: Final[dict[tuple[str, float, float], tuple[Activation | None, float]]] = {
    ("Sigmoid", -1.0, 1.0): (None, -1.0),
    ("Sigmoid", 2.0, -1.0): (TANH, 0.5),
    ("HardSigmoid", -1.0, 1.0): (None, -1.0),
    ("Tanh", -1.0, 0.0): (None, -1.0),
    ("Tanh", 0.5, 0.5): (SIGMOID, 2.0),
    ("Tanh", -0.5, 0.5): (SIGMOID, -2.0),
}


def _normal(gate: Gate) -> Gate | None:
    """With factor 1 and addend 0, if that can be."""
    if abs(gate.factor - 1.0) <= CLOSE and abs(gate.addend) <= CLOSE:
        return replace(gate, factor=1.0, addend=0.0)
    for (name, factor, addend), (act, inner) in _NORMAL.items():
        if name == gate.act[0] and abs(gate.factor - factor) <= CLOSE and abs(gate.addend - addend) <= CLOSE:
            return Gate(act or gate.act, gate.affine.times(inner))
    return None
