"""Constant factors and addends behind a product, folded into its weights and bias in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gateinfer.graph.ir import Node
from gateinfer.lower.context import Lowering

Affine = tuple[np.ndarray, np.ndarray]
"""(factor, addend) per channel, float64 [channels]."""

LARGEST = 1e37
"""Folded weights stay well inside float32."""


class Scales(NamedTuple):
    """What follows a product: `last` is the node that makes the final result.

    `names` say what is done on the way and with which constants, whose values are `sources`.
    """

    last: Node
    names: tuple[str, ...] = ()
    sources: tuple[np.ndarray | None, ...] = ()
    affine: Affine | None = None

    def into(self, weights: np.ndarray, bias: np.ndarray | None, axis: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The weights, whose channels are `axis`, and the bias [channels] with the scales in them, rounded once."""
        if self.affine is None:
            return weights, bias
        factor, addend = self.affine
        shape = [1] * weights.ndim
        shape[axis] = -1
        scaled = weights if (factor == 1).all() else (weights * factor.reshape(shape)).astype(np.float32)
        return scaled, (addend if bias is None else bias * factor + addend).astype(np.float32)


def following(ctx: Lowering, node: Node, axis: int, arrays: Sequence[np.ndarray | None]) -> Scales:
    """The scales behind `node`, whose output has its channels on `axis`; the nodes count as done.

    `arrays`: the weights and biases that they will be folded into.
    """
    shape = ctx.shape(node.output(0))
    size = max((float(np.abs(a).max(initial=0.0)) for a in arrays if a is not None), default=0.0)
    last, names, sources = node, list[str](), list[np.ndarray | None]()
    affine: Affine | None = None
    while (user := ctx.sole_user(last.output(0))) is not None and ctx.shape(user.output(0)) == shape:
        step = _affine(ctx, user, last.output(0), axis % len(shape), shape)
        if step is None:
            break
        factor, addend = step if affine is None else (affine[0] * step[0], affine[1] * step[0] + step[1])
        if not (np.abs(factor).max(initial=0.0) * max(size, 1) + np.abs(addend).max(initial=0.0) < LARGEST):
            break
        operands = [name for name in user.inputs if name != last.output(0)]
        names += [f"{user.op} {user.inputs.index(last.output(0))} {user.attrs.get('epsilon', '')}", *operands]
        sources += [ctx.const(name) for name in operands]
        affine, last = (factor, addend), user
        ctx.done.add(user.output(0))
    return Scales(last, tuple(names), tuple(sources), affine)


def _affine(ctx: Lowering, node: Node, value: str, axis: int, shape: Sequence[int]) -> Affine | None:
    """`node` as factor * value + addend, if it is that with constants."""
    if node.domain or node.inputs.count(value) != 1:
        return None
    if node.op == "BatchNormalization":
        return _batch_norm(ctx, node) if axis == 1 and node.input(0) == value else None
    if node.op not in ("Add", "Sub", "Mul", "Div") or node.attrs:
        return None
    first = node.input(0) == value
    operand = _per_channel(ctx.const(node.input(1 if first else 0)), axis, shape)
    if operand is None:
        return None
    one, zero = np.ones_like(operand), np.zeros_like(operand)
    if node.op == "Mul":
        return operand, zero
    if node.op == "Add":
        return one, operand
    if node.op == "Sub":
        return (one, -operand) if first else (-one, operand)
    return (one / operand, zero) if first and operand.all() else None


def _per_channel(operand: np.ndarray | None, axis: int, shape: Sequence[int]) -> np.ndarray | None:
    """A float32 constant that differs along `axis` of `shape` only, as float64 [channels]."""
    if operand is None or operand.dtype != np.float32 or operand.ndim > len(shape):
        return None
    padded = operand.reshape((1,) * (len(shape) - operand.ndim) + operand.shape)
    if any(n != 1 for i, n in enumerate(padded.shape) if i != axis):
        return None
    return np.broadcast_to(padded.ravel().astype(np.float64), (shape[axis],))


def _batch_norm(ctx: Lowering, node: Node) -> Affine | None:
    known = [ctx.const(name) for name in node.inputs[1:5]]
    trains = node.attrs.get("training_mode", 0) or (ctx.graph.opset < 7 and not node.attrs.get("is_test", 0))
    if trains or not node.attrs.get("spatial", 1) or any(ctx.wanted(name) for name in node.outputs[1:]):
        return None
    return batch_affine(known, node.attrs.get("epsilon", 1e-5))


def batch_affine(parameters: Sequence[np.ndarray | None], epsilon: float) -> Affine | None:
    """Scale (x - mean) / sqrt(var + epsilon) + bias as one factor and one addend, if all four are known."""
    if any(value is None for value in parameters):
        return None
    scale, bias, mean, var = (np.asarray(value, np.float64) for value in parameters)
    with np.errstate(all="ignore"):
        ratio = scale / np.sqrt(var + epsilon)
        return ratio, bias - mean * ratio
