"""Nodes without a native op run in onnxruntime as maximal sub-graphs; recurrent nodes stay native."""

from __future__ import annotations

import numpy as np
import onnx_models
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import gateinfer as gi
from gateinfer import islands
from gateinfer.graph.ir import Graph, Node, Port, TensorType
from gateinfer.graph.partition import partition

F32 = np.dtype(np.float32)


def model(nodes, inputs, outputs, arrays=(), domains=()):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in dict(arrays).items()],
    )
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def gru_arrays(hidden=4, inputs=4):
    rng = np.random.default_rng(0)
    shapes = {"W": (1, 3 * hidden, inputs), "R": (1, 3 * hidden, hidden)}
    return {n: (rng.normal(size=s) * 0.5).astype(np.float32) for n, s in shapes.items()}


def det_then_gru():
    """Two ops no program has (Acosh, Sinh) before and after a GRU with state."""
    nodes = [
        helper.make_node("Sinh", ["x"], ["s"]),
        helper.make_node("Asinh", ["s"], ["a"]),
        helper.make_node("GRU", ["a", "W", "R", "", "", "h"], ["Y", "hn"], hidden_size=4),
        helper.make_node("Sinh", ["Y"], ["t"]),
        helper.make_node("Relu", ["t"], ["y"]),
    ]
    return model(nodes, [("x", ["T", 1, 4]), ("h", [1, 1, 4])], [("y", None), ("hn", [1, 1, 4])], gru_arrays())


def test_run_agrees_with_onnxruntime():
    content = det_then_gru()
    x = np.random.default_rng(1).normal(size=(6, 1, 4)).astype(np.float32)
    feeds = {"x": x, "h": np.zeros((1, 1, 4), np.float32)}
    expected = ort.InferenceSession(content).run(None, feeds)
    for got, wanted in zip(gi.load(content).run(None, feeds), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_stream_carries_state_around_islands():
    loaded = gi.load(det_then_gru())
    x = np.random.default_rng(1).normal(size=(6, 1, 4)).astype(np.float32)
    whole = loaded.run(["y"], {"x": x, "h": np.zeros((1, 1, 4), np.float32)})[0]
    stream = loaded.stream()
    got = np.concatenate([stream(x[:1]), stream(x[1:4]), stream(x[4:])])
    np.testing.assert_allclose(got, whole, rtol=1e-6, atol=1e-7)
    stream.reset()
    np.testing.assert_array_equal(stream(x[:1]), got[:1])


def test_gaps_are_maximal_and_recurrent_nodes_stay():
    loaded = gi.load(det_then_gru())
    plan = loaded.plan({"x": (1, 1, 4), "h": (1, 1, 4)}, {})
    islanded = [name for name in plan.lowered.program.op_names if name.startswith("onnxruntime")]
    assert islanded == ["onnxruntime[Sinh Asinh]", "onnxruntime[Sinh]"]
    assert "gru" in plan.lowered.program.op_names


def test_contributed_operators_run_there():
    nodes = [
        helper.make_node("BiasGelu", ["x", "b"], ["g"], domain="com.microsoft"),
        helper.make_node("Tanh", ["g"], ["y"]),
    ]
    content = model(nodes, [("x", [2, 4])], [("y", None)], {"b": np.ones(4, np.float32)}, ["com.microsoft"])
    x = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    expected = ort.InferenceSession(content).run(None, {"x": x})[0]
    np.testing.assert_allclose(gi.load(content)(x), expected, rtol=1e-6, atol=1e-6)


def test_without_fallback_every_node_is_listed():
    with pytest.raises(gi.UnsupportedOp, match=r"(?s)3 node.*Sinh.*Asinh.*Sinh"):
        gi.load(det_then_gru(), fallback=None)


def test_without_onnxruntime_the_error_says_so(monkeypatch):
    monkeypatch.setattr(islands, "available", lambda: False)
    with pytest.raises(gi.UnsupportedOp, match="Install onnxruntime"):
        gi.load(det_then_gru())


def test_unknown_operators_are_refused():
    content = model([helper.make_node("Frobnicate", ["x"], ["y"])], [("x", [2])], [("y", [2])])
    with pytest.raises(gi.UnsupportedOp, match="Frobnicate"):
        gi.load(content)


def test_shapes_that_depend_on_values_are_refused():
    nodes = [helper.make_node("NonZero", ["x"], ["i"]), helper.make_node("Cast", ["i"], ["y"], to=1)]
    with pytest.raises(gi.UnsupportedOp, match="NonZero"):
        gi.load(model(nodes, [("x", [2, 3])], [("y", None)]))


def test_a_failing_island_leaves_the_state():
    """An index that is only bad at run time, inside onnxruntime."""
    graph = helper.make_graph(
        [
            helper.make_node("GatherElements", ["x", "i"], ["e"], axis=0),
            helper.make_node("Sinh", ["e"], ["s"]),
            helper.make_node("Add", ["s", "h"], ["hn"]),
        ],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [3]),
            helper.make_tensor_value_info("i", TensorProto.INT64, [3]),
            helper.make_tensor_value_info("h", TensorProto.FLOAT, [3]),
        ],
        [helper.make_tensor_value_info("hn", TensorProto.FLOAT, [3])],
    )
    loaded = gi.load(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )
    stream = loaded.stream()
    x = np.ones(3, np.float32)
    stream(x=x, i=np.array([0, 1, 2]))
    before = stream.state["h"].copy()
    with pytest.raises(gi.GateInferError):
        stream(x=x, i=np.array([0, 1, 7]))
    np.testing.assert_array_equal(stream.state["h"], before)


def test_partition_levels():
    """native A -> foreign B, C -> native D, and native E beside them: three stages, E in the first."""

    def node(op, source, target):
        return Node(op, (source,), (target,))

    types = {name: TensorType(F32, (2,)) for name in "xabcde"}
    nodes = [node("A", "x", "a"), node("B", "a", "b"), node("C", "b", "c"), node("D", "c", "d"), node("E", "x", "e")]
    graph = Graph([Port("x", types["x"])], [Port(n, types[n]) for n in "de"], nodes, {}, types=types)
    stages = partition(graph, {"b", "c"})
    assert [[n.op for n in stage.graph.nodes] for stage in stages] == [["A", "E"], ["B", "C"], ["D"]]
    assert [stage.foreign for stage in stages] == [False, True, False]
    assert [[p.name for p in stage.graph.inputs] for stage in stages] == [["x"], ["a"], ["c"]]
    assert [[p.name for p in stage.graph.outputs] for stage in stages] == [["a", "e"], ["c"], ["d"]]


@pytest.mark.parametrize(
    ("made", "feed", "constants"),
    [
        (onnx_models.node("Resize", "x _ s", "y", mode="linear"), (1, 1, 4), {"s": np.array([1, 1, 2], np.float32)}),
        (onnx_models.node("Einsum", "x", "y", equation="...i->..."), (2, 3), {}),
        (onnx_models.node("MeanVarianceNormalization", "x", "y"), (2, 3, 2, 2), {}),
    ],
    ids=["resize-linear", "einsum-ellipsis", "shape-unknown-to-onnxruntime"],
)
def test_what_a_native_operator_does_not_implement_runs_there(made, feed, constants):
    """Never natively: the lowering of an operator honours only what its shape rule accepts."""
    content = onnx_models.model([made], {"x": feed}, "y", constants).SerializeToString()
    x = np.random.default_rng(0).standard_normal(feed, dtype=np.float32)
    expected = ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    np.testing.assert_allclose(gi.load(content).run(None, {"x": x})[0], expected, rtol=1e-5, atol=1e-6)


def test_what_onnxruntime_does_not_know_is_refused_when_loading_open_shapes():
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Frobnicate", ["r"], ["y"], domain="nowhere")]
    content = model(nodes, [("x", ["T", 4])], [("y", None)], domains=["nowhere"])
    with pytest.raises(gi.UnsupportedOp, match='Frobnicate node "y": no native operator, and onnxruntime refuses it'):
        gi.load(content)


def test_shapes_that_hang_on_values_are_refused_when_loading_open_shapes():
    content = model([helper.make_node("NonZero", ["x"], ["y"])], [("x", ["T", 4])], [("y", None)])
    with pytest.raises(gi.UnsupportedOp, match='NonZero node "y".* depends on run-time values'):
        gi.load(content)


def test_open_shapes_that_only_some_extents_fit_load():
    """Sinh runs elsewhere, and the Reshape takes 12 steps: no extent that is tried fits."""
    nodes = [helper.make_node("Sinh", ["x"], ["s"]), helper.make_node("Reshape", ["s", "shape"], ["y"])]
    loaded = gi.load(model(nodes, [("x", ["T", 4])], [("y", None)], {"shape": np.array([3, 16])}))
    x = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    np.testing.assert_allclose(loaded(x), np.sinh(x.astype(float)).reshape(3, 16), rtol=1e-6)


def test_an_output_that_is_an_input():
    loaded = gi.load(model([helper.make_node("Sinh", ["x"], ["y"])], [("x", [3])], [("y", [3]), ("x", [3])]))
    for start in (0, 1):
        x = np.arange(start, start + 3, dtype=np.float32)
        y, same = loaded.run(None, {"x": x})
        np.testing.assert_allclose(y, np.sinh(x.astype(float)), rtol=1e-6)
        np.testing.assert_array_equal(same, x)
        assert not np.shares_memory(same, x)


@pytest.mark.parametrize("states", [{"p": "now", "q": "p"}, {"q": "p", "p": "now"}], ids=str)
def test_a_state_that_is_the_last_one_of_another(states):
    """The output p is the input p as it was before the step, also when that is carried first."""
    nodes = [helper.make_node("Sinh", ["x"], ["now"]), helper.make_node("Add", ["p", "q"], ["y"])]
    shapes = [(name, [1, 2]) for name in ("x", "p", "q")]
    stream = gi.load(model(nodes, shapes, [("y", [1, 2]), ("now", [1, 2]), ("p", [1, 2])])).stream(states=states)
    frames = np.arange(1, 6, dtype=np.float32)[:, None, None].repeat(2, axis=2)
    made = np.sinh(frames.astype(float))
    for t, frame in enumerate(frames):
        np.testing.assert_allclose(stream(frame), sum(made[max(0, t - 2) : t], np.zeros((1, 2))), rtol=1e-6)
