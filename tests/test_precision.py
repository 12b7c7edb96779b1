"""`precision=`: weights in 16 bits. The oracle is exact: the float32 model with the same weights rounded beforehand."""

from __future__ import annotations

import pickle

import numpy as np
import onnx
import pytest
from nets import recurrent_net
from onnx import numpy_helper

import gateinfer as gi
from gateinfer.errors import GateInferError, ModelError
from gateinfer.lower.target import SMALL_WEIGHTS, Target

SIZES = [(5, 7), (16, 16), (33, 48), (64, 100), (70, 131)]
"""(input_size, hidden_size): weights on both sides of SMALL_WEIGHTS, odd sums, widths that fill no block."""


def _rounded(model: bytes, precision: str) -> bytes:
    """The file with W, R and matrices rounded; biases as they are."""
    proto = onnx.load_from_string(model)
    target = Target("auto", precision)
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.ndim >= 2 and array.dtype == np.float32 and not (array.ndim == 2 and array.shape[0] == 1):
            tensor.CopyFrom(numpy_helper.from_array(target.rounded(array), tensor.name))
    return proto.SerializeToString()


def _run(model: gi.Model, x: np.ndarray) -> list[np.ndarray]:
    stream = model.stream()
    outputs = np.concatenate([stream(frame).ravel() for frame in x])
    return [outputs, *(np.array(a) for a in stream.state.arrays.values())]


def _frames(model: gi.Model, steps: int = 6) -> np.ndarray:
    shape = model.inputs[0].type.extents
    return np.random.default_rng(3).standard_normal((steps, *shape)).astype(np.float32)


@pytest.mark.parametrize("isa", ["scalar", "auto"])
@pytest.mark.parametrize("precision", ["bf16", "f16"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_the_bits_are_those_of_rounded_weights(op: str, sizes: tuple[int, int], precision: str, isa: str) -> None:
    net = recurrent_net(op, *sizes, dense=37, seq=2, batch=1)
    model, expected = gi.load(net, precision=precision, isa=isa), gi.load(_rounded(net, precision), isa=isa)
    assert model.precision == precision
    x = _frames(model)
    for got, wanted in zip(_run(model, x), _run(expected, x), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_large_weights_take_half_the_memory(precision: str) -> None:
    net = recurrent_net("LSTM", 128, 128, dense=0, seq=1, batch=1)
    plans = [gi.load(net, precision=p).stream()._plan({"x": (1, 1, 128)}, {}, ())[0] for p in ("f32", precision)]
    whole, half = (sum(plan.lowered.program.constant_bytes.values()) for plan in plans)
    assert 0.5 <= half / whole < 0.52


@pytest.mark.parametrize("elements", [SMALL_WEIGHTS, SMALL_WEIGHTS + 1])
def test_small_weights_are_rounded_but_kept_in_32_bits(elements: int) -> None:
    assert Target("auto", "bf16").format(elements) == ("f32" if elements <= SMALL_WEIGHTS else "bf16")


def test_rounding_is_to_nearest_even() -> None:
    one = np.float32(1)
    values = np.array([one + 2**-8, one + 3 * 2**-8, one + 2**-8 + 2**-20, -one - 2**-8, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(
        Target("auto", "bf16").rounded(values), np.array([1, 1 + 2**-6, 1 + 2**-7, -1, np.inf, np.nan], np.float32)
    )


@pytest.mark.parametrize("stride", [1, 3])
def test_float16_rounds_as_numpy_does(stride: int) -> None:
    bits = np.random.default_rng(7).integers(0, 2**32, 200_000, np.uint64).astype(np.uint32)
    values = bits.view(np.float32)
    near = np.clip(values[np.isfinite(values)] % np.float32(65519), -65519, 65519)
    values = np.concatenate([near, near * np.float32(2**-20), [np.inf, np.nan]]).astype(np.float32)[::stride]
    rounded, expected = Target("auto", "f16").rounded(values), values.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(rounded, expected)
    np.testing.assert_array_equal(np.signbit(rounded), np.signbit(values))


@pytest.mark.parametrize(("precision", "most", "beyond"), [("f16", 65519.99, 65520), ("bf16", 3.3961e38, 3.3962e38)])
def test_finite_weights_that_would_be_infinite_are_refused(precision: str, most: float, beyond: float) -> None:
    target = Target("auto", precision)
    assert np.isfinite(target.rounded(np.array([most, -most], np.float32))).all()
    for weight in (beyond, -beyond):
        with pytest.raises(ModelError, match="a weight of .* is beyond"):
            target.rounded(np.array([1, weight], np.float32))


@pytest.mark.parametrize("seq", [1, "T"])
def test_load_refuses_a_weight_beyond_float16_and_bf16_takes_it(seq: int | str) -> None:
    net = onnx.load_from_string(recurrent_net("LSTM", 4, 5, dense=0, seq=seq, batch=1))
    tensor = next(t for t in net.graph.initializer if t.name == "W")
    array = numpy_helper.to_array(tensor).copy()
    array.flat[3] = 7e4
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    with pytest.raises(ModelError, match="70000 is beyond float16.*bf16"):
        gi.load(net.SerializeToString(), precision="f16")
    gi.load(net.SerializeToString(), precision="bf16").stream()


@pytest.mark.parametrize("wrong", ["f64", "", None, 16, ["bf16"]])
def test_unknown_precisions_are_refused(wrong: object) -> None:
    with pytest.raises(GateInferError, match="precision="):
        gi.load(recurrent_net("GRU", 4, 5, dense=0, seq=1, batch=1), precision=wrong)


def test_validate_says_what_16_bits_change() -> None:
    net = recurrent_net("GRU", 70, 131, dense=0, seq=1, batch=1)
    model = gi.load(net, precision="bf16")
    report = gi.validate(model, list(_frames(model)), atol=0.05)
    rows = {row.oracle: row.max_abs for row in report.rows if row.output == model.outputs[0].name}
    assert 0 < rows["f32"] < 0.05 and report.ok
    exact = gi.validate(gi.load(net), list(_frames(model)), oracles=["f32"])
    assert exact.max_abs == 0


def test_a_pickled_model_keeps_its_target() -> None:
    model = gi.load(recurrent_net("GRU", 4, 5, dense=0, seq=1, batch=1), precision="f16", threads=2, keep_hot=0.5)
    again = pickle.loads(pickle.dumps(model))
    assert (again.precision, again.threads, again.plans.target.team.keep_hot) == ("f16", 2, 0.5)
