"""Constant scales behind products, and layouts of convolutions: same values, fewer ops."""

from __future__ import annotations

import numpy as np
import pytest
from pipeline import chain, check, integers, node, random

CONV = {"W": random(6, 3, 3, seed=1), "B": random(6, seed=2)}
NORM = {"s": random(6, seed=3), "o": random(6, seed=4), "m": random(6, seed=5), "v": np.abs(random(6, seed=6)) + 0.5}
TOLERANCE = 8 * chain(10)
"""A chain of 10 terms whose factors are at most 3, scaled by at most 2.5 and rounded once more."""


def batch_norm(source, target="Y"):
    return node("BatchNormalization", f"{source} s o m v", target)


def test_batch_norm_goes_into_a_convolution():
    nodes = [node("Conv", "X W B", "a", pads=[1, 1]), batch_norm("a")]
    lowered = check(nodes, {"X": random(2, 3, 9)}, {**CONV, **NORM}, opset=15, atol=TOLERANCE)
    assert lowered.program.op_names == ["conv"]


def test_batch_norm_goes_into_every_phase_of_a_transposed_convolution():
    weights = {"W": random(3, 6, 3, seed=1)}
    nodes = [node("ConvTranspose", "X W", "a", strides=[2]), batch_norm("a")]
    lowered = check(nodes, {"X": random(2, 3, 9)}, {**weights, **NORM}, opset=15, atol=TOLERANCE)
    assert lowered.program.op_names == ["conv", "conv"]


def test_phases_without_taps_hold_the_bias():
    weights = {"W": random(3, 6, 1, seed=1), "B": CONV["B"]}
    check(node("ConvTranspose", "X W B", strides=[3]), {"X": random(2, 3, 4)}, weights, atol=TOLERANCE)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("order", ["a c", "c a"])
@pytest.mark.parametrize("shape", [(), (1,), (6, 1), (1, 6, 1)])
def test_constants_per_channel_are_folded(op, order, shape):
    constant = {"c": (np.abs(random(*shape, seed=7)) + np.float32(0.5)).astype(np.float32)}
    nodes = [node("Conv", "X W B", "a"), node(op, order)]
    feeds = {"X": random(2, 3, 9)}
    is_division = op == "Div" and order == "c a"
    if is_division:  # far from zero, so that the quotient is no worse conditioned than the convolution
        nodes.insert(1, node("Exp", "a", "e"))
        nodes[-1] = node(op, "c e")
    lowered = check(nodes, feeds, {**CONV, **constant}, atol=TOLERANCE, rtol=TOLERANCE if is_division else 0)
    assert (lowered.program.op_names == ["conv"]) != is_division


@pytest.mark.parametrize("op", ["MatMul", "Gemm"])
def test_scales_go_into_dense_weights(op):
    constants = {"W": random(5, 6), "k": np.array(0.25, np.float32), "b": random(6)}
    nodes = [node(op, "X W", "a"), node("Mul", "k a", "c"), node("Add", "c b")]
    lowered = check(nodes, {"X": random(4, 5)}, constants, atol=chain(6))
    assert lowered.program.op_names == ["dense"]


@pytest.mark.parametrize("case", ["read twice", "along time", "infinite", "grows the shape"])
def test_what_is_no_scale_of_the_weights_stays_an_op(case):
    constants = {"k": random(9) if case == "along time" else np.array(2, np.float32)}
    nodes = [node("Conv", "X W B", "a", pads=[1, 1]), node("Mul", "a k", "b"), node("Abs", "b")]
    if case == "read twice":
        nodes[-1] = node("Add", "a b")
    if case == "infinite":
        constants["k"] = np.array(1e38, np.float32)
    if case == "grows the shape":
        constants["k"] = np.full((2, 1, 1), 2, np.float32)
    feeds = {"X": random(1, 3, 9)}
    lowered = check(nodes, feeds, {**CONV, **constants}, atol=0 if case == "infinite" else TOLERANCE, rtol=TOLERANCE)
    assert lowered.program.op_names == ["conv", "binary", "binary" if case == "read twice" else "unary"]


@pytest.mark.parametrize("length", [3, 20])
def test_convolutions_of_channel_last_sequences_copy_nothing(length):
    """[N, T, C] sequences through Transpose, Conv, Relu, MaxPool and back."""
    constants = {"W": random(16, 16, 3, seed=1)}
    nodes = [
        node("Transpose", "X", "x", perm=[0, 2, 1]),
        node("Conv", "x W", "a", pads=[1, 1]),
        node("Relu", "a", "b"),
        node("MaxPool", "b", "c", kernel_shape=[2], strides=[2]),
        node("Transpose", "c", "d", perm=[0, 2, 1]),
        node("Abs", "d"),
    ]
    lowered = check(nodes, {"X": random(2, length, 16)}, constants, atol=chain(48))
    assert lowered.program.op_names == ["conv", "unary", "pool", "unary"]


@pytest.mark.parametrize("length", [3, 5])
@pytest.mark.parametrize("shape", [(-1,), (2, -1), (2, 16, 1, -1), (-1, 2, 16)])
def test_other_shapes_of_channel_last_results(length, shape):
    nodes = [node("Conv", "X W", "a"), node("Reshape", "a shape", "b"), node("Abs", "b", "c"), node("Neg", "c")]
    constants = {"W": random(16, 4, 3, seed=1), "shape": integers(*shape)}
    check(nodes, {"X": random(2, 4, length)}, constants, atol=chain(12))


def test_layouts_of_results_that_meet():
    """A channel-last result and a row-major one of the same shape."""
    nodes = [node("Conv", "X W", "a"), node("Add", "a U", "b"), node("Clip", "b", "c"), node("Pow", "c two")]
    constants = {"W": random(16, 4, 3, seed=1), "two": np.array(2, np.float32)}
    check(nodes, {"X": random(2, 4, 5), "U": random(2, 16, 3, seed=2)}, constants, atol=8 * chain(13))


@pytest.mark.parametrize(("length", "stride", "pads"), [(1, 1, [2, 2]), (2, 2, [2, 1]), (1, 1, [4, 0]), (1, 3, [0, 4])])
def test_taps_that_only_see_padding(length, stride, pads):
    constants = {"W": random(6, 3, 5, seed=1), "B": CONV["B"]}
    nodes = node("Conv", "X W B", pads=pads, strides=[stride])
    lowered = check(nodes, {"X": random(2, 3, length)}, constants, atol=TOLERANCE)
    positions = (length + sum(pads) - 5) // stride + 1
    assert lowered.program.macs < 2 * positions * 6 * 15


@pytest.mark.parametrize("ops", [("Mul", "Add"), ("Sub", "Add"), ("Sub k", "Sub")])
def test_one_weight_with_different_scales_of_the_same_constant(ops):
    """Packed weights are shared by what was done to them, not by the constants that it was done with."""
    constants = {**CONV, "k": random(1, CONV["W"].shape[0], 1, low=0.5, seed=9)}
    nodes = []
    for i, op in enumerate(ops):
        nodes.append(node("Conv", "X " + " ".join(CONV), f"c{i}"))
        nodes.append(node(op.split()[0], f"k c{i}" if " " in op else f"c{i} k", f"d{i}"))
    check([*nodes, node("Concat", "d0 d1", axis=0)], {"X": random(2, 3, 9)}, constants, opset=15, atol=4 * TOLERANCE)


def test_norms_that_differ_by_epsilon():
    nodes = [node("Conv", "X " + " ".join(CONV), "c0"), node("Conv", "X " + " ".join(CONV), "c1")]
    nodes += [node("BatchNormalization", f"c{i} s o m v", f"d{i}", epsilon=e) for i, e in enumerate((1e-5, 0.5))]
    nodes.append(node("Concat", "d0 d1", axis=0))
    check(nodes, {"X": random(2, 3, 9)}, {**CONV, **NORM}, opset=15, atol=4 * TOLERANCE)
