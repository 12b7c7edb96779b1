"""Gathers, scatters, orders, rearrangements and Einsum against the reference operators."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from pipeline import chain, check, compile_model, integers, make_model, node, random, run_model

from gateinfer.errors import ShapeError, UnsupportedOp

X = random(3, 4, 5, seed=1)


def indices(*shape: int, low: int, high: int, dtype: type = np.int64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).integers(low, high, shape).astype(dtype)


def against_onnxruntime(nodes: onnx.NodeProto, feeds: dict, constants: dict, opset: int = 18, **kind) -> None:
    """Where the reference operators are wrong or absent."""
    model = make_model([nodes], feeds, constants, ["Y"], opset, kind.get("dtype", np.float32))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(run_model(model, feeds)["Y"], session.run(None, feeds)[0])


# ---- gathers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.int32, np.bool_])
def test_gather_nd_of_every_type(dtype):
    data = (X * 9).astype(dtype)
    check(node("GatherND", "X i"), {"X": data, "i": indices(6, 2, low=-3, high=3)})


@pytest.mark.parametrize("shape", [(2, 1), (5, 3), (2, 3, 2), (1,), (3,)])
def test_gather_nd_of_tuples(shape):
    check(node("GatherND", "X i"), {"X": X, "i": indices(*shape, low=-3, high=3)})


@pytest.mark.parametrize(("batch", "shape"), [(1, (3, 2, 1)), (1, (3, 2)), (2, (3, 4, 1)), (2, (3, 4, 6, 1))])
def test_gather_nd_in_batches(batch, shape):
    index = indices(*shape, low=-4, high=4)
    check(node("GatherND", "X i", batch_dims=batch), {"X": X, "i": index})


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_gather_elements(axis):
    index = indices(2, 3, 4, low=-3, high=3)
    against_onnxruntime(node("GatherElements", "X i", axis=axis), {"X": X, "i": index}, {})


def test_gathers_from_windows():
    """Sources and results that are strided in memory."""
    nodes = [
        node("Transpose", "X", "T", perm=[2, 0, 1]),
        node("GatherElements", "T i", "E", axis=1),
        node("Transpose", "E", "Y", perm=[1, 2, 0]),
    ]
    check(nodes, {"X": X, "i": indices(5, 3, 4, low=-3, high=3)})


def test_an_index_out_of_range_is_an_error():
    for op, shape in (("GatherND", (1, 2)), ("GatherElements", (1, 1, 1))):
        model = make_model([node(op, "X i")], {"X": X, "i": np.zeros(shape, np.int64)}, {}, ["Y"], 18, np.float32)
        with pytest.raises(ShapeError, match="index 7 is out of range"):
            run_model(model, {"X": X, "i": np.full(shape, 7)})


# ---- scatters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_scatter_nd(reduction, dtype):
    index = np.array([[0, 1], [2, -1], [1, 0]])
    feeds = {"X": (X * 9).astype(dtype), "i": index, "U": (random(3, 5, seed=3) * 9).astype(dtype)}
    check(node("ScatterND", "X i U", reduction=reduction), feeds, opset=18)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_scatter_elements(reduction, axis):
    index = np.argsort(random(3, 3, 3, seed=5), axis=axis)
    feeds = {"X": X, "i": index, "U": random(3, 3, 3, seed=6)}
    check(node("ScatterElements", "X i U", axis=axis, reduction=reduction), feeds, opset=18)


def test_sums_of_elements_that_meet():
    feeds = {"X": X, "i": np.zeros((4, 1), np.int64), "U": random(4, 4, 5, seed=6)}
    check(node("ScatterND", "X i U", reduction="add"), feeds, opset=18, atol=1e-6)


def test_scatter_at_scattered_constant_places():
    index = np.array([[0], [5], [3], [11], [2]])
    check(node("ScatterND", "X i U"), {"X": random(12, 2), "U": random(5, 2, seed=1)}, {"i": index}, opset=18)


def test_scatter_of_nothing():
    feeds = {"X": X, "i": np.zeros((0, 1), np.int64), "U": np.zeros((0, 4, 5), np.float32)}
    check(node("ScatterND", "X i U"), feeds, opset=18)


# ---- masks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.float32])
def test_one_hot(axis, dtype):
    index = np.array([[0, 3, -1], [4, 1, -5]], dtype)
    values = {"d": np.array(5), "v": np.array([-1, 2], np.float32)}
    check(node("OneHot", "i d v", axis=axis), {"i": index}, values)


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("offset", [None, -2, 0, 1, 9])
def test_trilu(upper, offset):
    constants = {} if offset is None else {"k": np.array(offset)}
    check(node("Trilu", "X k" if constants else "X", upper=upper), {"X": X}, constants)


@pytest.mark.parametrize("attrs", [{}, {"detect_negative": 0}, {"detect_positive": 0}])
def test_is_inf(attrs):
    check(node("IsInf", "X", **attrs), {"X": np.array([1, np.inf, -np.inf, np.nan], np.float32)})


def test_compress():
    keep = np.array([True, False, True, True])
    check(node("Compress", "X k", axis=1), {"X": X}, {"k": keep})
    check(node("Compress", "X k"), {"X": X}, {"k": keep})


# ---- orders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("last", [0, 1])
def test_arg(op, axis, last):
    data = np.round(X * 3)  # many equal elements
    for keep in (0, 1):
        check(node(op, "X", axis=axis, keepdims=keep, select_last_index=last), {"X": data}, opset=13)
    check(node(op, "X", axis=axis), {"X": data.astype(np.int32)}, opset=13)


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("axis", [1, -1])
def test_top_k(k, largest, axis):
    data = np.round(X * 3)
    top = node("TopK", "X k", "V I", axis=axis, largest=largest)
    check(top, {"X": data}, {"k": integers(k)}, outputs=("V", "I"))
    check(node("TopK", "X k", "- I", axis=axis, largest=largest), {"X": data}, {"k": integers(k)}, outputs=("I",))


def test_top_k_sorts_long_lines():
    data = random(2, 1000, seed=4)
    check(node("TopK", "X k", "V I"), {"X": data}, {"k": integers(1000)}, outputs=("V", "I"))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_hardmax(axis):
    check(node("Hardmax", "X", axis=axis), {"X": np.round(X * 3)})


def test_hardmax_before_operator_set_13():
    against_onnxruntime(node("Hardmax", "X", axis=1), {"X": np.round(X * 3)}, {}, opset=11)


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_cumsum(exclusive, reverse, axis):
    attrs = {"exclusive": exclusive, "reverse": reverse}
    check(node("CumSum", "X a", **attrs), {"X": X}, {"a": np.array(axis)}, atol=1e-6)
    check(node("CumSum", "X a", **attrs), {"X": (X * 9).astype(np.int64)}, {"a": np.array(axis)})


@pytest.mark.parametrize("time", [0, 1])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("lens", [[4, 4, 4], [1, 4, 2], [0, 3, 1]])
def test_reverse_sequence(time, known, lens):
    x = random(4, 3, 2) if time == 0 else random(3, 4, 2)
    reverse = node("ReverseSequence", "X n", time_axis=time, batch_axis=1 - time)
    given = {"n": np.array(lens, np.int64)}
    if 0 in lens:  # the reference operator turns a length of 0 into -1
        against_onnxruntime(reverse, {"X": x} | given, {})
    else:
        check(reverse, {"X": x} | ({} if known else given), given if known else {})


def test_lengths_out_of_range_are_errors():
    x = random(4, 3, 2)
    reverse = node("ReverseSequence", "X n", time_axis=0, batch_axis=1)
    good, bad = np.array([1, 2, 3]), np.array([1, 5, 3])
    model = make_model([reverse], {"X": x, "n": good}, {}, ["Y"], 18)
    with pytest.raises(ShapeError, match="length of 5"):
        run_model(model, {"X": x, "n": bad})
    with pytest.raises(ShapeError, match="between 0 and 4"):
        compile_model(make_model([reverse], {"X": x}, {"n": bad}, ["Y"], 18, np.float32), {"X": x})


# ---- feature maps ----------------------------------------------------------------------------------------------------

MAP = random(1, 2, 4, 6, seed=2)


@pytest.mark.parametrize("mode", ["asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners"])
@pytest.mark.parametrize("rounding", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
@pytest.mark.parametrize("scales", [(2.0, 2.0), (1.0, 3.0), (0.5, 1.5), (1.3, 0.7)])
def test_resize_by_scales(mode, rounding, scales):
    resize = node("Resize", "X - s", coordinate_transformation_mode=mode, nearest_mode=rounding, mode="nearest")
    against_onnxruntime(resize, {"X": MAP}, {"s": np.array([1, 1, *scales], np.float32)}, opset=13)


@pytest.mark.parametrize("size", [(8, 12), (4, 6), (3, 9), (1, 1)])
def test_resize_to_sizes(size):
    against_onnxruntime(node("Resize", "X - - s", mode="nearest"), {"X": MAP}, {"s": integers(1, 2, *size)}, opset=13)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode):
    check(node("DepthToSpace", "X", blocksize=2, mode=mode), {"X": random(2, 8, 3, 4)})


def test_space_to_depth():
    check(node("SpaceToDepth", "X", blocksize=2), {"X": random(2, 3, 4, 6)})


# ---- Einsum ----------------------------------------------------------------------------------------------------------

EXTENTS = {"b": 2, "h": 3, "i": 4, "j": 5, "k": 6, "d": 7}


@pytest.mark.parametrize(
    "equation",
    [
        "ij,jk->ik", "bij,bjk->bik", "bhid,bhjd->bhij", "bhij,bhjd->bhid", "bij,jk->bik", "ij,kj->ki", "ij,jk",
        "ij->ji", "ij->i", "ij->", "ii->i", "ii", "i,i->", "i,j->ij", "bi,bi->b", "bi,bi->bi", "bij,bj->bi",
        "bijk,bk->bij", "bij,i->b", "ij,jk,kd->id", "bii->bi", "ij,ij->", "bhi,hij->bhj", "bid,jd->bij", "i->i",
        "ij,k->ik",
    ],
)  # fmt: skip
@pytest.mark.parametrize("known", [False, True])
def test_einsum(equation, known):
    terms = equation.split("->")[0].split(",")
    arrays = {f"x{i}": random(*(EXTENTS[c] for c in term), seed=i) for i, term in enumerate(terms)}
    constants = {"x1": arrays.pop("x1")} if known and len(terms) > 1 else {}
    inputs = " ".join(f"x{i}" for i in range(len(terms)))
    check(node("Einsum", inputs, equation=equation), arrays, constants, atol=len(terms) * 8 * chain(64))


def test_einsum_with_constant_weights_is_a_packed_product():
    lowered = check(
        node("Einsum", "X W", equation="bid,jd->bij"), {"X": random(2, 4, 7)}, {"W": random(5, 7)}, atol=chain(7)
    )
    assert "dense" in lowered.program.op_names


def test_einsum_of_integers_is_refused():
    x = np.ones((2, 2), np.int64)
    with pytest.raises(UnsupportedOp, match="Einsum runs on float32"):
        compile_model(make_model([node("Einsum", "X", equation="ij->ji")], {"X": x}, {}, ["Y"], 18), {"X": x})
