"""Every native operator that is not a recurrent cell: small random models against `onnx.reference` in float64."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper
from pipeline import Arrays, compile_model, make_model, reference, run_lowered, run_model
from tolerance import product

from gateinfer.errors import ShapeError, UnsupportedOp

ULP = 2.0**-23
EXACT = 0.0
"""Moves, selections, and single correctly rounded operations on float32 against the rounded float64 result."""


def random(*shape: int, seed: int = 0, low: float = -1.0, high: float = 1.0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).uniform(low, high, shape).astype(np.float32)


def integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def node(op: str, inputs: str, outputs: str = "Y", **attrs):
    """A node; names are separated by spaces, "-" is an omitted one."""
    return helper.make_node(
        op, [n.strip("-") for n in inputs.split()], [n.strip("-") for n in outputs.split()], **attrs
    )


def check(
    nodes, feeds: Arrays, constants: Arrays | None = None, *, opset: int = 22, outputs=("Y",), rtol=0.0, atol=0.0
):
    """Runs the model natively and compares shapes, dtypes and values of all outputs with the reference."""
    nodes = nodes if isinstance(nodes, list) else [nodes]
    model = make_model(nodes, feeds, constants or {}, outputs, opset)
    expected = reference(model, feeds)
    lowered = compile_model(model, feeds)
    found = run_lowered(lowered, feeds)
    for name in outputs:
        compare(found[name], expected[name], rtol, atol)
    return lowered


def compare(found: np.ndarray, expected: np.ndarray, rtol: float, atol: float) -> None:
    assert found.shape == expected.shape
    assert found.dtype == (np.float32 if expected.dtype.kind == "f" else expected.dtype)
    if rtol == atol == 0 and expected.dtype == np.float64:
        with np.errstate(over="ignore"):
            expected = expected.astype(np.float32)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


def chain(K: int) -> float:
    """Absolute error of a K-term product of values in [-1, 1]: uniform terms keep partial sums below 2 sqrt(K) + 1."""
    return product(K + 1, min(K, 2 * np.sqrt(K)) + 1)


# ---- element-wise ----------------------------------------------------------------------------------------------------

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


# ---- shapes ----------------------------------------------------------------------------------------------------------


def test_views_emit_no_op():
    nodes = [
        node("Transpose", "X", "a", perm=[0, 2, 1]),
        node("Slice", "a s e", "b"),
        node("Unsqueeze", "b zero", "c"),
        node("Squeeze", "c zero", "d"),
        node("Split", "d", "p q", axis=0, num_outputs=2),
        node("Expand", "p shape", "f"),
        node("Relu", "f"),
    ]
    constants = {"s": integers(0, 1), "e": integers(2, 3), "zero": integers(0), "shape": integers(4, 1, 2, 3)}
    lowered = check(nodes, {"X": random(2, 3, 4)}, constants)
    assert lowered.program.op_names == ["unary"]


def test_outputs_are_written_in_place():
    """A producer writes through Reshape, Transpose of equal last axes, and Concat into the output."""
    nodes = [
        node("Relu", "X", "a"),
        node("Tanh", "X", "b"),
        node("Unsqueeze", "a zero", "c"),
        node("Reshape", "b shape", "d"),
        node("Concat", "c d", "e", axis=0),
        node("Transpose", "e", perm=[1, 0, 2]),
    ]
    lowered = check(nodes, {"X": random(3, 4)}, {"zero": integers(0), "shape": integers(1, 3, 4)}, rtol=2 * ULP)
    assert lowered.program.op_names == ["unary", "unary"]


def test_directions_are_written_side_by_side():
    """[T, D, N, H] to [T, N, D H] behind a bidirectional layer: the layer writes there, nothing is copied."""
    nodes = [
        node("GRU", "X W R", "a", hidden_size=2, direction="bidirectional"),
        node("Transpose", "a", "b", perm=[0, 2, 1, 3]),
        node("Reshape", "b s", "c"),
        node("Relu", "c"),
    ]
    constants = {"W": random(2, 6, 3), "R": random(2, 6, 2), "s": integers(0, 0, -1)}
    feeds = {"X": random(5, 4, 3)}
    model = make_model(nodes, feeds, constants, ["Y"], 14, np.float32)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    lowered = compile_model(model, feeds)
    assert lowered.program.op_names.count("copy") == 0
    compare(run_lowered(lowered, feeds)["Y"], session.run(None, feeds)[0].astype(np.float64), 0, 1e-6)


def test_outputs_that_are_inputs_constants_or_views():
    nodes = [node("Identity", "X", "same"), node("Transpose", "X", "turned"), node("Identity", "K", "known")]
    check(nodes, {"X": random(3, 4)}, {"K": random(2)}, outputs=("same", "turned", "known"))


def test_one_value_in_two_outputs_and_joined_with_itself():
    nodes = [
        node("Relu", "X", "a"),
        node("Concat", "a a", "Y", axis=1),
        node("Reshape", "a flat", "Z"),
        node("Neg", "a", "b"),
        node("Concat", "a b", "W", axis=0),
    ]
    check(nodes, {"X": random(3, 4)}, {"flat": integers(-1)}, outputs=("Y", "Z", "W", "a"))


@pytest.mark.parametrize("perm", [None, [0, 1, 2], [2, 0, 1], [1, 0, 2]])
@pytest.mark.parametrize("shape", [[-1], [6, 4], [0, -1], [2, 2, 3, 2], [4, 3, 2, 1]])
def test_reshape_of_transposed(perm, shape):
    turned = np.transpose(np.empty((2, 3, 4)), perm).shape
    if shape == [0, -1]:
        shape = [turned[0], -1]
    nodes = [node("Transpose", "X", "a", **({"perm": perm} if perm else {})), node("Reshape", "a s")]
    check(nodes, {"X": random(2, 3, 4)}, {"s": integers(*shape)})


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_flatten(axis):
    check(node("Flatten", "X", axis=axis), {"X": random(2, 3, 4)}, opset=13)


@pytest.mark.parametrize(
    "start, end, axis, step",
    [(0, 2, 0, 1), (1, 2**62, 1, 1), (-2, -1, -1, 1), (-1, -(2**62), 2, -1), (4, 0, -1, -2), (9, 1, 1, -1)],
)
def test_slice(start, end, axis, step):
    constants = {"s": integers(start), "e": integers(end), "a": integers(axis), "t": integers(step)}
    check(node("Slice", "X s e a t"), {"X": random(3, 4, 5)}, constants, opset=13)


def test_slice_by_attributes():
    model = make_model([node("Relu", "X")], {"X": random(3, 4)}, {}, ["Y"], 9)
    model.graph.node[0].CopyFrom(node("Slice", "X", starts=[1, -2], ends=[3, 9], axes=[0, 1]))
    x = random(3, 4)
    np.testing.assert_array_equal(run_model(model, {"X": x})["Y"], x[1:3, -2:])


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("opset", [13, 22])
def test_split(axis, opset):
    sizes = {0: (1, 5), 1: (2, 3), -1: (4, 3)}[axis]
    nodes = node("Split", "X s", "A B", axis=axis)
    check(nodes, {"X": random(6, 5, 7)}, {"s": integers(*sizes)}, opset=opset, outputs=("A", "B"))


def test_split_in_uneven_parts():
    check(node("Split", "X", "A B C", axis=1, num_outputs=3), {"X": random(2, 7)}, opset=18, outputs=("A", "B", "C"))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concat(axis):
    shapes = [[2, 3, 4] for _ in range(4)]
    for shape, extent in zip(shapes, (1, 0, 3, 2), strict=True):
        shape[axis] = extent
    feeds = {f"X{i}": random(*shape, seed=i) for i, shape in enumerate(shapes)}
    check(node("Concat", " ".join(feeds), axis=axis), feeds, opset=13)


def test_dense_growth():
    """Each layer reads what it is joined with: no op may write to a tensor it reads."""
    weights = {"W1": random(4, 3), "W2": random(7, 5)}
    nodes = [
        node("Relu", "X", "x"),
        node("MatMul", "x W1", "a"),
        node("Concat", "x a", "b", axis=1),
        node("MatMul", "b W2", "c"),
        node("Concat", "b c", axis=1),
    ]
    check(nodes, {"X": random(2, 4)}, weights, atol=chain(40))


PADS = [[0, 1, 2, 1], [2, 0, 0, 3], [-1, 1, 0, -2], [0, -1, 0, -1]]


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("pads", PADS)
def test_pad(mode, pads):
    """Negative padding crops before anything is repeated."""
    x = random(4, 5)
    model = make_model([node("Pad", "X p", mode=mode)], {"X": x}, {"p": integers(0, 0, 0, 0)}, ["Y"], 19)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(integers(*pads), "p"))
    crop = tuple(slice(-min(0, b), n + min(0, e)) for n, b, e in zip(x.shape, pads[:2], pads[2:], strict=True))
    grow = [(max(0, b), max(0, e)) for b, e in zip(pads[:2], pads[2:], strict=True)]
    np.testing.assert_array_equal(run_model(model, {"X": x})["Y"], np.pad(x[crop], grow, mode=mode))


def test_pad_with_value_axes_and_attributes():
    known = {"p": integers(1, 2), "a": integers(-1)}
    feeds, value = {"X": random(2, 3)}, {"v": np.float32(3.5)}
    check(node("Pad", "X p v a"), feeds, {**known, **value}, opset=18)
    check(node("Pad", "X p v a"), {**feeds, **value}, known, opset=18)
    check(node("Pad", "X", mode="constant", pads=[1, 0, 0, 2], value=2.0), {"X": random(2, 3)}, opset=2)


@pytest.mark.parametrize("repeats", [[1, 1, 1], [2, 1, 3], [1, 4, 1], [3, 2, 2]])
def test_tile(repeats):
    check(node("Tile", "X r"), {"X": random(2, 3, 4)}, {"r": integers(*repeats)}, opset=13)


def test_expand():
    check(node("Expand", "X s"), {"X": random(3, 1)}, {"s": integers(2, 1, 4)}, opset=13)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("index", [2, -1, [0], [0, 2], [2, 1, 0], [1, 1], [0, 2, 1], [[0, 1], [2, 0]], [[0], [1]]])
@pytest.mark.parametrize("constant", [True, False])
def test_gather(axis, index, constant):
    index = {"i": np.array(index, np.int64)}
    feeds = {"X": random(4, 5, 4)}
    check(
        node("Gather", "X i", axis=axis), feeds if constant else {**feeds, **index}, index if constant else {}, opset=13
    )


def test_embedding():
    check(node("Gather", "T i"), {"i": np.array([[1, 9, -1]], np.int32)}, {"T": random(10, 6)}, opset=13)


def test_gather_out_of_range():
    model = make_model([node("Gather", "T i")], {"i": integers(3)}, {"T": random(4, 6)}, ["Y"], 13)
    with pytest.raises(ShapeError, match="range"):
        run_model(model, {"i": integers(4)})


@pytest.mark.parametrize("index", [[[1]], [[0], [3]], [[3], [1], [0]], [[[1, 2], [1, 3]], [[2, 0], [-1, -1]]]])
def test_scatter(index):
    index = np.array(index, np.int64)
    updates = random(*index.shape[:-1], *(4, 5, 3)[index.shape[-1] :], seed=5)
    check(node("ScatterND", "X i U"), {"X": random(4, 5, 3), "U": updates}, {"i": index}, opset=16)


def test_dropout():
    check(node("Dropout", "X", "Y M"), {"X": random(3, 4)}, opset=13, outputs=("Y", "M"))


def test_rank_nine_collapses():
    shape = (1, 2, 1, 2, 1, 1, 2, 1, 3)
    nodes = [node("Reshape", "X s", "a"), node("Relu", "a", "b"), node("Concat", "b b", axis=8)]
    check(nodes, {"X": random(24)}, {"s": integers(*shape)})


# ---- products --------------------------------------------------------------------------------------------------------

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


# ---- windows ---------------------------------------------------------------------------------------------------------

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


def against_onnxruntime(nodes, feeds: Arrays, constants: Arrays, *, opset: int, atol: float) -> None:
    model = make_model(nodes, feeds, constants, ["Y"], opset, np.float32)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, feeds)
    compare(run_model(model, feeds)["Y"], expected.astype(np.float64), 0, atol)


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("shape", [(2, 3, 7), (1, 3, 4, 5), (1, 2, 3, 2, 2)])
def test_global_pool(op, shape):
    against_onnxruntime([node(op, "X")], {"X": random(*shape)}, {}, opset=13, atol=product(20, 1))


# ---- reductions and normalisation ------------------------------------------------------------------------------------

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


# ---- refusals --------------------------------------------------------------------------------------------------------


def refused(nodes, feeds: Arrays, constants: Arrays | None = None, *, opset: int = 22, outputs=("Y",)) -> str:
    nodes = nodes if isinstance(nodes, list) else [nodes]
    inputs = make_model(nodes, feeds, constants or {}, outputs, opset)
    with pytest.raises(UnsupportedOp) as caught:
        compile_model(inputs, feeds)
    return str(caught.value)


def test_every_unsupported_node_is_listed():
    nodes = [node("ArgMax", "X", "a", name="best"), node("Relu", "X", "b"), node("Atan", "b", "Y", name="angle")]
    text = refused(nodes, {"X": random(3, 3)}, outputs=("a", "Y"))
    assert "best" in text and "angle" in text and "2 node(s)" in text


def test_float64_is_refused_by_name():
    text = refused(node("Add", "A B", name="sum"), {"A": np.ones(3), "B": np.ones(3)})
    assert "float64" in text


def test_run_time_weights_of_conv_are_refused():
    text = refused(node("Conv", "X W", name="conv"), {"X": random(1, 2, 8), "W": random(3, 2, 3)})
    assert "conv" in text and "W" in text


def test_indices_of_max_pool_are_refused():
    pool = node("MaxPool", "X", "Y I", kernel_shape=[2], name="pool")
    text = refused(pool, {"X": random(1, 1, 8)}, outputs=("Y", "I"))
    assert "pool" in text
