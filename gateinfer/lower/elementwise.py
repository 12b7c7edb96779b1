"""Element-wise operators: one op each where the core has it, a short composition where it has not."""

from __future__ import annotations

from functools import reduce
from math import inf, log, pi, sqrt

import numpy as np

from gateinfer.errors import UnsupportedOp
from gateinfer.graph.ir import Node
from gateinfer.lower.context import Lowering
from gateinfer.lower.registry import lowers
from gateinfer.lower.tensor import Tensor

FLOAT = np.dtype(np.float32)
BOOL = np.dtype(np.bool_)

PLAIN = {
    "Sigmoid": "sigmoid", "Tanh": "tanh", "Softsign": "softsign", "Softplus": "softplus", "Exp": "exp", "Log": "log",
    "Sqrt": "sqrt", "Erf": "erf", "Reciprocal": "reciprocal", "Floor": "floor", "Ceil": "ceil", "Round": "round",
    "Sin": "sin", "Cos": "cos", "Relu": "relu", "Abs": "abs", "Neg": "neg", "Sign": "sign",
}  # fmt: skip

WITH_ALPHA = {"LeakyRelu": ("leaky_relu", 0.01), "ThresholdedRelu": ("thresholded_relu", 1.0), "Elu": ("elu", 1.0)}

ARITHMETIC = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div"}

COMPARISONS = {
    "Equal": "equal", "Less": "less", "LessOrEqual": "less_equal", "Greater": "greater",
    "GreaterOrEqual": "greater_equal", "And": "and", "Or": "or", "Xor": "xor",
}  # fmt: skip

FOLDS = {"Min": "min", "Max": "max", "Sum": "add", "Mean": "add"}


@lowers(*PLAIN)
def lower_plain(ctx: Lowering, node: Node) -> None:
    x = ctx.value(node.input(0))
    ctx.unary(PLAIN[node.op], x, out=ctx.out(node, like=(x,)))


@lowers(*WITH_ALPHA, attrs=("alpha",))
def lower_with_alpha(ctx: Lowering, node: Node) -> None:
    fn, default = WITH_ALPHA[node.op]
    x = ctx.value(node.input(0))
    ctx.unary(fn, x, node.attrs.get("alpha", default), out=ctx.out(node, like=(x,)))


@lowers("HardSigmoid", attrs=("alpha", "beta"))
def lower_hard_sigmoid(ctx: Lowering, node: Node) -> None:
    alpha, beta = node.attrs.get("alpha", 0.2), node.attrs.get("beta", 0.5)
    ctx.unary("hard_sigmoid", ctx.value(node.input(0)), alpha, beta, out=ctx.out(node))


@lowers(*ARITHMETIC, attrs=("broadcast",))
def lower_arithmetic(ctx: Lowering, node: Node) -> None:
    lhs, rhs = ctx.value(node.input(0)), ctx.value(node.input(1))
    ctx.binary(ARITHMETIC[node.op], lhs, rhs, out=ctx.out(node, like=(lhs, rhs) if lhs.shape == rhs.shape else ()))


@lowers(*COMPARISONS, attrs=("broadcast",))
def lower_comparison(ctx: Lowering, node: Node) -> None:
    lhs, rhs = ctx.value(node.input(0)), ctx.value(node.input(1))
    ctx.binary(COMPARISONS[node.op], lhs, rhs, out=ctx.out(node))


@lowers("Not")
def lower_not(ctx: Lowering, node: Node) -> None:
    ctx.binary("xor", ctx.value(node.input(0)), ctx.scalar(True, BOOL), out=ctx.out(node))


@lowers("Mod", attrs=("fmod",))
def lower_mod(ctx: Lowering, node: Node) -> None:
    if node.attrs.get("fmod", 0):
        raise UnsupportedOp("attribute 'fmod' = 1 is not implemented; only the sign of the divisor (0) is")
    ctx.binary("mod", ctx.value(node.input(0)), ctx.value(node.input(1)), out=ctx.out(node))


@lowers(*FOLDS)
def lower_fold(ctx: Lowering, node: Node) -> None:
    values = [ctx.value(name) for name in node.inputs]
    out = ctx.out(node)
    if len(values) == 1:
        ctx.copy(out, values[0])
        return
    fn = FOLDS[node.op]
    start = reduce(lambda a, b: ctx.binary(fn, a, b), values[:-1])
    if node.op == "Mean":
        total = ctx.binary(fn, start, values[-1])
        ctx.binary("div", total, ctx.scalar(len(values), total.dtype), out=out)
    else:
        ctx.binary(fn, start, values[-1], out=out)


@lowers("Pow", attrs=("broadcast",))
def lower_pow(ctx: Lowering, node: Node) -> None:
    base, exponent = ctx.value(node.input(0)), ctx.value(node.input(1))
    out = ctx.out(node, like=(base,) if base.shape == ctx.shape(node.output(0)) else ())
    known = ctx.const(node.input(1))
    power = float(known.flat[0]) if known is not None and known.size == 1 else None
    base = base.broadcast_to(out.shape)
    if power == 1.0:
        ctx.copy(out, base)
    elif power == 2.0:
        ctx.binary("mul", base, base, out=out)
    elif power == 3.0:
        ctx.binary("mul", ctx.binary("mul", base, base), base, out=out)
    elif power == 0.5 and base.dtype == FLOAT:
        ctx.unary("sqrt", base, out=out)
    elif (parts := _log_of_base(ctx, node)) is not None:
        ctx.unary("power", as_dtype(ctx, exponent, FLOAT), *parts, out=out)
    elif base.dtype == FLOAT:
        ctx.binary("pow", base, as_dtype(ctx, exponent, FLOAT), out=out)
    else:
        raise UnsupportedOp(f"Pow on {base.dtype} takes the constant exponents 1, 2 and 3; cast the base to float32")


def _log_of_base(ctx: Lowering, node: Node) -> tuple[float, float] | None:
    """The logarithm of a constant base as two float32 numbers, where it has one and it is not 0."""
    base = ctx.const(node.input(0))
    if base is None or base.size != 1 or base.dtype != FLOAT or not 0 < base.item() < inf or base.item() == 1:
        return None
    high = float(np.float32(log(base.item())))
    return high, log(base.item()) - high


@lowers("Clip", attrs=("min", "max"))
def lower_clip(ctx: Lowering, node: Node) -> None:
    x = ctx.value(node.input(0))
    out = ctx.out(node, like=(x,))
    low, high = (_bound(ctx, node, index, key) for index, key in ((1, "min"), (2, "max")))
    if x.dtype == FLOAT and not isinstance(low, Tensor) and not isinstance(high, Tensor):
        ctx.unary("clip", x, -inf if low is None else low, inf if high is None else high, out=out)
        return
    bounds = [(fn, b) for fn, b in (("max", low), ("min", high)) if b is not None]
    for position, (fn, bound) in enumerate(bounds):
        limit = bound if isinstance(bound, Tensor) else ctx.scalar(bound, x.dtype)
        x = ctx.binary(fn, x, limit, out=out if position == len(bounds) - 1 else None)
    if not bounds:
        ctx.copy(out, x)


@lowers("PRelu")
def lower_prelu(ctx: Lowering, node: Node) -> None:
    x, slope = ctx.value(node.input(0)), ctx.value(node.input(1))
    if ctx.graph.opset < 7 and slope.rank == 1:  # one slope per channel, not per position of the last axis
        slope = ctx.reshaped(slope, (slope.size, *(1,) * max(0, x.rank - 2)))
    if x.dtype != FLOAT:
        raise UnsupportedOp(f"works on {x.dtype}; PRelu runs on float32")
    known = ctx.const(node.input(1))
    if known is not None and known.size == 1:
        ctx.unary("leaky_relu", x, float(known.flat[0]), out=ctx.out(node, like=(x,)))
    else:
        ctx.binary("prelu", x, slope, out=ctx.out(node))


@lowers("Where")
def lower_where(ctx: Lowering, node: Node) -> None:
    cond, lhs, rhs = (ctx.value(name) for name in node.inputs)
    ctx.where(ctx.out(node), cond, lhs, rhs)


@lowers("Cast", "CastLike", attrs=("to", "saturate", "round_mode"))
def lower_cast(ctx: Lowering, node: Node) -> None:
    x = ctx.value(node.input(0))
    if ctx.dtype(node.output(0)) == x.dtype:
        ctx.define(node.output(0), x)
    else:
        ctx.cast(ctx.out(node), x)


# ---- compositions ----------------------------------------------------------------------------------------------------


@lowers("HardSwish")
def lower_hard_swish(ctx: Lowering, node: Node) -> None:
    x = ctx.value(node.input(0))
    ctx.binary("mul", x, ctx.unary("hard_sigmoid", x, 1 / 6, 0.5), out=ctx.out(node))


@lowers("Swish", attrs=("alpha",))
def lower_swish(ctx: Lowering, node: Node) -> None:
    x, alpha = ctx.value(node.input(0)), node.attrs.get("alpha", 1.0)
    scaled = x if alpha == 1.0 else ctx.unary("affine", x, alpha, 0.0)
    ctx.binary("mul", x, ctx.unary("sigmoid", scaled), out=ctx.out(node))


@lowers("Mish")
def lower_mish(ctx: Lowering, node: Node) -> None:
    x = ctx.value(node.input(0))
    ctx.binary("mul", x, ctx.unary("tanh", ctx.unary("softplus", x)), out=ctx.out(node))


@lowers("Selu", attrs=("alpha", "gamma"))
def lower_selu(ctx: Lowering, node: Node) -> None:
    alpha = node.attrs.get("alpha", 1.67326319217681884765625)
    gamma = node.attrs.get("gamma", 1.05070102214813232421875)
    ctx.unary("affine", ctx.unary("elu", ctx.value(node.input(0)), alpha), gamma, 0.0, out=ctx.out(node))


@lowers("Celu", attrs=("alpha",))
def lower_celu(ctx: Lowering, node: Node) -> None:
    """max(x, 0) + min(alpha (exp(x / alpha) - 1), 0), the second term as an Elu of min(x / alpha, 0)."""
    x, alpha = ctx.value(node.input(0)), node.attrs.get("alpha", 1.0)
    if alpha <= 0:
        raise UnsupportedOp(f"attribute 'alpha' = {alpha} is not implemented; it must be positive")
    below = ctx.unary("elu", ctx.unary("clip", ctx.unary("affine", x, 1 / alpha, 0.0), -inf, 0.0), 1.0)
    ctx.binary("add", ctx.unary("relu", x), ctx.unary("affine", below, alpha, 0.0), out=ctx.out(node))


@lowers("IsNaN")
def lower_is_nan(ctx: Lowering, node: Node) -> None:
    x = ctx.value(node.input(0))
    itself = ctx.binary("equal", x, x, dtype=BOOL)
    ctx.binary("xor", itself, ctx.scalar(True, BOOL), out=ctx.out(node))


@lowers("Gelu", attrs=("approximate",))
def lower_gelu(ctx: Lowering, node: Node) -> None:
    """X / 2 (1 + erf(x / sqrt 2)), or with tanh(sqrt(2 / pi) (x + 0.044715 x^3)) in place of erf."""
    x = ctx.value(node.input(0))
    if node.attrs.get("approximate", "none") == "none":
        bell = ctx.unary("erf", ctx.unary("affine", x, 1 / sqrt(2), 0.0))
    else:
        cube = ctx.binary("mul", ctx.binary("mul", x, x), x)
        inner = ctx.binary("add", x, ctx.unary("affine", cube, 0.044715, 0.0))
        bell = ctx.unary("tanh", ctx.unary("affine", inner, sqrt(2 / pi), 0.0))
    ctx.binary("mul", x, ctx.unary("affine", bell, 0.5, 0.5), out=ctx.out(node))


# ---- helpers ---------------------------------------------------------------------------------------------------------


def as_dtype(ctx: Lowering, x: Tensor, dtype: np.dtype) -> Tensor:
    """`x` converted to `dtype`."""
    if x.dtype == dtype:
        return x
    out = ctx.new(dtype, x.shape)
    ctx.cast(out, x)
    return out


def _bound(ctx: Lowering, node: Node, index: int, key: str) -> float | Tensor | None:
    """A bound of Clip: attribute before opset 11, then an input."""
    name = node.input(index)
    if not name:
        return node.attrs.get(key)
    known = ctx.const(name)
    if known is None or known.dtype != FLOAT:
        return ctx.reshaped(ctx.value(name), ())
    return float(known.reshape(()))
