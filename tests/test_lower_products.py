"""MatMul, Gemm, convolutions and pools: small random models against float64 and onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from isas import ISAS, require_isa
from pipeline import (
    against_onnxruntime,
    chain,
    check,
    compare,
    compile_model,
    make_model,
    node,
    random,
    run_lowered,
)
from tolerance import product

import gateinfer as gi

MATMULS = [((3, 5), (5, 7)), ((2, 3, 5), (5, 7)), ((5,), (5, 7)), ((3, 5), (5,)), ((5,), (5,)),
           ((2, 1, 3, 5), (4, 5, 2)), ((1, 40), (40, 70)), ((3, 0), (0, 2)), ((0, 3), (3, 2))]  # fmt: skip


@pytest.mark.parametrize("shapes", MATMULS)
@pytest.mark.parametrize("known", ["", "A", "B"])
def test_matmul(shapes, known):
    arrays = {"A": random(*shapes[0]), "B": random(*shapes[1], seed=1)}
    feeds = {n: a for n, a in arrays.items() if n != known}
    check(node("MatMul", "A B"), feeds, {n: arrays[n] for n in known}, opset=13, atol=chain(shapes[0][-1]))


@pytest.mark.parametrize("shape", [(), (1,), (6,), (1, 6)])
@pytest.mark.parametrize("swap", [False, True])
def test_bias_is_fused(shape, swap):
    nodes = [node("MatMul", "X W", "a"), node("Add", "b a" if swap else "a b")]
    lowered = check(nodes, {"X": random(4, 5)}, {"W": random(5, 6), "b": random(*shape)}, opset=13, atol=chain(5))
    assert lowered.program.op_names == ["dense"]


@pytest.mark.parametrize("shape", [(4, 1), (4, 6), (3, 1, 6)])
def test_other_addends_are_not_fused(shape):
    nodes = [node("MatMul", "X W", "a"), node("Add", "a b")]
    check(nodes, {"X": random(4, 5)}, {"W": random(5, 6), "b": random(*shape)}, opset=13, atol=chain(6))


def test_matmul_of_a_transposed_value():
    nodes = [node("Transpose", "X", "a"), node("MatMul", "a W", "b"), node("Transpose", "b")]
    check(nodes, {"X": random(5, 4)}, {"W": random(5, 6)}, opset=13, atol=chain(5))


def test_matmul_used_twice_keeps_its_value():
    nodes = [node("MatMul", "X W", "a"), node("Add", "a b"), node("Relu", "a", "Z")]
    check(nodes, {"X": random(4, 5)}, {"W": random(5, 6), "b": random(6)}, outputs=("Y", "Z"), opset=13, atol=chain(6))


@pytest.mark.parametrize("trans", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("addend", [None, (), (1,), (6,), (4, 1), (1, 6), (4, 6)])
@pytest.mark.parametrize("known", ["BC", "B", "C", ""])
def test_gemm(trans, addend, known):
    a, b = (5, 4) if trans[0] else (4, 5), (6, 5) if trans[1] else (5, 6)
    arrays = {"A": random(*a), "B": random(*b, seed=1)}
    if addend is not None:
        arrays["C"] = random(*addend, seed=2)
    gemm = node("Gemm", " ".join(arrays), alpha=0.5, beta=1.5, transA=trans[0], transB=trans[1])
    feeds = {n: v for n, v in arrays.items() if n not in known}
    check(gemm, feeds, {n: v for n, v in arrays.items() if n in known}, opset=13, atol=chain(8))


def test_programs_share_packed_weights():
    cache: dict = {}
    x, w = random(4, 5), random(5, 6)
    model = make_model([node("MatMul", "X W")], {"X": x}, {"W": w}, ["Y"], 13)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    for rows in (4, 2):
        found = run_lowered(compile_model(model, {"X": x[:rows]}, cache=cache), {"X": x[:rows]})
        compare(found["Y"], x[:rows].astype(float) @ w, 0, chain(5))
    assert len(cache) == 1


CONVS = [
    dict(x=(1, 3, 20), w=(4, 3, 5)),
    dict(x=(2, 4, 17), w=(6, 2, 3), group=2, strides=[2], pads=[2, 1]),
    dict(x=(1, 5, 33), w=(5, 1, 4), group=5, dilations=[3], pads=[0, 4]),
    dict(x=(1, 2, 9), w=(3, 2, 1)),
    dict(x=(1, 1, 64), w=(18, 1, 16), strides=[8]),
    dict(x=(2, 3, 8, 9), w=(4, 3, 3, 3), pads=[1, 1, 1, 1]),
    dict(x=(1, 4, 7, 11), w=(8, 2, 3, 5), group=2, strides=[2, 1], dilations=[1, 2], pads=[0, 2, 1, 3]),
    dict(x=(1, 6, 5, 5), w=(12, 1, 3, 3), group=6, pads=[2, 2, 0, 0]),
    dict(x=(1, 2, 8, 8), w=(2, 2, 1, 1), strides=[3, 3]),
]


@pytest.mark.parametrize("case", CONVS, ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_conv(case, bias):
    attrs = {k: v for k, v in case.items() if k not in "xw"}
    weights = {"W": random(*case["w"], seed=1)}
    if bias:
        weights["B"] = random(case["w"][0], seed=2)
    conv = node("Conv", "X " + " ".join(weights), kernel_shape=case["w"][2:], **attrs)
    check(conv, {"X": random(*case["x"])}, weights, opset=11, atol=chain(int(np.prod(case["w"][1:]))))


SHORT_LINES = [
    dict(length=4, kernel=3, pads=[1, 1]),
    dict(length=4, kernel=3, pads=[1, 1], strides=[2]),
    dict(length=2, kernel=7, pads=[3, 3]),
    dict(length=5, kernel=4, pads=[6, 0], dilations=[2]),
    dict(length=9, kernel=3, pads=[0, 2], strides=[2], group=2),
    dict(length=7, kernel=5, pads=[4, 1], strides=[3], dilations=[2], group=3),
    dict(length=3, kernel=2, pads=[5, 5], strides=[2]),
]


@pytest.mark.parametrize("case", SHORT_LINES, ids=str)
@pytest.mark.parametrize("channels", [1, 5, 16])
@pytest.mark.parametrize("isa", ["scalar", *ISAS])
def test_padding_of_short_lines_leaves_the_bits(case, channels, isa):
    """Where a line lies channel by channel, products with zeros are left out; of a batch, all are made."""
    require_isa(isa)
    attrs = {k: v for k, v in case.items() if k not in ("length", "kernel")}
    group = case.get("group", 1)
    weights = {"W": random(32 * group, channels, case["kernel"], seed=1), "B": random(32 * group, seed=2)}
    swapped = [node("Transpose", "X", "x", perm=[0, 2, 1]), node("Conv", "x W B", "y", **attrs)]
    nodes = [*swapped, node("Transpose", "y", perm=[0, 2, 1])]
    x = random(3, case["length"], channels * group)

    def found(x: np.ndarray) -> np.ndarray:
        model = make_model(nodes, {"X": x}, weights, ["Y"], 13)
        return run_lowered(compile_model(model, {"X": x}, isa=isa), {"X": x})["Y"]

    check(nodes, {"X": x[:1]}, weights, opset=13, atol=chain(channels * case["kernel"]))
    for row, wanted in enumerate(found(x)):
        assert found(x[row : row + 1]).tobytes() == wanted.tobytes()


@pytest.mark.parametrize("weight, bias", [(-1.0, -0.0), (np.inf, 1.0)])
def test_padding_of_short_lines_beside_what_zeros_show_in(weight, bias):
    """The sign of 0, and infinity times 0, are the same in a batch and alone."""
    weights = {"W": np.ones((16, 16, 3), np.float32), "B": np.full(16, bias, np.float32)}
    weights["W"][:, :, 1:] = weight
    nodes = [node("Transpose", "X", "x", perm=[0, 2, 1]), node("Conv", "x W B", "y", pads=[1, 1])]
    nodes.append(node("Transpose", "y", perm=[0, 2, 1]))
    for x in (np.zeros((2, 2, 16), np.float32), random(2, 2, 16)):
        model = make_model(nodes, {"X": x}, weights, ["Y"], 13, np.float32)
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
        loaded = gi.load(model.SerializeToString(), allow_nonfinite=True)
        (both,), (one,) = loaded.run(None, {"X": x}), loaded.run(None, {"X": x[:1]})
        assert one.tobytes() == both[:1].tobytes()


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("op", ["Conv", "MaxPool", "AveragePool"])
@pytest.mark.parametrize("shape, kernel, stride", [((1, 2, 10), [4], [3]), ((1, 2, 7, 6), [2, 3], [2, 1])])
def test_auto_pad(mode, op, shape, kernel, stride):
    """onnxruntime is the oracle: the reference places SAME padding differently for even kernels."""
    feeds = {"X": random(*shape)}
    weights = {"W": random(3, 2, *kernel)} if op == "Conv" else {}
    window = node(op, "X W" if weights else "X", kernel_shape=kernel, strides=stride, auto_pad=mode)
    against_onnxruntime([window], feeds, weights, opset=11, atol=chain(2 * int(np.prod(kernel))))


CONV_TRANSPOSES = [
    dict(x=(1, 3, 9), w=(3, 4, 5)),
    dict(x=(2, 4, 7), w=(4, 3, 3), group=2, strides=[2], pads=[1, 1], output_padding=[1]),
    dict(x=(1, 2, 6), w=(2, 3, 4), strides=[3], dilations=[2], pads=[4, 0]),
    dict(x=(1, 3, 4, 5), w=(3, 2, 3, 3), strides=[1, 2], pads=[0, 1, 2, 1]),
    dict(x=(1, 4, 5, 5), w=(4, 1, 3, 3), group=4, dilations=[2, 1], pads=[5, 3, 2, 1]),
    dict(x=(1, 2, 5, 4), w=(2, 3, 4, 3), strides=[3, 2], auto_pad="SAME_UPPER"),
    dict(x=(1, 2, 5, 4), w=(2, 3, 4, 3), strides=[3, 2], output_shape=[14, 9], auto_pad="SAME_LOWER"),
    dict(x=(1, 2, 5), w=(2, 3, 2), strides=[4], auto_pad="SAME_UPPER"),  # strides step over the window
    dict(x=(1, 2, 5, 4), w=(2, 3, 1, 3), strides=[3, 2], auto_pad="SAME_LOWER"),
]


@pytest.mark.parametrize("case", CONV_TRANSPOSES, ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_conv_transpose(case, bias):
    attrs = {k: v for k, v in case.items() if k not in "xw"}
    weights = {"W": random(*case["w"], seed=1)}
    if bias:
        weights["B"] = random(case["w"][1] * case.get("group", 1), seed=2)
    conv = node("ConvTranspose", "X " + " ".join(weights), kernel_shape=case["w"][2:], **attrs)
    against_onnxruntime([conv], {"X": random(*case["x"])}, weights, opset=11, atol=chain(36))


POOLS = [
    dict(x=(1, 3, 13), kernel_shape=[3]),
    dict(x=(2, 2, 14), kernel_shape=[4], strides=[3], pads=[1, 2]),
    dict(x=(2, 2, 14), kernel_shape=[4], strides=[3], pads=[1, 2], ceil_mode=1),
    dict(x=(1, 2, 9, 8), kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]),
    dict(x=(1, 2, 9, 8), kernel_shape=[3, 3], strides=[2, 3], ceil_mode=1),
    dict(x=(1, 1, 12, 12), kernel_shape=[2, 3], dilations=[3, 2], pads=[1, 1, 0, 2]),
]


@pytest.mark.parametrize("case", POOLS, ids=str)
@pytest.mark.parametrize("op, extra", [("MaxPool", {}), ("AveragePool", {}), ("AveragePool", {"count_include_pad": 1})])
def test_pool(case, op, extra):
    attrs = {k: v for k, v in case.items() if k != "x"}
    pool = node(op, "X", **attrs, **extra)
    against_onnxruntime([pool], {"X": random(*case["x"])}, {}, opset=19, atol=product(10, 3))


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("shape", [(2, 3, 7), (1, 3, 4, 5), (1, 2, 3, 2, 2)])
def test_global_pool(op, shape):
    against_onnxruntime([node(op, "X")], {"X": random(*shape)}, {}, opset=13, atol=product(20, 1))
