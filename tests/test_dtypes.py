"""Element types besides float32, int64, int32 and bool: narrow integers compute, other floats become float32."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import OPSET, model, node

import gateinfer as gi
from gateinfer.graph.float32 import in_float32
from gateinfer.graph.fold import specialize
from gateinfer.loaders.onnx import load_onnx

NARROW = ("uint8", "int8", "uint16", "int16", "uint32")
OTHERS = ("float16", "float64")
FLOAT = TensorProto.FLOAT
H = 5


def number(dtype) -> int:
    """ONNX's number of an element type."""
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def typed(nodes, inputs: dict, outputs: dict, constants: dict | None = None) -> bytes:
    """A model whose ports are {name: (element type, shape)}."""
    infos = [
        [helper.make_tensor_value_info(n, number(dtype), shape) for n, (dtype, shape) in ports.items()]
        for ports in (inputs, outputs)
    ]
    arrays = [numpy_helper.from_array(np.asarray(a), n) for n, a in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", *infos, arrays)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    return proto.SerializeToString()


def natively(content: bytes, feeds: dict, isa: str = "auto") -> list[np.ndarray]:
    return gi.load(content, isa=isa, fallback=None).run(None, feeds)


def some(dtype, shape, seed=0) -> np.ndarray:
    """Values of the whole range of an integer type, or of [-4, 4)."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.uniform(-4, 4, shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, int(info.max) + 1, shape).astype(dtype)


# ---- ports -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", (*NARROW, *OTHERS))
def test_ports_keep_their_type(dtype):
    nodes = [
        node("Cast", "x", "a", to=FLOAT),
        node("Transpose", "a", "t", perm=[1, 0]),
        node("Cast", "t", "y", to=number(dtype)),
        node("Slice", "x starts ends", "z"),
    ]
    ports = {"x": (dtype, ["N", 3])}, {"y": (dtype, [3, "N"]), "z": (dtype, ["M", 3])}
    content = typed(nodes, *ports, {"starts": np.array([1]), "ends": np.array([5])})
    x = (np.arange(18).reshape(6, 3) * 3).astype(dtype)
    loaded = gi.load(content, fallback=None)
    for got, want in zip(loaded.run(None, {"x": x}), (x.T, x[1:5]), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)
    assert [str(port.dtype) for port in (*loaded.inputs, *loaded.outputs)] == [dtype] * 3
    assert ort.InferenceSession(content).get_inputs()[0].type == loaded.get_inputs()[0].type


@pytest.mark.parametrize("dtype", (*NARROW, *OTHERS))
def test_streams_have_buffers_of_the_ports_type(dtype):
    content = typed(
        [node("Cast", "x", "a", to=FLOAT), node("Neg", "a", "n"), node("Neg", "n", "b"),
         node("Cast", "b", "y", to=number(dtype))],
        {"x": (dtype, [2, 3])}, {"y": (dtype, [2, 3])},
    )  # fmt: skip
    x = np.arange(6).reshape(2, 3).astype(dtype)
    stream = gi.load(content, fallback=None).stream()
    assert stream(x).dtype == x.dtype
    stream.x[...] = x + 1
    stream.step()
    np.testing.assert_array_equal(stream.y, x + 1)


def test_casts_of_what_does_not_fit():
    """Integers wrap around; floats are cut toward zero, held in 32 bits and wrapped around, as the CPU does it."""
    x = np.array([-1.0, 300.0, 255.9, -129.5, 1e20, np.nan], np.float32)
    nodes = [node("Cast", "x", name, to=number(name)) for name in ("uint8", "int8", "uint16", "int16")]
    content = typed(nodes, {"x": ("float32", [6])}, {n: (n, [6]) for n in ("uint8", "int8", "uint16", "int16")})
    held = np.array([-1, 300, 255, -129, 2**31 - 1, 0])
    for got in natively(content, {"x": x}):
        np.testing.assert_array_equal(got, held.astype(got.dtype))


def test_what_the_engine_cannot_hold_is_named():
    content = typed([node("Identity", "x", "y")], {"x": ("uint64", [2])}, {"y": ("uint64", [2])})
    with pytest.raises(gi.UnsupportedOp, match="input 'x': works on uint64"):
        natively(content, {"x": np.zeros(2, np.uint64)})


# ---- narrow integers -------------------------------------------------------------------------------------------------

ARITHMETIC = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Max": np.maximum, "Min": np.minimum}
COMPARES = {"Equal": np.equal, "Less": np.less, "GreaterOrEqual": np.greater_equal}


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("op", (*ARITHMETIC, *COMPARES))
def test_narrow_integers_wrap_around(op, dtype):
    a, b = some(dtype, (4, 7), seed=1), some(dtype, (7,), seed=2)
    b[:3] = a[0, :3]
    kind = "bool" if op in COMPARES else dtype
    content = typed([node(op, "a b", "y")], {"a": (dtype, [4, 7]), "b": (dtype, [7])}, {"y": (kind, [4, 7])})
    with np.errstate(over="ignore"):
        want = {**ARITHMETIC, **COMPARES}[op](a, b)
    np.testing.assert_array_equal(natively(content, {"a": a, "b": b})[0], want)


@pytest.mark.parametrize("dtype", NARROW)
def test_narrow_integers_move(dtype):
    nodes = [
        node("Gather", "table ids", "rows"),
        node("Concat", "rows x", "joined", axis=0),
        node("Where", "mask joined zero", "y"),
        node("ArgMax", "joined", "at", axis=1, keepdims=0),
    ]
    table, x = some(dtype, (9, 4), seed=3), some(dtype, (2, 4), seed=4)
    ids, mask = np.array([8, 0, 3]), np.random.default_rng(5).random((5, 4)) < 0.5
    constants = {"table": table, "zero": np.zeros((), dtype)}
    inputs = {"ids": ("int64", [3]), "x": (dtype, [2, 4]), "mask": ("bool", [5, 4])}
    content = typed(nodes, inputs, {"y": (dtype, [5, 4]), "at": ("int64", [5])}, constants)
    y, at = natively(content, {"ids": ids, "x": x, "mask": mask})
    joined = np.concatenate([table[ids], x])
    np.testing.assert_array_equal(y, np.where(mask, joined, 0).astype(dtype))
    np.testing.assert_array_equal(at, joined.argmax(1))


def test_bytes_go_into_a_recurrent_model():
    """Text as UTF-8 bytes, as sentence splitters take it; class numbers as bytes come out."""
    rng = np.random.default_rng(6)
    nodes = [
        node("Cast", "text", "ids", to=TensorProto.INT64),
        node("Gather", "table ids", "x"),
        node("GRU", "x W R B", "Y _", hidden_size=H),
        node("ArgMax", "Y", "best", axis=-1, keepdims=0),
        node("Cast", "best", "labels", to=TensorProto.UINT8),
    ]
    constants = {
        "table": rng.normal(size=(256, 3)), "W": rng.normal(size=(1, 3 * H, 3)),
        "R": rng.normal(size=(1, 3 * H, H)) / 2, "B": rng.normal(size=(1, 6 * H)),
    }  # fmt: skip
    constants = {name: array.astype(np.float32) for name, array in constants.items()}
    content = typed(nodes, {"text": ("uint8", ["T", "N"])}, {"labels": ("uint8", ["T", 1, "N"])}, constants)
    text = some("uint8", (20, 2), seed=7)
    want = ort.InferenceSession(content).run(None, {"text": text})[0]
    np.testing.assert_array_equal(natively(content, {"text": text})[0], want)
    stream = gi.load(content, fallback=None).stream()
    parts = [stream(text[i : i + n]) for i, n in ((0, 7), (7, 1), (8, 12))]
    np.testing.assert_array_equal(np.concatenate(parts), want)


def test_bytes_pass_between_stages():
    """A quantised table is gathered here, scaled in onnxruntime, and read by a recurrent node here."""
    rng = np.random.default_rng(8)
    nodes = [
        node("Gather", "table ids", "rows"),
        node("DequantizeLinear", "rows scale zero", "x"),
        node("RNN", "x W R", "y _", hidden_size=H),
    ]
    constants = {
        "table": some("uint8", (20, 3)), "scale": np.float32(0.01), "zero": np.uint8(128),
        "W": rng.normal(size=(1, H, 3)).astype(np.float32), "R": rng.normal(size=(1, H, H)).astype(np.float32) / 4,
    }  # fmt: skip
    content = typed(nodes, {"ids": ("int64", ["T", 2])}, {"y": ("float32", ["T", 1, 2, H])}, constants)
    feeds = {"ids": rng.integers(0, 20, (6, 2))}
    want = ort.InferenceSession(content).run(None, feeds)[0]
    np.testing.assert_allclose(gi.load(content).run(None, feeds)[0], want, atol=1e-6)


# ---- float16 and float64 ---------------------------------------------------------------------------------------------


def recurrent(dtype) -> bytes:
    """LSTM with states, then a product, all of them of one element type; its numbers are float16's."""
    rng = np.random.default_rng(9)
    shapes = {"W": (1, 4 * H, 3), "R": (1, 4 * H, H), "B": (1, 8 * H), "K": (H, 2)}
    constants = {n: (rng.normal(size=s) / 2).astype(np.float16).astype(dtype) for n, s in shapes.items()}
    nodes = [
        node("LSTM", "x W R B _ h c", "Y hn cn", hidden_size=H),
        node("Squeeze", "Y axes", "s"),
        node("MatMul", "s K", "y"),
    ]
    state = (dtype, [1, "N", H])
    return typed(
        nodes,
        {"x": (dtype, ["T", "N", 3]), "h": state, "c": state},
        {"y": (dtype, ["T", "N", 2]), "hn": state, "cn": state},
        constants | {"axes": np.array([1])},
    )


@pytest.mark.parametrize("dtype", OTHERS)
def test_other_floats_compute_in_float32(dtype):
    rng = np.random.default_rng(10)
    feeds = {"x": rng.normal(size=(4, 2, 3)), "h": rng.normal(size=(1, 2, H)) / 4, "c": rng.normal(size=(1, 2, H))}
    feeds = {name: array.astype(dtype) for name, array in feeds.items()}
    want = natively(recurrent("float32"), {name: array.astype(np.float32) for name, array in feeds.items()})
    for got, single in zip(natively(recurrent(dtype), feeds), want, strict=True):
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, single.astype(dtype))


@pytest.mark.parametrize("dtype", OTHERS)
def test_states_of_other_floats_are_carried_in_their_type(dtype):
    x = np.random.default_rng(11).normal(size=(6, 1, 1, 3)).astype(dtype)
    loaded = gi.load(recurrent(dtype), fallback=None)
    stream = loaded.stream()
    held = {"h": np.zeros((1, 1, H), dtype), "c": np.zeros((1, 1, H), dtype)}
    for frame in x:
        y, held["h"], held["c"] = loaded.run(None, {"x": frame, **held})
        np.testing.assert_array_equal(stream(frame), y)
    np.testing.assert_array_equal(stream.state["h"], held["h"])
    assert stream.state["c"].dtype == dtype


def test_a_cast_to_float16_still_rounds():
    x = np.array([1 + 2.0**-12, 1 + 2.0**-10, 70000.0, 2.0**-26, -0.1], np.float32)
    nodes = [node("Cast", "x", "a", to=TensorProto.FLOAT16), node("Add", "a a", "b"), node("Cast", "b", "y", to=FLOAT)]
    content = typed(nodes, {"x": ("float32", [5])}, {"y": ("float32", [5])})
    with np.errstate(over="ignore"):
        want = 2 * x.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(natively(content, {"x": x})[0], want)


def test_a_cast_to_float64_costs_nothing():
    nodes = [node("Cast", "x", "a", to=TensorProto.DOUBLE), node("Sqrt", "a", "b"), node("Cast", "b", "y", to=FLOAT)]
    content = typed(nodes, {"x": ("float32", [3])}, {"y": ("float32", [3])})
    x = np.array([2.0, 3.0, 5.0], np.float32)
    np.testing.assert_array_equal(natively(content, {"x": x})[0], np.sqrt(x))
    graph = in_float32(specialize(load_onnx(content), {}))
    assert {graph.types[name].dtype for n in graph.nodes for name in n.outputs} == {np.dtype(np.float32)}


@pytest.mark.parametrize("dtype", OTHERS)
def test_loops_of_other_floats(dtype):
    """A carried and a stacked value of another type, and one captured from outside."""
    info = [helper.make_tensor_value_info(n, number(kind), shape) for n, kind, shape in (
        ("i", "int64", []), ("on", "bool", []), ("s", dtype, [2]), ("on_out", "bool", []), ("s_out", dtype, [2]),
        ("row", dtype, [2]))]  # fmt: skip
    inner = [node("Identity", "on", "on_out"), node("Mul", "s x", "s_out"), node("Add", "s_out half", "row")]
    body = helper.make_graph(inner, "body", info[:3], info[3:])
    content = typed(
        [node("Loop", "turns _ x", "last rows", body=body)],
        {"x": (dtype, [2])}, {"last": (dtype, [2]), "rows": (dtype, [4, 2])},
        {"turns": np.array(4), "half": np.array(0.5, dtype)},
    )  # fmt: skip
    x = np.array([1.25, -0.75], dtype)
    powers = x.astype(np.float32) ** np.arange(2, 6, dtype=np.float32)[:, None]
    last, rows = natively(content, {"x": x})
    np.testing.assert_array_equal(last, powers[-1].astype(dtype))
    np.testing.assert_array_equal(rows, (powers + np.float32(0.5)).astype(dtype))


def test_outputs_that_are_inputs_constants_or_read_again():
    half = np.array([0.1, 2.5], np.float16)
    nodes = [node("Add", "x k", "y"), node("Mul", "y y", "z"), node("Identity", "x", "u"), node("Identity", "k", "c")]
    content = typed(nodes, {"x": ("float16", [2])}, {n: ("float16", [2]) for n in "yzuc"}, {"k": half})
    x = np.array([1.0, 0.3], np.float16)
    y, z, same, c = natively(content, {"x": x})
    total = x.astype(np.float32) + half.astype(np.float32)
    np.testing.assert_array_equal(y, total.astype(np.float16))
    np.testing.assert_array_equal(z, (total * total).astype(np.float16))
    np.testing.assert_array_equal(same, x)
    np.testing.assert_array_equal(c, half)


def test_names_that_are_taken():
    nodes = [node("Neg", "x", "x~float32"), node("Add", "x~float32 k", "y"), node("Identity", "k", "k~float32")]
    ports = {"x": ("float16", [1])}, {"y": ("float16", [1]), "k~float32": ("float16", [1])}
    y, k = natively(typed(nodes, *ports, {"k": np.array([3], np.float16)}), {"x": np.array([2], np.float16)})
    assert (y, k) == (1, 3)


def test_casts_inside_loops():
    info = [helper.make_tensor_value_info(n, number(kind), shape) for n, kind, shape in (
        ("i", "int64", []), ("on", "bool", []), ("s", "float32", [1]), ("on_out", "bool", []), ("t", "float32", [1]))
    ]  # fmt: skip
    inner = [node("Identity", "on", "on_out"), node("Cast", "s", "a", to=TensorProto.FLOAT16), node("Add", "a a", "b"),
             node("Cast", "b", "t", to=FLOAT)]  # fmt: skip
    body = helper.make_graph(inner, "body", info[:3], info[3:])
    content = typed([node("Loop", "turns _ x", "y", body=body)], {"x": ("float32", [1])}, {"y": ("float32", [1])},
                    {"turns": np.array(3)})  # fmt: skip
    x = np.array([1 + 2.0**-12], np.float32)
    np.testing.assert_array_equal(natively(content, {"x": x})[0], [8.0])


def test_a_graph_of_float32_stays_as_it_is():
    graph = specialize(load_onnx(model([node("Relu", "x", "y")], {"x": [2]}, "y").SerializeToString()), {})
    assert in_float32(graph) is graph


@pytest.mark.parametrize("dtype", OTHERS)
def test_islands_of_other_floats(dtype):
    """Asinh has no native operator: it gets float32 as its neighbours do."""
    nodes = [node("Asinh", "x", "a"), node("Tanh", "a", "y")]
    content = typed(nodes, {"x": (dtype, [3])}, {"y": (dtype, [3])})
    x = np.array([0.5, -1.0, 3.0], dtype)
    want = np.tanh(np.arcsinh(x.astype(np.float64)))
    got = gi.load(content).run(None, {"x": x})[0]
    assert got.dtype == dtype
    np.testing.assert_allclose(got, want, rtol=max(np.finfo(dtype).eps, 1e-6))


@pytest.mark.parametrize("dtype", OTHERS)
def test_islands_that_name_another_float(dtype):
    """EyeLike has no native operator, and says itself which type it makes."""
    number = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [node("EyeLike", "x", "e", dtype=number), node("Add", "x e", "y")]
    content = typed(nodes, {"x": (dtype, [2, 2])}, {"y": (dtype, [2, 2])})
    x = np.array([[0.5, -1.0], [3.0, 0.25]], dtype)
    np.testing.assert_array_equal(gi.load(content).run(None, {"x": x})[0], x + np.eye(2, dtype=dtype), strict=True)


def test_validate_says_what_onnxruntime_cannot_run():
    """It has no LSTM of float64, which shows when the node runs."""
    loaded = gi.load(recurrent("float64"))
    frames = list(np.random.default_rng(12).normal(size=(3, 1, 1, 3)))
    with pytest.raises(gi.GateInferError, match="onnxruntime fails on these frames, leave it out of oracles="):
        gi.validate(loaded, frames)
    assert gi.validate(loaded, frames, oracles=["reference"]).ok
