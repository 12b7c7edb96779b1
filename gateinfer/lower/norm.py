"""Normalisation: over a batch's stored statistics, or over the trailing axes."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from gateinfer.errors import UnsupportedOp
from gateinfer.graph.ir import Node
from gateinfer.lower.context import Lowering
from gateinfer.lower.elementwise import FLOAT
from gateinfer.lower.registry import lowers
from gateinfer.lower.scales import batch_affine
from gateinfer.lower.tensor import Tensor

if TYPE_CHECKING:
    from gateinfer._core import View


@lowers("BatchNormalization", attrs=("epsilon", "momentum", "training_mode", "is_test", "spatial"))
def lower_batch_norm(ctx: Lowering, node: Node) -> None:
    """Scale (x - mean) / sqrt(var + epsilon) + bias; known parameters become one factor and one addend."""
    _refuse_training(ctx, node)
    x, out = ctx.value(node.input(0)), ctx.out(node)
    if x.dtype != FLOAT:
        raise UnsupportedOp(f"works on {x.dtype}; normalisation runs on float32")
    epsilon = node.attrs.get("epsilon", 1e-5)
    known = batch_affine([ctx.const(name) for name in node.inputs[1:5]], epsilon)
    if known is None:
        factor, addend = _affine_at_run_time(ctx, node, epsilon)
    else:
        factor, addend = (ctx.constant(v.astype(np.float32)) for v in known)
    shape = (factor.size, *(1,) * max(0, x.rank - 2))
    scaled = ctx.binary("mul", x, ctx.reshaped(factor, shape))
    ctx.binary("add", scaled, ctx.reshaped(addend, shape), out=out)


def _affine_at_run_time(ctx: Lowering, node: Node, epsilon: float) -> tuple[Tensor, Tensor]:
    scale, bias, mean, var = (ctx.value(name) for name in node.inputs[1:5])
    deviation = ctx.unary("sqrt", ctx.unary("affine", var, 1.0, epsilon))
    factor = ctx.binary("div", scale, deviation)
    return factor, ctx.binary("sub", bias, ctx.binary("mul", mean, factor))


def _refuse_training(ctx: Lowering, node: Node) -> None:
    if node.attrs.get("training_mode", 0):
        raise UnsupportedOp("attribute 'training_mode' = 1 is not implemented; export the model for inference")
    if ctx.graph.opset < 7 and not node.attrs.get("is_test", 0):
        raise UnsupportedOp("attribute 'is_test' = 0 asks for training; export the model for inference")
    if not node.attrs.get("spatial", 1):
        raise UnsupportedOp("attribute 'spatial' = 0 is not implemented; only statistics per channel are")
    if any(ctx.wanted(name) for name in node.outputs[1:]):
        raise UnsupportedOp("outputs beyond Y exist in training only; export the model for inference")


@lowers("LayerNormalization", attrs=("axis", "epsilon", "stash_type"))
def lower_layer_norm(ctx: Lowering, node: Node) -> None:
    if node.attrs.get("stash_type", 1) != 1:
        raise UnsupportedOp("attribute 'stash_type' must be 1 (float32)")
    x, out = ctx.value(node.input(0)), ctx.out(node)
    epsilon, axis = node.attrs.get("epsilon", 1e-5), node.attrs.get("axis", -1) % x.rank
    normalised = x.shape[axis:]
    scale, bias = (_parameter(ctx, node.input(index), normalised) for index in (1, 2))
    rows = (prod(x.shape[:axis]), prod(normalised))
    target, source = out.reshape(rows) or ctx.new(out.dtype, rows), ctx.reshaped(x, rows)
    ctx.builder.layer_norm(target.view, source.view, _view(scale), _view(bias), epsilon)
    if target.id != out.id:
        ctx.copy(out, ctx.reshaped(target, out.shape))
    _statistics(ctx, node, source, epsilon)


def _statistics(ctx: Lowering, node: Node, rows: Tensor, epsilon: float) -> None:
    """The optional outputs Mean and InvStdDev of each row."""
    wanted = [bool(node.output(index)) and ctx.wanted(node.output(index)) for index in (1, 2)]
    if not any(wanted):
        return
    mean = ctx.new(rows.dtype, rows.shape[:1])
    ctx.reduce("mean", mean, rows)
    if wanted[0]:
        ctx.define(node.output(1), ctx.reshaped(mean, ctx.shape(node.output(1))))
    if wanted[1]:
        centred = ctx.binary("sub", rows, mean.unsqueeze(1))
        variance = ctx.new(rows.dtype, rows.shape[:1])
        ctx.reduce("mean", variance, ctx.binary("mul", centred, centred))
        deviation = ctx.unary("sqrt", ctx.unary("affine", variance, 1.0, epsilon))
        inverse = ctx.unary("reciprocal", deviation)
        ctx.define(node.output(2), ctx.reshaped(inverse, ctx.shape(node.output(2))))


@lowers("InstanceNormalization", attrs=("epsilon",))
def lower_instance_norm(ctx: Lowering, node: Node) -> None:
    """Each channel of each item over its own positions, then scale [C] and bias [C]."""
    x, out = ctx.value(node.input(0)), ctx.out(node)
    channels = (x.shape[1], *(1,) * (x.rank - 2))
    scale, bias = (ctx.reshaped(ctx.value(node.input(index)), channels) for index in (1, 2))
    rows = (x.shape[0] * x.shape[1], prod(x.shape[2:]))
    normal = ctx.new(x.dtype, rows)
    ctx.builder.layer_norm(normal.view, ctx.reshaped(x, rows).view, None, None, node.attrs.get("epsilon", 1e-5))
    ctx.binary("add", ctx.binary("mul", ctx.reshaped(normal, x.shape), scale), bias, out=out)


def _view(tensor: Tensor | None) -> View | None:
    return None if tensor is None else tensor.view


def _parameter(ctx: Lowering, name: str, shape: tuple[int, ...]) -> Tensor | None:
    """Scale or bias as one row over the normalised axes."""
    if not name:
        return None
    value = ctx.value(name)
    lead = value.rank - len(shape)
    if lead > 0:
        value = ctx.reshaped(value, value.shape[lead:]) if value.size == prod(value.shape[lead:]) else value
    return ctx.reshaped(value.broadcast_to(shape), (prod(shape),))
