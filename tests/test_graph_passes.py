"""Folding, specialisation, shape rules and checks, from small graphs to real models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
from corpus import PeerCase, ZooCase
from onnx import TensorProto
from onnx_models import graph_of, node, subgraph, to_onnx

from gateinfer.errors import GateInferError, ModelError, ShapeError, UnsupportedOp
from gateinfer.graph import budget, rewriter
from gateinfer.graph.bind import bind_shapes, resolve
from gateinfer.graph.checks import check_graph
from gateinfer.graph.evaluate import evaluate
from gateinfer.graph.fold import fold_constants, specialize, unsupported
from gateinfer.graph.ir import Graph, Port, TensorType
from gateinfer.loaders.onnx import load_onnx

Arrays = dict[str, np.ndarray]
BOOL, I64 = TensorProto.BOOL, TensorProto.INT64


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes]


def run(graph: Graph, feeds: Arrays) -> list[np.ndarray]:
    """The specialised graph on onnxruntime, after onnx has compared every inferred type with its own."""
    proto = to_onnx(graph)
    onnx.checker.check_model(proto, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    wanted = {p.name for p in graph.inputs}
    return session.run(None, {n: a for n, a in feeds.items() if n in wanted})


# ---- folding without shapes -----------------------------------------------------------------------------------------


def test_constant_chains_are_computed_and_dead_nodes_dropped() -> None:
    nodes = [node("Add", "a b", "c"), node("Mul", "c c", "d"), node("Add", "x d", "y"), node("Exp", "x", "dead")]
    folded = fold_constants(graph_of(nodes, {"x": (2,)}, a=np.float32(1), b=np.float32(2)))
    assert ops(folded) == ["Add"]
    assert {n: a.item() for n, a in folded.constants.items()} == {"d": 9.0}


def test_folding_leaves_its_argument_alone() -> None:
    graph = graph_of([node("Identity", "x", "a"), node("Relu", "a", "y")], {"x": (2,)})
    fold_constants(graph)
    specialize(graph, {})
    assert ops(graph) == ["Identity", "Relu"]
    assert graph.types == {}


def _if(condition: str, then: list[onnx.NodeProto], other: list[onnx.NodeProto], output: str = "y") -> onnx.NodeProto:
    branches = {"then_branch": subgraph(then, then[-1].output[0]), "else_branch": subgraph(other, other[-1].output[0])}
    return node("If", condition, output, **branches)


@pytest.mark.parametrize(("taken", "expected"), [(True, ["Relu"]), (False, ["Neg"])])
def test_if_on_a_constant_becomes_its_branch(taken: bool, expected: list[str]) -> None:
    nodes = [_if("c", [node("Relu", "x", "b")], [node("Neg", "x", "b")])]
    folded = fold_constants(graph_of(nodes, {"x": (2,)}, c=np.array(taken)))
    assert ops(folded) == expected
    assert folded.nodes[0].outputs == ("y",)


def test_inlined_branches_keep_names_unique() -> None:
    """Both nodes' branches define "b", which the main graph defines as well."""
    branch = [node("Exp", "x", "b"), node("Relu", "b", "out")]
    nodes = [
        node("Neg", "x", "b"),
        _if("c", branch, branch, "p"),
        _if("c", branch, branch, "q"),
        node("Sum", "b p q", "y"),
    ]
    folded = fold_constants(graph_of(nodes, {"x": (2,)}, c=np.array(True)))
    check_graph(folded)
    assert sorted(ops(folded)) == ["Exp", "Exp", "Neg", "Relu", "Relu", "Sum"]
    x = np.array([1, -2], "f4")
    np.testing.assert_allclose(run(specialize(folded, {}), {"x": x})[0], -x + 2 * np.exp(x), rtol=1e-6)


def test_branches_of_an_open_if_are_folded_and_their_constants_shared() -> None:
    branch = [node("Constant", "", "k", value_float=3.0), node("Neg", "k", "m"), node("Mul", "x m", "b")]
    folded = fold_constants(graph_of([_if("c", branch, branch)], {"x": (2,), "c": (BOOL, ())}))
    check_graph(folded)
    for key in ("then_branch", "else_branch"):
        inner = folded.nodes[0].attrs[key]
        assert ops(inner) == ["Mul"]
        assert inner.constants == {}
    assert [a.item() for a in folded.constants.values()] == [-3.0, -3.0]


def test_what_cannot_be_folded_waits_for_its_branch() -> None:
    """The reshape in the branch is impossible, but the branch is never taken."""
    bad = [node("Reshape", "k s", "b")]
    nodes = [_if("c", bad, [node("Neg", "x", "b")])]
    graph = fold_constants(graph_of(nodes, {"x": (2,), "c": (BOOL, ())}, k=np.zeros(3, "f4"), s=np.array([2], "i8")))
    assert ops(specialize(graph, {}, {"c": np.array(False)})) == ["Neg"]
    with pytest.raises(ShapeError, match="Reshape"):
        specialize(graph, {}, {"c": np.array(True)})


# ---- specialisation -------------------------------------------------------------------------------------------------


def test_shape_arithmetic_disappears() -> None:
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "n"),
        node("Unsqueeze", "n axes", "u"),
        node("Concat", "u minus", "target", axis=0),
        node("Reshape", "x target", "y"),
    ]
    constants = {"zero": np.array(0), "axes": np.array([0]), "minus": np.array([-1])}
    graph = fold_constants(graph_of(nodes, {"x": ("n", 2, 3)}, **constants))
    assert ops(graph) == ops(fold_constants(graph))
    for n in (1, 5):
        found = specialize(graph, {"x": (n, 2, 3)})
        assert ops(found) == ["Reshape"]
        assert found.types["y"] == TensorType(np.dtype("f4"), (n, 6))
        assert found.constants["target"].tolist() == [n, -1]


def _rank_test(depth: int) -> onnx.GraphProto:
    """If the first extent is `depth`, multiply by a weight inside the branch, else look further."""
    here = subgraph(
        [node("Constant", "", f"w{depth}", value_float=float(depth)), node("Mul", f"x w{depth}", f"t{depth}")],
        f"t{depth}",
    )
    if depth == 0:
        return here
    steps = [
        node("Constant", "", f"k{depth}", value_int=depth),
        node("Equal", f"n k{depth}", f"c{depth}"),
        node("If", f"c{depth}", f"e{depth}", then_branch=here, else_branch=_rank_test(depth - 1)),
    ]
    return subgraph(steps, f"e{depth}")


def test_nested_ifs_on_shapes_with_weights_inside() -> None:
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "n"),
        node("If", "true", "y", then_branch=_rank_test(25), else_branch=_rank_test(0)),
    ]
    graph = fold_constants(graph_of(nodes, {"x": ("n",)}, zero=np.array(0), true=np.array(True)))
    for n in (25, 13, 1):
        found = specialize(graph, {"x": (n,)})
        assert ops(found) == ["Mul"]
        assert [a.item() for a in found.constants.values()] == [float(n)]


def test_values_choose_branches_and_their_input_disappears() -> None:
    nodes = [node("Equal", "sr rate", "c"), _if("c", [node("Relu", "x", "b")], [node("Neg", "x", "b")])]
    graph = fold_constants(graph_of(nodes, {"x": (2,), "sr": (I64, ())}, rate=np.array(16000)))
    assert ops(specialize(graph, {}, {"sr": np.array(16000)})) == ["Relu"]
    found = specialize(graph, {}, {"sr": np.array(8000)})
    assert (ops(found), [p.name for p in found.inputs]) == (["Neg"], ["x"])
    with pytest.raises(UnsupportedOp, match=r'If node "if_of_y".*constant keyword'):
        specialize(graph, {})


def test_outputs_may_be_inputs_constants_or_the_same_value() -> None:
    nodes = [node("Identity", "x", "same"), node("Shape", "x", "s"), node("Relu", "x", "r"), node("Identity", "r", "q")]
    graph = graph_of(nodes, {"x": (2, 3)}, "x same s r q")
    found = specialize(graph, {})
    check_graph(found)
    assert [p.name for p in found.outputs] == ["x", "same", "s", "r", "q"]
    assert found.constants["s"].tolist() == [2, 3]
    assert sorted(ops(found)) == ["Identity", "Identity", "Relu"]
    assert fold_constants(graph).outputs == graph.outputs


def test_nodes_that_change_nothing_vanish() -> None:
    nodes = [
        node("Cast", "x", "a", to=1),
        node("Reshape", "a s", "b"),
        node("Dropout", "b", "d mask"),
        node("Expand", "d s", "e"),
        node("Relu", "e", "y"),
    ]
    found = specialize(graph_of(nodes, {"x": (2, 3)}, "y mask", s=np.array([2, 3])), {})
    assert ops(found) == ["Relu"]
    assert found.constants["mask"].all()


def test_defaults_are_constants_unless_fed() -> None:
    graph = graph_of([node("Add", "x w", "y")], {"x": (2,), "w": (2,)}, w=np.ones(2, "f4"))
    assert [p.name for p in specialize(graph, {}).inputs] == ["x"]
    assert [p.name for p in specialize(graph, {"w": (2,)}).inputs] == ["x", "w"]
    assert specialize(graph, {}, {"w": np.zeros(2, "f4")}).constants["w"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("shapes", "values", "text"),
    [
        ({}, {}, 'input "x": its shape is not known'),
        ({"x": (3, 4)}, {}, "input 'x', axis 1: expected 2, got 4"),
        ({"x": (3,)}, {}, "expected rank 2"),
        ({"x": (3, 2), "z": (1,)}, {}, "no inputs called z"),
        ({"x": (3, 2)}, {"n": np.array(1, "i4")}, 'constant for input "n": expected int64, got int32'),
        ({"x": (3, 2)}, {"n": np.array([1])}, "expected rank 0"),
    ],
)
def test_bindings_that_do_not_fit(shapes: dict, values: dict, text: str) -> None:
    graph = graph_of([node("Gather", "x n", "y")], {"x": ("a", 2), "n": (I64, ())})
    with pytest.raises(ShapeError, match=text):
        specialize(graph, shapes, values)


def test_only_needed_nodes_must_be_supported() -> None:
    graph = graph_of([node("Foo", "x", "a"), node("Relu", "x", "y")], {"x": (2,)})
    assert ops(specialize(graph, {})) == ["Relu"]


def test_every_independent_refusal_is_named() -> None:
    graph = graph_of([node("Foo", "x", "a"), node("Bar", "x", "b")], {"x": (2,)}, "a b")
    with pytest.raises(UnsupportedOp, match=r"Foo.*Bar"):
        specialize(graph, {})


def test_large_products_of_constants_stay_nodes() -> None:
    big = np.zeros((1024, 1024), "f4")
    nodes = [node("MatMul", "a b", "c"), node("MatMul", "x c", "y")]
    assert ops(fold_constants(graph_of(nodes, {"x": (1, 1024)}, a=big, b=big))) == ["MatMul", "MatMul"]


def test_products_are_folded_until_their_arithmetic_is_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MAX_FOLDED_STEPS_TOTAL", 2500)
    k = np.eye(10, dtype="f4")
    nodes = [node("MatMul", f"{a} k", b) for a, b in ("ka", "ab", "bc")] + [node("Add", "x c", "y")]
    assert ops(fold_constants(graph_of(nodes, {"x": (10, 10)}, k=k))) == ["MatMul", "Add"]


def test_products_of_constants_are_computed_when_more_than_their_shape_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewriter, "MIN_PUT_OFF", 1000)
    computed: list[str] = []

    def spied(given, *rest):
        computed.append(given.label())
        return evaluate(given, *rest)

    monkeypatch.setattr(rewriter, "evaluate", spied)
    k = np.arange(100, dtype="f4").reshape(10, 10)
    nodes = [node("MatMul", "k k", "a"), node("Neg", "a", "b"), node("MatMul", "b k", "c"), node("Shape", "c", "s")]
    nodes += [node("Expand", "x s", "y"), node("Gemm", "k k", "d"), node("Add", "y d", "z")]
    graph = specialize(graph_of(nodes, {"x": (1, 1)}, "z", k=k), {})
    assert ops(graph) == ["Expand", "Add"]
    assert [label.split()[0] for label in computed] == ["MatMul", "Neg", "Gemm"]
    np.testing.assert_array_equal(graph.constants["d"], k @ k)


@pytest.mark.parametrize("op", ["ReduceMax", "ArgMax"])
def test_what_looks_at_much_to_make_little_counts_what_it_looks_at(monkeypatch: pytest.MonkeyPatch, op: str) -> None:
    nodes = [node(op, "k", "m", keepdims=0), node("Cast", "m", "f", to=TensorProto.FLOAT), node("Add", "x f", "y")]
    graph = graph_of(nodes, {"x": (2,)}, k=np.arange(100, dtype="f4"))
    assert ops(fold_constants(graph)) == ["Add"]
    monkeypatch.setattr(budget, "MAX_FOLDED_STEPS", 99)
    assert ops(fold_constants(graph))[0] == op


def test_large_weights_are_moved_by_the_program_but_nothing_large_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MAX_FOLDED", 100)
    weight = np.zeros((20, 10), "f4")
    nodes = [node("Transpose", "w", "t"), node("MatMul", "x t", "y")]
    assert ops(fold_constants(graph_of(nodes, {"x": (1, 10)}, w=weight))) == ["Transpose", "MatMul"]
    nodes = [node("Expand", "k s", "t"), node("MatMul", "x t", "y")]
    with pytest.raises(ModelError, match="budget"):
        fold_constants(graph_of(nodes, {"x": (1, 10)}, k=np.float32(0), s=np.array([10, 20])))


@pytest.mark.parametrize("opset", [1, 5])
def test_constants_that_nobody_can_evaluate_stay_nodes(opset: int) -> None:
    nodes = [node("Clip", "k", "c", min=0.0, max=1.0), node("Sum", "x c", "y")]
    assert ops(specialize(graph_of(nodes, {"x": (2,)}, opset=opset, k=np.ones(2, "f4")), {})) == ["Clip", "Sum"]


def test_unsupported_lists_what_no_shape_can_fix() -> None:
    nodes = [
        node("Foo", "x", "a"),
        node("NonZero", "k", "fine"),
        node("NonZero", "a", "b"),
        node("Shape", "x", "s"),
        node("ReduceProd", "s", "p"),
        node("Relu", "a", "r"),
        _if("c", [node("Bar", "x", "t")], [node("Neg", "x", "t")]),
    ]
    graph = graph_of(nodes, {"x": ("n",), "c": (BOOL, ())}, "b r y p fine", k=np.ones(2, "f4"))
    assert unsupported(graph, {"Relu"}) == ['Foo node "foo_of_a"', 'NonZero node "nonzero_of_b"']


# ---- named dimensions -----------------------------------------------------------------------------------------------


def _ports() -> Graph:
    f4 = np.dtype("f4")
    ports = [Port("x", TensorType(f4, ("seq", "batch", 4))), Port("h", TensorType(f4, (1, "batch", None)))]
    return Graph([*ports, Port("free", TensorType(f4, None))], [], [], {})


def test_names_are_unified_over_inputs() -> None:
    found = bind_shapes(_ports(), {"x": (7, 2, 4), "h": (1, 2, 9), "free": (1, 2, 3)})
    assert found == {"seq": 7, "batch": 2}


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        ({"x": (7, 2, 5)}, "input 'x', axis 2: expected 4, got 5"),
        ({"x": (7, 2)}, "expected rank 3"),
        ({"x": (7, 2, 4), "h": (1, 3, 9)}, r"input 'h', axis 1: expected 2 \(batch"),
        ({"z": ()}, "no inputs called z"),
    ],
)
def test_shapes_that_contradict_names(shapes: dict, text: str) -> None:
    with pytest.raises(ShapeError, match=text):
        bind_shapes(_ports(), shapes)


def test_resolve() -> None:
    x, h, free = _ports().inputs
    assert resolve(x, {"seq": 7, "batch": 2}) == (7, 2, 4)
    assert resolve(x, {"seq": 7}) is None
    assert resolve(h, {"batch": 2}) is None
    assert resolve(free, {}) is None


# ---- real models ----------------------------------------------------------------------------------------------------

_ZOO = """
    charrnn dgaintel dtln-1 dtln-2 g2p-decoder gtcrn gtcrn-raw noaa-streamflow plc-nsnet2 pose-gru rnnoise rul-aircraft
    silero-vad silero-vad-8k silero-vad-op18 silero-vad-sequence thai-segmenter
""".split()


def _bound(case: ZooCase) -> tuple[Graph, Arrays, Arrays, Arrays]:
    """(folded graph, feeds and expected outputs of the first call, constants)."""
    graph = fold_constants(load_onnx(case.model))
    feeds, expected = next(case.calls())
    return graph, case.initial | feeds, expected, case.constant_feeds()


@pytest.mark.parametrize("name", _ZOO)
def test_specialised_real_models_compute_the_same(name: str, zoo: Callable[[str], ZooCase]) -> None:
    graph, feeds, expected, constants = _bound(zoo(name))
    found = specialize(graph, {n: a.shape for n, a in feeds.items()}, constants)
    check_graph(found)
    assert all(found.types[o].is_static for n in found.nodes for o in n.outputs if o)
    for port, got in zip(found.outputs, run(found, feeds), strict=True):
        assert (port.dtype, port.shape) == (got.dtype, got.shape)
        if port.name in expected:
            np.testing.assert_allclose(got, expected[port.name], rtol=1e-3, atol=1e-5)


def test_a_voice_activity_model_folds_to_straight_code(zoo: Callable[[str], ZooCase]) -> None:
    graph, feeds, _, constants = _bound(zoo("silero-vad"))
    found = specialize(graph, {n: a.shape for n, a in feeds.items()}, constants)
    counts = Counter(ops(found))
    assert counts["LSTM"] == 1
    assert not counts.keys() & {"If", "Shape", "Equal", "Constant", "Identity", "ConstantOfShape"}
    assert len(found.nodes) < 45


def test_loops_of_a_mask_and_a_counter_fold_to_their_frames(zoo: Callable[[str], ZooCase]) -> None:
    """Whole layers written as loops: the number of turns is known, and no counter and no condition is left."""
    graph, feeds, _, _ = _bound(zoo("nakdimon"))
    found = specialize(graph, {n: a.shape for n, a in feeds.items()})
    loops = [n for n in found.nodes if n.op == "Loop"]
    assert [n.attrs["trips"] for n in loops] == [feeds["input_1"].shape[1]] * 4
    for loop in loops:
        assert not {"Gather", "Less", "Identity"} & {n.op for n in loop.attrs["body"].nodes}


def test_peer_cases_have_the_expected_shapes(peer_case: PeerCase) -> None:
    shapes = {n: a.shape for n, a in peer_case.feeds.items()}
    try:
        found = specialize(fold_constants(load_onnx(peer_case.model)), shapes)
    except GateInferError:
        assert peer_case.expects_error
        return
    for port in found.outputs:
        if port.name in peer_case.expected:
            assert port.shape == peer_case.expected[port.name].shape
