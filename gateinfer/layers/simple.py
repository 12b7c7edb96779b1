"""Layers without memory: Embedding, Dense, LayerNorm, BatchNorm, Activation, Magnitude."""

from __future__ import annotations

from typing import Any

import numpy as np

from gateinfer.errors import GateInferError, ModelError, shown
from gateinfer.layers.activations import apply_activation, check_activation
from gateinfer.layers.builder import GraphBuilder, Signal
from gateinfer.weights.arrays import Weight, as_float32


def to_weight(key: str, value: Any) -> Weight:
    """An array a layer was given, NaN and infinity included: the finished graph is checked for them."""
    return Weight(key, as_float32(key, value, allow_nonfinite=True))


def to_optional(key: str, value: Any) -> Weight | None:
    """`to_weight`, or None for None."""
    return None if value is None else to_weight(key, value)


def check_features(b: GraphBuilder, x: Signal, expected: int, remedy: str = "") -> None:
    """ModelError unless x has `expected` features."""
    if x.features is None:
        raise b.fail("it takes features, got ids: an Embedding goes first")
    if x.features != expected:
        raise b.fail(f"its weights take {expected} features, got {x.features}{remedy}")


class Embedding:
    """Rows of a table by id: x [N, T] int64 -> [N, T, E]. Only the first layer can be one.

    Parameters
    ----------
    table : array [V, E]
        `weight` of torch.nn.Embedding, `embeddings` of Keras.
    """

    word = "embedding"
    keeps_state = False
    input_size: int | None = None

    def __init__(self, table: Any) -> None:
        self.table = to_weight("embedding.table", table).expect_rank(2, "[V, E]")

    def build(self, b: GraphBuilder, x: Signal) -> Signal:
        if x.features is not None:
            raise b.fail(f"it takes ids, got {x.features} features: it has to be the first layer")
        rows = b.add("Gather", b.constant("table", self.table), x.name, axis=0)
        return x.to(rows, features=int(self.table.shape[1]))


class Dense:
    """y = activation(x W + b) on the last axis.

    Parameters
    ----------
    weight : array [O, I], or [I, O] with layout="keras"
    bias : array [O], optional
    activation : str, optional
        "relu", "tanh", "sigmoid", "softmax", "gelu", ... as `Activation` takes.
    layout : "torch" or "keras"
        Which way round the weight is.
    """

    word = "dense"
    keeps_state = False

    def __init__(self, weight: Any, bias: Any = None, activation: str | None = None, *, layout: str = "torch") -> None:
        kernel = to_weight("dense.weight", weight).expect_rank(2, "[O, I]" if layout == "torch" else "[I, O]")
        if layout not in ("torch", "keras"):
            raise GateInferError(f"layout={shown(layout)}: expected 'torch' for [O, I] or 'keras' for [I, O]")
        self.kernel = np.ascontiguousarray(kernel.T if layout == "torch" else kernel)
        self.input_size, self.output_size = map(int, self.kernel.shape)
        given = to_optional("dense.bias", bias)
        self.bias = None if given is None else given.expect((self.output_size,), "[O]")
        self.activation = check_activation(activation)
        self.other = "keras" if layout == "torch" else "torch"

    def build(self, b: GraphBuilder, x: Signal) -> Signal:
        turned = x.features == self.output_size
        check_features(b, x, self.input_size, f"; is its weight meant for layout={self.other!r}?" if turned else "")
        y = b.add("MatMul", x.name, b.constant("weight", self.kernel))
        if self.bias is not None:
            y = b.add("Add", y, b.constant("bias", self.bias))
        return x.to(apply_activation(b, self.activation, y), features=self.output_size)


class LayerNorm:
    """Each step's features to mean 0 and variance 1, then scaled by gamma and shifted by beta.

    Parameters
    ----------
    gamma : array [F]
    beta : array [F], optional
    epsilon : float
        Added to the variance. PyTorch's default is 1e-5, that of Keras 1e-3.
    """

    word = "layer_norm"
    keeps_state = False

    def __init__(self, gamma: Any, beta: Any = None, *, epsilon: float = 1e-5) -> None:
        self.gamma = to_weight("layer_norm.gamma", gamma).expect_rank(1, "[F]")
        given = to_optional("layer_norm.beta", beta)
        self.beta = None if given is None else given.expect(self.gamma.shape, "[F], as gamma has")
        self.epsilon = float(epsilon)
        self.input_size = int(self.gamma.shape[0])

    def build(self, b: GraphBuilder, x: Signal) -> Signal:
        check_features(b, x, self.input_size)
        beta = () if self.beta is None else (b.constant("beta", self.beta),)
        gamma = b.constant("gamma", self.gamma)
        return x.to(b.add("LayerNormalization", x.name, gamma, *beta, axis=-1, epsilon=self.epsilon))


class BatchNorm:
    """Features normalised by stored statistics: gamma (x - mean) / sqrt(variance + epsilon) + beta.

    Parameters
    ----------
    gamma, beta, mean, variance : array [F]
        `weight`, `bias`, `running_mean`, `running_var` of PyTorch.
    epsilon : float
        PyTorch's default is 1e-5, that of Keras 1e-3.
    """

    word = "batch_norm"
    keeps_state = False

    def __init__(self, gamma: Any, beta: Any, mean: Any, variance: Any, *, epsilon: float = 1e-5) -> None:
        scale = to_weight("batch_norm.gamma", gamma).expect_rank(1, "[F]").astype(np.float64)
        named = (("beta", beta), ("mean", mean), ("variance", variance))
        rest = [
            to_weight(f"batch_norm.{name}", value).expect(scale.shape, "[F], as gamma has") for name, value in named
        ]
        shift, centre, spread = (array.astype(np.float64) for array in rest)
        if (spread + epsilon <= 0).any():
            raise ModelError('weight "batch_norm.variance": expected values above -epsilon')
        factor = scale / np.sqrt(spread + epsilon)
        self.factor, self.addend = factor.astype(np.float32), (shift - centre * factor).astype(np.float32)
        self.input_size = len(factor)

    def build(self, b: GraphBuilder, x: Signal) -> Signal:
        check_features(b, x, self.input_size)
        scaled = b.add("Mul", x.name, b.constant("factor", self.factor))
        return x.to(b.add("Add", scaled, b.constant("addend", self.addend)))


class Activation:
    """A function of each element, or softmax over the features.

    Parameters
    ----------
    name : str
        relu, tanh, sigmoid, softmax, log_softmax, elu, leaky_relu, gelu (exact), silu, relu6, softplus, softsign, exp,
        hard_sigmoid (x / 6 + 1 / 2, as PyTorch and Keras 3 have it), hard_sigmoid_keras2 (0.2 x + 0.5), linear.
    alpha : float, optional
        Slope of leaky_relu below 0 (0.01 by default; Keras has 0.3 or 0.2), scale of elu.
    """

    word = "activation"
    keeps_state = False
    input_size: int | None = None

    def __init__(self, name: str, *, alpha: float | None = None) -> None:
        self.name, self.alpha = check_activation(name), alpha
        if alpha is not None and self.name not in ("leaky_relu", "elu"):
            raise GateInferError(f"activation {name!r} has no alpha; leaky_relu and elu have")

    def build(self, b: GraphBuilder, x: Signal) -> Signal:
        if x.features is None:
            raise b.fail("it takes features, got ids: an Embedding goes first")
        return x.to(apply_activation(b, self.name, x.name, self.alpha))


class Magnitude:
    """Lengths of complex features: x [.., 2·F], real parts first, -> sqrt(re² + im²) [.., F].

    For a Fourier transform written as Conv1d.
    """

    word = "magnitude"
    keeps_state = False
    input_size: int | None = None

    def build(self, b: GraphBuilder, x: Signal) -> Signal:
        if not x.features or x.features % 2:
            raise b.fail(f"it takes an even number of features, got {x.features}")
        parts = b.add_node("Split", (x.name,), 2, {"axis": -1, "num_outputs": 2})
        real, imaginary = (b.add("Mul", part, part) for part in parts)
        return x.to(b.add("Sqrt", b.add("Add", real, imaginary)), features=x.features // 2)
