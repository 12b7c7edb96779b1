"""Reductions, softmax and normalisation: small random models against float64 and onnxruntime."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from pipeline import (
    ULP,
    Arrays,
    against_onnxruntime,
    check,
    compare,
    integers,
    make_model,
    node,
    random,
    run_model,
)
from tolerance import product

REDUCTIONS = ["Mean", "Sum", "Max", "Min", "Prod", "L2", "L1", "SumSquare", "LogSum"]


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("axes", [None, [0], [1], [-1], [0, 2], [-2, 0]])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reduce(op, axes, keepdims):
    constants = {} if axes is None else {"a": integers(*axes)}
    reduce = node(f"Reduce{op}", "X" if axes is None else "X a", keepdims=keepdims)
    check(reduce, {"X": random(3, 4, 5, low=0.5)}, constants, opset=18, rtol=60 * ULP)


@pytest.mark.parametrize("op", ["Mean", "Sum", "Max"])
def test_reduce_by_attribute(op):
    check(node(f"Reduce{op}", "X", axes=[1, -1], keepdims=0), {"X": random(3, 4, 5, low=0.5)}, opset=11, rtol=20 * ULP)


@pytest.mark.parametrize("axes", [[0], [1, -1]])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_log_sum_exp(axes, keepdims):
    """Figures up to 90, where exp alone would overflow; the logarithm's argument is within 80 ULP."""
    reduce, x = node("ReduceLogSumExp", "X a", keepdims=keepdims), random(3, 4, 5, low=-90, high=90)
    check(reduce, {"X": x}, {"a": integers(*axes)}, opset=18, rtol=2 * ULP, atol=80 * ULP)


def test_log_sum_exp_of_infinity():
    x = np.array([[np.inf, 1], [-np.inf, -np.inf], [-np.inf, np.inf], [np.nan, np.inf]], np.float32)
    against_onnxruntime([node("ReduceLogSumExp", "X a")], {"X": x}, {"a": integers(1)}, opset=18, atol=0)


@pytest.mark.parametrize("op", ["Sum", "Max", "Min", "Prod"])
def test_reduce_integers(op):
    check(node(f"Reduce{op}", "X", keepdims=0), {"X": np.array([[3, -4], [5, 9]], np.int64)}, opset=18)


@pytest.mark.parametrize("axes", [None, []])
def test_reduce_nothing(axes):
    constants = {} if axes is None else {"a": integers()}
    check(node("ReduceSum", "X" if axes is None else "X a", noop_with_empty_axes=1), {"X": random(3, 4)}, constants)


@pytest.mark.parametrize("op", ["Sum", "Prod", "L2", "Max", "Min"])
def test_reduce_no_elements(op):
    check(node(f"Reduce{op}", "X a", keepdims=0), {"X": random(2, 0, 3)}, {"a": integers(1)}, opset=20)


def test_mean_of_no_elements():
    against_onnxruntime([node("ReduceMean", "X a")], {"X": random(2, 0, 3)}, {"a": integers(1)}, opset=20, atol=0)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("opset", [11, 13])
def test_softmax(op, axis, opset):
    """exp is 2 ULP, the sum of at most 20 positive terms and the quotient round 22 times."""
    feeds = {"X": random(3, 4, 5, low=-6, high=6)}
    check_softmax(node(op, "X", axis=axis), feeds, opset)


def test_softmax_default_axis():
    for opset in (11, 13):
        check_softmax(node("Softmax", "X"), {"X": random(2, 3, 4)}, opset)


def check_softmax(softmax, feeds: Arrays, opset: int) -> None:
    """The reference knows opset 13 only; before, trailing axes count as one."""
    if opset >= 13:
        check(softmax, feeds, opset=opset, rtol=12 * ULP, atol=24 * ULP)
    else:
        against_onnxruntime([softmax], feeds, {}, opset=opset, atol=48 * ULP)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 7), (1, 3, 4, 5)])
@pytest.mark.parametrize("constant", [True, False])
def test_batch_norm(shape, constant):
    parameters = {n: random(3, seed=i) for i, n in enumerate("sbm")} | {"v": random(3, low=0.2)}
    feeds = {"X": random(*shape)}
    check(
        node("BatchNormalization", "X s b m v", epsilon=1e-3),
        feeds if constant else {**feeds, **parameters},
        parameters if constant else {},
        opset=15,
        atol=24 * ULP,
    )


@pytest.mark.parametrize("axis", [-1, 1, 0])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm(axis, bias):
    shape = (3, 4, 5)
    parameters = {"s": random(*shape[axis:])} | ({"b": random(*shape[axis:], seed=4)} if bias else {})
    norm = node("LayerNormalization", "X " + " ".join(parameters), axis=axis)
    check(norm, {"X": random(*shape)}, parameters, opset=17, atol=4 * product(60, 2))


@pytest.mark.parametrize("shape", [(2, 3, 8), (1, 3, 4, 5)])
def test_instance_norm(shape):
    parameters = {"s": random(3), "b": random(3, seed=1)}
    norm = node("InstanceNormalization", "X s b")
    check(norm, {"X": random(*shape)}, parameters, opset=6, atol=4 * product(20, 2))


@pytest.mark.parametrize("axis", [-1, 1])
def test_layer_norm_statistics(axis):
    shape = (3, 4, 5)
    norm = node("LayerNormalization", "X s", "Y Mean InvStdDev", axis=axis)
    model = make_model([norm], {"X": random(*shape)}, {"s": random(*shape[axis:])}, ["Y", "Mean", "InvStdDev"], 17)
    feeds = {"X": random(*shape)}
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = run_model(model, feeds)
    for name, expected in zip(found, session.run(list(found), feeds), strict=True):
        compare(found[name], expected.astype(np.float64), 0, 4 * product(60, 2))
