"""Element-wise operators, and what is refused: small random models against `onnx.reference` in float64."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper
from pipeline import (
    ULP,
    Arrays,
    against_onnxruntime,
    check,
    compile_model,
    integers,
    make_model,
    node,
    random,
    run_model,
)

from gateinfer.errors import UnsupportedOp

UNARY = {
    "Sigmoid": {}, "Tanh": {}, "Relu": {}, "LeakyRelu": {"alpha": 0.3}, "ThresholdedRelu": {"alpha": 0.2},
    "Elu": {"alpha": 1.5}, "Softsign": {}, "Softplus": {}, "Exp": {},
    "Neg": {}, "Abs": {}, "Erf": {}, "Floor": {}, "Ceil": {}, "Round": {}, "Sign": {}, "Sin": {}, "Cos": {},
    "Identity": {}, "Reciprocal": {},
}  # fmt: skip


@pytest.mark.parametrize("op", UNARY)
@pytest.mark.parametrize("shape", [(1,), (7, 33), (2, 3, 1, 5)])
def test_unary(op, shape):
    check(node(op, "X", **UNARY[op]), {"X": random(*shape, low=-4, high=4)}, rtol=2 * ULP, atol=2**-126)


def test_hard_sigmoid():
    """The sum may cancel, so the error is absolute: two roundings of values below 2."""
    check(node("HardSigmoid", "X", alpha=0.4, beta=0.3), {"X": random(9, 7, low=-4, high=4)}, atol=2 * ULP)


@pytest.mark.parametrize("op", ["Sqrt", "Log"])
def test_unary_of_positive(op):
    check(node(op, "X"), {"X": random(5, 21, low=0.01, high=9)}, rtol=2 * ULP, atol=2**-126)


@pytest.mark.parametrize("op", ["Relu", "Abs", "Neg", "Sign"])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_unary_of_integers(op, dtype):
    check(node(op, "X"), {"X": np.array([[-3, 0, 4, 2**31 - 1]], dtype)})


@pytest.mark.parametrize("op, opset", [("Celu", 12), ("HardSwish", 14), ("Mish", 18), ("Selu", 6), ("Swish", 24)])
def test_composed(op, opset):
    """Three roundings more than the activation's 2 ULP, and values below 5."""
    check(node(op, "X"), {"X": random(3, 17, low=-4, high=4)}, opset=opset, rtol=6 * ULP, atol=10 * ULP)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(approximate):
    """1 + erf cancels for negative x, so the error is absolute: 3 ULP of one, times |x| <= 4."""
    check(node("Gelu", "X", approximate=approximate), {"X": random(40, low=-4, high=4)}, atol=16 * ULP)


SHAPES = [((2, 3), (2, 3)), ((2, 3, 4), (4,)), ((3, 1), (1, 5)), ((), (2, 2)), ((1, 4, 1), (2, 1, 3)), ((0, 3), (1, 3))]


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Min", "Max", "Sum"])
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("opset", [8, 13])
def test_binary(op, shapes, opset):
    feeds = {"A": random(*shapes[0], seed=1), "B": random(*shapes[1], seed=2, low=0.5)}
    check(node(op, "A B"), feeds, opset=opset)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Min", "Max"])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_binary_of_integers(op, dtype):
    feeds = {"A": np.array([[7], [12], [-4]], dtype), "B": np.array([3, 2], dtype)}
    if op == "Div":
        feeds["A"] = abs(feeds["A"])  # onnx.reference rounds the quotient down, ONNX says toward zero
    check(node(op, "A B"), feeds, opset=14)


def test_integer_division_goes_toward_zero():
    feeds = {"A": integers(7, -7, 7, -7), "B": integers(2, 2, -2, -2)}
    model = make_model([node("Div", "A B")], feeds, {}, ["Y"], 14)
    assert run_model(model, feeds)["Y"].tolist() == [3, -3, -3, 3]


@pytest.mark.parametrize("op", ["Min", "Max", "Sum", "Mean"])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_variadic(op, count):
    feeds = {f"X{i}": random(*((1, 4) if i % 2 else (3, 4)), seed=i) for i in range(count)}
    against_onnxruntime([node(op, " ".join(feeds))], feeds, {}, opset=13, atol=count * ULP)


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0, 0.5, -1.5])
def test_pow_of_a_constant(power):
    check(node("Pow", "X P"), {"X": random(4, 9, low=0.1, high=3)}, {"P": np.float32(power)}, rtol=3 * ULP)


@pytest.mark.parametrize("base", [10.0, 2.0, 0.3, 1.0, 0.0, -2.0])
def test_pow_of_a_constant_base(base):
    """Positive bases but 1 have a logarithm, which makes an exponential of the power; the others need libm."""
    exponents = np.array([-np.inf, -44.0, -3.0, -0.7, 0.0, 1e-3, 0.7, 2.0, 5.0, 37.9, np.inf, np.nan], np.float32)
    check(node("Pow", "B X"), {"X": exponents}, {"B": np.float32(base)}, rtol=2 * ULP, atol=2.0**-126)


def test_pow_at_run_time():
    check(node("Pow", "X P"), {"X": random(4, 9, low=0.1, high=3), "P": random(9, high=3)}, rtol=3 * ULP)


def test_pow_with_integer_exponent():
    check(node("Pow", "X P"), {"X": random(4, 9)}, {"P": np.int64(2)}, opset=15)
    check(node("Pow", "X P"), {"X": random(4, 9, low=0.1), "P": integers(3)}, opset=15, rtol=3 * ULP)


@pytest.mark.parametrize("bounds", [(-0.5, 0.25), (None, 0.1), (-0.1, None), (None, None)])
@pytest.mark.parametrize("constant", [True, False])
def test_clip(bounds, constant):
    limits = {n: np.float32(v) for n, v in zip(("L", "H"), bounds, strict=True) if v is not None}
    names = " ".join(n if n in limits else "-" for n in ("L", "H"))
    feeds = {"X": random(5, 7)}
    check(node("Clip", f"X {names}"), feeds if constant else {**feeds, **limits}, limits if constant else {}, opset=13)


def test_clip_by_attributes_and_of_integers():
    check(node("Clip", "X", min=-0.3, max=0.2), {"X": random(5, 7)}, opset=6)
    limits = {"L": np.int64(-2), "H": np.int64(2**40)}
    check(node("Clip", "X L H"), {"X": integers(-5, 0, 2**50)}, limits, opset=13)


@pytest.mark.parametrize("slope", [(1,), (4,), (3, 1, 1), (2, 3, 5, 4)])
def test_prelu(slope):
    check(node("PRelu", "X S"), {"X": random(2, 3, 5, 4)}, {"S": random(*slope, seed=3)}, opset=16)


@pytest.mark.parametrize("shapes", [((2, 3), (2, 3), (2, 3)), ((2, 1), (3,), ()), ((1,), (4, 1), (1, 5))])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_])
def test_where(shapes, dtype):
    cond, a, b = (random(*shape, seed=i) for i, shape in enumerate(shapes))
    feeds = {"C": cond > 0, "A": (a * 9).astype(dtype), "B": (b * 9).astype(dtype)}
    check(node("Where", "C A B"), feeds, opset=16)


@pytest.mark.parametrize("op", ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"])
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64])
def test_comparison(op, dtype):
    feeds = {"A": np.array([[1], [2], [-3]], dtype), "B": np.array([1, 2, -3, 9], dtype)}
    check(node(op, "A B"), feeds, opset=16)


@pytest.mark.parametrize("op", ["And", "Or", "Xor", "Equal"])
def test_logic(op):
    check(node(op, "A B"), {"A": np.array([[True], [False]]), "B": np.array([True, False, True])}, opset=13)


def test_not():
    check(node("Not", "X"), {"X": np.array([True, False, True])}, opset=13)


@pytest.mark.parametrize("source", [np.float32, np.int32, np.int64, np.bool_])
@pytest.mark.parametrize("target", [np.float32, np.int32, np.int64, np.bool_])
def test_cast(source, target):
    values = np.array([0, 1, -1.75, 2.5, 100.9]).astype(source)
    to = helper.np_dtype_to_tensor_dtype(np.dtype(target))
    check(node("Cast", "X", to=to), {"X": values}, opset=13)


def test_cast_like():
    check(node("CastLike", "X L"), {"X": random(5, high=9), "L": integers(1)}, opset=19)


def test_is_nan():
    check(node("IsNaN", "X"), {"X": np.array([1, np.nan, np.inf, -np.nan], np.float32)}, opset=13)


def test_mod():
    check(node("Mod", "A B"), {"A": integers(7, -7, 7, -7, 0), "B": integers(3, 3, -3, -3, 5)}, opset=13)


def refused(nodes, feeds: Arrays, constants: Arrays | None = None, *, opset: int = 22, outputs=("Y",)) -> str:
    nodes = nodes if isinstance(nodes, list) else [nodes]
    inputs = make_model(nodes, feeds, constants or {}, outputs, opset)
    with pytest.raises(UnsupportedOp) as caught:
        compile_model(inputs, feeds)
    return str(caught.value)


def test_every_unsupported_node_is_listed():
    nodes = [node("Acos", "X", "a", name="best"), node("Relu", "X", "b"), node("Atan", "b", "Y", name="angle")]
    text = refused(nodes, {"X": random(3, 3)}, outputs=("a", "Y"))
    assert "best" in text and "angle" in text and "2 node(s)" in text


def test_uint64_is_refused_by_name():
    ones = np.ones(3, np.uint64)
    assert "uint64" in refused(node("Add", "A B", name="sum"), {"A": ones, "B": ones})


def test_run_time_weights_of_conv_are_refused():
    text = refused(node("Conv", "X W", name="conv"), {"X": random(1, 2, 8), "W": random(3, 2, 3)})
    assert "conv" in text and "W" in text


def test_indices_of_max_pool_are_refused():
    pool = node("MaxPool", "X", "Y I", kernel_shape=[2], name="pool")
    text = refused(pool, {"X": random(1, 1, 8)}, outputs=("Y", "I"))
    assert "pool" in text
