"""Writes the step of an LSTM or GRU cell out as plain operators, in a spelling drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx_models import model, node

OPSET = 17


@dataclass
class Speller:
    """Collects nodes and constants; every choice that does not change the figures comes from `rng`."""

    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    count: int = 0

    def fresh(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def emit(self, op: str, *inputs: str, outputs: int = 1, **attrs: Any) -> Any:
        names = [self.fresh() for _ in range(outputs)]
        self.nodes.append(node(op, " ".join(inputs), " ".join(names), **attrs))
        return names[0] if outputs == 1 else names

    def const(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = np.asarray(value, dtype)
        return name

    def pick(self, *choices: Any) -> Any:
        return choices[self.rng.integers(len(choices))]

    def weights(self, *shape: int) -> np.ndarray:
        return self.rng.uniform(-0.7, 0.7, shape).astype(np.float32)

    # ---- what may be written in more than one way ----

    def commute(self, op: str, a: str, b: str) -> str:
        return self.emit(op, *self.pick((a, b), (b, a)))

    def mul(self, a: str, b: str) -> str:
        return self.commute("Mul", a, b)

    def add(self, a: str, b: str) -> str:
        return self.commute("Add", a, b)

    def noise(self, name: str, rows: int, columns: int) -> str:
        """`name` behind reshapes that end where they began."""
        match self.rng.integers(6):
            case 0:
                return self.emit("Squeeze", self.emit("Unsqueeze", name, self.ints(1)), self.ints(1))
            case 1:
                flat = self.emit("Reshape", name, self.ints(1, rows * columns))
                return self.emit("Reshape", flat, self.ints(rows, columns))
            case 2:
                turned = self.emit("Transpose", self.emit("Unsqueeze", name, self.ints(0)), perm=[1, 0, 2])
                return self.emit("Squeeze", turned, self.ints(1))
        return name

    def ints(self, *values: int) -> str:
        return self.const(values, np.int64)

    def cut(self, name: str, count: int, width: int, rows: int) -> list[str]:
        """[rows, count * width] in `count` parts."""
        match self.rng.integers(4):
            case 0:
                return self.emit("Split", name, outputs=count, axis=1)
            case 1:
                bounds = [(i * width, (i + 1) * width) for i in range(count)]
                return [self.emit("Slice", name, self.ints(a), self.ints(b), self.ints(-1)) for a, b in bounds]
            case 2:
                parts = self.emit("Reshape", name, self.ints(rows, count, width))
                return [self.emit("Gather", parts, self.const(i, np.int64), axis=1) for i in range(count)]
        index = [list(range(i * width, (i + 1) * width)) for i in range(count)]
        return [self.emit("Gather", name, self.ints(*chosen), axis=1) for chosen in index]

    def product(self, x: str, w: np.ndarray, bias: np.ndarray | None) -> str:
        """X @ w + bias."""
        match self.rng.integers(5):
            case 0:
                inputs = (x, self.const(w.T)) if bias is None else (x, self.const(w.T), self.const(bias))
                return self.emit("Gemm", *inputs, transB=1)
            case 1:
                inputs = (x, self.const(w / 2)) if bias is None else (x, self.const(w / 2), self.const(bias))
                return self.emit("Gemm", *inputs, alpha=2.0)
            case 2:
                made = self.emit("MatMul", x, self.const(w))
            case 3:
                made = self.emit("Squeeze", self.emit("MatMul", x, self.const(w[None])), self.ints(0))
            case _:
                made = self.emit("MatMul", x, self.emit("Transpose", self.const(w.T), perm=[1, 0]))
        return made if bias is None else self.add(made, self.const(bias))

    def sums(self, sources: Sequence[tuple[str, int]], count: int, width: int, rows: int, *, bias: bool) -> list[str]:
        """`count` pre-activations of the sources, all from joint products or each from its own."""
        if self.pick(True, False):
            return self.cut(self._sum(sources, count * width, bias), count, width, rows)
        return [self._sum(sources, width, bias) for _ in range(count)]

    def _sum(self, sources: Sequence[tuple[str, int]], columns: int, bias: bool) -> str:
        b = self.weights(columns) if bias else None
        if len(sources) > 1 and self.pick(True, False):
            joined = self.emit("Concat", *(name for name, _ in sources), axis=1)
            return self.product(joined, self.weights(sum(k for _, k in sources), columns), b)
        total = ""
        for index, (name, k) in enumerate(sources):
            part = self.product(name, self.weights(k, columns), b if index == 0 or self.pick(True, False) else None)
            total = self.add(total, part) if total else part
        return total

    # ---- activations ----

    def sigmoid(self, x: str, kind: str) -> str:
        """The `kind` of sigmoid, in one of its spellings."""
        if kind == "HardSigmoid":
            return self.hard_sigmoid(x)
        match self.rng.integers(5):
            case 0:
                grown = self.add(self.emit("Exp", self.emit("Neg", x)), self.const(1.0))
                return self.emit("Reciprocal", grown)
            case 1:
                bent = self.emit("Tanh", self.mul(x, self.const(0.5)))
                return self.add(self.mul(bent, self.const(0.5)), self.const(0.5))
        return self.emit("Sigmoid", x)

    def hard_sigmoid(self, x: str) -> str:
        match self.rng.integers(4):
            case 0:
                return self.emit("HardSigmoid", x, alpha=0.2, beta=0.5)
            case 1:
                line = self.add(self.mul(x, self.const(0.2)), self.const(0.5))
                return self.emit("Clip", line, self.const(0.0), self.const(1.0))
            case 2:
                line = self.add(self.emit("Div", x, self.const(5.0)), self.const(0.5))
                return self.commute("Min", self.commute("Max", line, self.const(0.0)), self.const(1.0))
        clipped = self.emit("Clip", self.add(x, self.const(2.5)), self.const(0.0), self.const(5.0))
        return self.mul(clipped, self.const(0.2))


class Shared(Speller):
    """A speller that names equal constants alike."""

    def const(self, value: Any, dtype: Any = np.float32) -> str:
        array = np.asarray(value, dtype)
        same = [n for n, a in self.constants.items() if a.dtype == array.dtype and np.array_equal(a, array)]
        return same[0] if same else super().const(value, dtype)


def complement(s: Speller, z: str) -> str:
    return s.emit("Sub", s.const(1.0), z)


def lstm_step(s: Speller, x: str, h: str, c: str, sizes: tuple[int, int, int]) -> tuple[str, str]:
    """h' and c' of one step; sizes are N, I, H."""
    rows, width, hidden = sizes
    kind, bend = s.pick("Sigmoid", "HardSigmoid"), s.pick("Tanh", "Tanh", "Relu", "Softsign")
    sources = [(s.noise(x, rows, width), width), (s.noise(h, rows, hidden), hidden)]
    sources = sources if s.pick(True, False) else sources[::-1]
    gates = s.sums(sources, 4, hidden, rows, bias=s.pick(True, True, False))
    order = s.rng.permutation(4)
    i, o, f, g = (gates[k] for k in order)
    if s.pick(True, False):
        f = s.add(f, s.const(1.0))
    i, o, f = (s.sigmoid(v, kind) for v in (i, o, f))
    new_c = s.add(s.mul(f, s.noise(c, rows, hidden)), s.mul(i, s.emit(bend, g)))
    return s.mul(o, s.emit(bend, s.noise(new_c, rows, hidden))), new_c


def gru_step(s: Speller, x: str, h: str, sizes: tuple[int, int, int]) -> str:
    """h' of one step."""
    rows, width, hidden = sizes
    kind = s.pick("Sigmoid", "HardSigmoid")
    xs, hs = (s.noise(x, rows, width), width), (s.noise(h, rows, hidden), hidden)
    z, r = (s.sigmoid(v, kind) for v in s.sums([xs, hs], 2, hidden, rows, bias=True))
    if s.pick(True, False):
        reset = s.product(hs[0], s.weights(hidden, hidden), s.weights(hidden))
        n = s.add(s.product(xs[0], s.weights(width, hidden), s.weights(hidden)), s.mul(r, reset))
    else:
        n = s._sum([xs, (s.mul(r, h), hidden)], hidden, True)
    return blend(s, z, s.emit("Tanh", n), h)


def rnn_step(s: Speller, x: str, h: str, sizes: tuple[int, int, int]) -> str:
    """h' of one step of a plain RNN."""
    rows, width, hidden = sizes
    sources = [(s.noise(x, rows, width), width), (s.noise(h, rows, hidden), hidden)]
    total = s._sum(sources, hidden, s.pick(True, True, False))
    return s.emit(s.pick("Tanh", "Relu", "Sigmoid"), total)


def blend(s: Speller, z: str, n: str, h: str) -> str:
    """Z h + (1 - z) n or, as others define z, (1 - z) h + z n."""
    a, b = s.pick((h, n), (n, h))
    match s.rng.integers(4):
        case 0:
            return s.add(s.mul(z, a), s.mul(complement(s, z), b))
        case 1:
            return s.add(b, s.mul(z, s.emit("Sub", a, b)))
        case 2:
            return s.emit("Sub", b, s.mul(z, s.emit("Sub", b, a)))
    return s.add(s.emit("Sub", b, s.mul(z, b)), s.mul(z, a))


def finished(s: Speller, results: Sequence[tuple[str, str]], inputs: dict[str, Sequence[int]]) -> onnx.ModelProto:
    """The model with these (value, output name) pairs."""
    for value, output in results:
        s.nodes.append(node("Identity", value, output))
    return model(s.nodes, inputs, " ".join(output for _, output in results), s.constants, opset=OPSET)
