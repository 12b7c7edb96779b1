"""Lists of tensors come down to tensors: what onnxruntime says of each operator, natively, and in streams."""

from __future__ import annotations

import contextlib

import numpy as np
import onnxruntime as ort
import pytest
import tolerance
from onnx import TensorProto, helper
from onnx_models import model, node

import gateinfer as gi

F32 = TensorProto.FLOAT
I64 = TensorProto.INT64


def i8(*values):
    return np.array(values, "i8")


def at(*places, source="s"):
    """SequenceAt for each of `places`, names of constants, with results a, b, ... joined to y."""
    picks = [node("SequenceAt", f"{source} {place}", f"a{i}") for i, place in enumerate(places)]
    return [*picks, node("Concat", " ".join(f"a{i}" for i in range(len(places))), "y", axis=0)]


POSITIONS = {"p0": np.array(0, "i8"), "p1": np.array(1, "i8"), "m1": np.array(-1, "i8"), "m2": np.array(-2, "i4")}

SPLIT = node("SplitToSequence", "x", "s", axis=0, keepdims=0)
KEPT = node("SplitToSequence", "x", "s", axis=1)
LISTED = node("SequenceConstruct", "x z x", "s")
FLOATED = node("Cast", "n", "y", to=F32)
LENGTH = [node("SequenceLength", "s", "n"), FLOATED]
EMPTY = node("SequenceEmpty", "", "e")

CASES = {
    "first and last": [SPLIT, *at("p0", "m1", "m2")],
    "kept axis": [KEPT, *at("p1", "m1")],
    "negative axis": [node("SplitToSequence", "x", "s", axis=-1, keepdims=0), *at("p0", "m1")],
    "chunks": [node("SplitToSequence", "x two", "s", axis=2), *at("p0", "p1")],
    "short last chunk": [node("SplitToSequence", "x two", "s", axis=1), node("SequenceAt", "s m1", "y")],
    "given parts": [node("SplitToSequence", "x parts", "s", axis=2), node("SequenceAt", "s p1", "y")],
    "one by one keeps": [node("SplitToSequence", "x one", "s", axis=0, keepdims=0), *at("p0", "m1")],
    "listed": [LISTED, *at("p1", "m1", "m2")],
    "length": [SPLIT, *LENGTH],
    "length of chunks": [node("SplitToSequence", "x two", "s", axis=1), *LENGTH],
    "length of both": [SPLIT, node("SequenceAt", "s p0", "a"), node("SequenceInsert", "s a", "t"),
                       node("SequenceLength", "t", "n"), FLOATED],
    "length of list": [LISTED, *LENGTH],
    "joined": [KEPT, node("ConcatFromSequence", "s", "y", axis=1)],
    "joined elsewhere": [KEPT, node("ConcatFromSequence", "s", "y", axis=0)],
    "joined without the axis": [SPLIT, node("ConcatFromSequence", "s", "y", axis=0)],
    "joined chunks": [node("SplitToSequence", "x two", "s", axis=1), node("ConcatFromSequence", "s", "y", axis=1)],
    "stacked": [SPLIT, node("ConcatFromSequence", "s", "y", axis=0, new_axis=1)],
    "stacked elsewhere": [SPLIT, node("ConcatFromSequence", "s", "y", axis=-1, new_axis=1)],
    "stacked with the axis": [KEPT, node("ConcatFromSequence", "s", "y", axis=1, new_axis=1)],
    "listed and joined": [LISTED, node("ConcatFromSequence", "s", "y", axis=-1)],
    "listed and stacked": [LISTED, node("ConcatFromSequence", "s", "y", axis=-1, new_axis=1)],
    "appended": [EMPTY, node("SequenceInsert", "e x", "f"), node("SequenceInsert", "f z", "g"),
                 node("ConcatFromSequence", "g", "y", axis=2, new_axis=1)],
    "inserted": [LISTED, node("Neg", "x", "n"), node("SequenceInsert", "s n p1", "t"),
                 node("SequenceInsert", "t n m1", "u"), node("ConcatFromSequence", "u", "y", axis=0)],
    "inserted in a split": [SPLIT, node("SequenceAt", "s p1", "a"), node("SequenceInsert", "s a p1", "t"),
                            node("SequenceInsert", "t a p0", "u"), node("ConcatFromSequence", "u", "y", axis=0)],
    "appended to a split": [SPLIT, node("SequenceAt", "s p0", "a"), node("SequenceInsert", "s a", "t"),
                            *at("p0", "m1", "m2", source="t")],
    "erased": [LISTED, node("SequenceErase", "s p0", "t"), node("ConcatFromSequence", "t", "y", axis=0)],
    "erased last": [SPLIT, node("SequenceErase", "s", "t"), node("ConcatFromSequence", "t", "y", axis=1, new_axis=1)],
    "run-time position": [SPLIT, node("SequenceAt", "s i", "y")],
    "run-time position, kept": [KEPT, node("SequenceAt", "s i", "y")],
    "run-time position in a list": [LISTED, node("SequenceAt", "s i", "y")],
    "renamed, from 14": [SPLIT, node("Identity", "s", "t"), node("SequenceAt", "t p1", "y")],
}  # fmt: skip

ARRAYS = POSITIONS | {"two": np.array(2, "i8"), "one": np.array(1, "i8"), "parts": i8(2, 1, 2)}


def made(nodes, opset=17):
    """x [T, N, 5] and z like it; i is a position."""
    read = {name for n in nodes for name in n.input}
    inputs = {"x": ("T", "N", 5), "z": ("T", "N", 5), "i": (I64, ())}
    arrays = {name: array for name, array in ARRAYS.items() if name in read}
    return model(nodes, {n: shape for n, shape in inputs.items() if n in read}, "y", arrays, opset=opset)


def feeds_of(loaded, steps=4, rows=3, seed=0):
    rng = np.random.default_rng(seed)
    feeds = {p.name: rng.normal(size=(steps, rows, 5)).astype("f4") for p in loaded.inputs if p.name not in "if"}
    return feeds | ({"i": np.array(-2, "i8")} if any(p.name == "i" for p in loaded.inputs) else {})


def by_onnxruntime(content, feeds):
    return ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, feeds)


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_onnxruntime_natively(name, opset):
    if name.endswith("from 14"):
        opset = max(opset, 14)
    content = made(CASES[name], opset).SerializeToString()
    loaded = gi.load(content, fallback=None)
    for steps, rows in ((4, 3), (3, 2)):
        feeds = feeds_of(loaded, steps, rows)
        (expected,) = by_onnxruntime(content, feeds)
        (got,) = loaded.run(None, feeds)
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


# ---- loops and branches ---------------------------------------------------------------------------------------------


def sequence_info(name):
    return helper.make_tensor_sequence_value_info(name, F32, None)


def tensor_info(name, kind=F32, shape=None):
    return helper.make_tensor_value_info(name, kind, shape)


def loop(extra=(), *, appended="h2", start="e"):
    """h <- tanh(x[t] W + h R), each appended to a list; `extra` nodes stand in the body as well."""
    nodes = [
        node("SequenceAt", "parts t", "xt"),
        node("MatMul", "xt W", "xw"),
        node("MatMul", "h R", "hr"),
        node("Add", "xw hr", "sum"),
        node("Tanh", "sum", "h2"),
        *extra,
        node("SequenceInsert", f"list {appended}", "longer"),
        node("Identity", "go", "on"),
    ]
    flag = TensorProto.BOOL
    inputs = [tensor_info("t", I64, ()), tensor_info("go", flag, ()), tensor_info("h"), sequence_info("list")]
    outputs = [tensor_info("on", flag, ()), tensor_info("h2"), sequence_info("longer")]
    body = helper.make_graph(nodes, "body", inputs, outputs)
    return [
        node("SplitToSequence", "x", "parts", axis=0, keepdims=0),
        node("SequenceLength", "parts", "T"),
        node("SequenceEmpty", "", "e"),
        *([node("SequenceInsert", "e h0", "f")] if start == "f" else []),
        node("Loop", f"T yes h0 {start}", "last all", body=body),
    ]


def cell_arrays():
    rng = np.random.default_rng(1)
    return {
        "W": (rng.normal(size=(5, 6)) * 0.4).astype("f4"), "R": (rng.normal(size=(6, 6)) * 0.4).astype("f4"),
        "h0": np.zeros((2, 6), "f4"), "yes": np.array(True), "m1": np.array(-1, "i8"),
    }  # fmt: skip


def loop_again():
    """The same body once more, on the list that the first loop leaves."""
    again = loop(start="all")[-1]
    again.output[:] = ["last2", "again"]
    again.name = "again"
    return [again]


STACK_AGAIN = node("ConcatFromSequence", "again", "y", axis=0, new_axis=1)
STACK = node("ConcatFromSequence", "all", "y", axis=0, new_axis=1)
LISTS_OF_LOOPS = {
    "two loops on one list": [*loop(), *loop_again(), STACK_AGAIN],
    "two loops, then counted": [*loop(), *loop_again(), node("SequenceErase", "again", "less"),
                                node("ConcatFromSequence", "less", "y", axis=0)],
    "stacked": [*loop(), STACK],
    "along another axis": [*loop(), node("ConcatFromSequence", "all", "y", axis=1, new_axis=1)],
    "joined": [*loop(), node("ConcatFromSequence", "all", "y", axis=0)],
    "last": [*loop(), node("SequenceAt", "all m1", "y")],
    "begun": [*loop(start="f"), STACK],
    "something else": [*loop([node("Relu", "h2", "r")], appended="r"), STACK],
    "looked at": [*loop([node("SequenceLength", "list", "n"), node("Cast", "n", "m", to=F32), node("Add", "h2 m", "a")],
                        appended="a"), STACK],
}  # fmt: skip


def loop_model(name):
    return model(LISTS_OF_LOOPS[name], {"x": ("T", 2, 5)}, "y", cell_arrays(), opset=14)


@pytest.mark.parametrize("name", LISTS_OF_LOOPS)
def test_lists_that_loops_append_to(name):
    content = loop_model(name).SerializeToString()
    loaded = gi.load(content, fallback=None)
    for steps in (1, 2, 7):
        feeds = {"x": np.random.default_rng(steps).normal(size=(steps, 2, 5)).astype("f4")}
        (expected,) = by_onnxruntime(content, feeds)
        (got,) = loaded.run(None, feeds)
        assert got.shape == expected.shape
        bound = 2 * tolerance.recurrent(13, steps, np.abs(expected).max())
        np.testing.assert_allclose(got, expected, rtol=0, atol=bound)


def test_a_list_of_steps_streams_like_one_run():
    loaded = gi.load(loop_model("stacked").SerializeToString(), fallback=None)
    x = np.random.default_rng(3).normal(size=(9, 2, 5)).astype("f4")
    stream = loaded.stream()
    got = np.concatenate([stream(x[:1]), stream(x[1:5]), stream(x[5:])])
    np.testing.assert_array_equal(got, loaded(x))


def branches(*makes):
    """y is element 1 of the list that one of two branches makes."""
    graphs = [helper.make_graph([n], "b", [], [sequence_info(n.output[0])]) for n in makes]
    chosen = helper.make_node("If", ["c"], ["s"], then_branch=graphs[0], else_branch=graphs[1])
    return [chosen, node("SequenceAt", "s p1", "y")]


@pytest.mark.parametrize("condition", [True, False])
def test_lists_leave_branches(condition):
    nodes = branches(
        node("SplitToSequence", "x", "s1", axis=0, keepdims=0), node("SplitToSequence", "x", "s2", axis=1, keepdims=0)
    )
    inputs = {"x": (4, 3, 5), "c": (TensorProto.BOOL, ())}
    content = model(nodes, inputs, "y", {"p1": ARRAYS["p1"]}).SerializeToString()
    feeds = {"x": np.random.default_rng(0).normal(size=(4, 3, 5)).astype("f4"), "c": np.array(condition)}
    (got,) = gi.load(content, fallback=None).run(None, feeds)
    np.testing.assert_array_equal(got, by_onnxruntime(content, feeds)[0])


def test_lists_of_the_main_graph_are_read_in_branches():
    picks = [helper.make_graph([node("SequenceAt", f"s {p}", p + "y")], "b", [], [tensor_info(p + "y")])
             for p in ("p1", "m1")]  # fmt: skip
    chosen = helper.make_node("If", ["c"], ["y"], then_branch=picks[0], else_branch=picks[1])
    inputs = {"x": ("T", 3, 5), "c": (TensorProto.BOOL, ())}
    loaded = gi.load(model([SPLIT, chosen], inputs, "y", POSITIONS).SerializeToString(), fallback=None)
    x = np.random.default_rng(0).normal(size=(4, 3, 5)).astype("f4")
    np.testing.assert_array_equal(loaded.run(None, {"x": x, "c": np.array(True)})[0], x[1])
    np.testing.assert_array_equal(loaded.run(None, {"x": x, "c": np.array(False)})[0], x[3])


# ---- recurrent nodes ------------------------------------------------------------------------------------------------


def test_states_are_found_and_carried_through_lists():
    """Two layers whose states are members of one input, the way exporters unbind [layers, N, H]."""
    rng = np.random.default_rng(0)
    arrays = {f"{k}{i}": (rng.normal(size=s) * 0.5).astype("f4") for i in range(2)
              for k, s in {"W": (1, 12, 4), "R": (1, 12, 4)}.items()}  # fmt: skip
    nodes = [node("SplitToSequence", "h", "s", axis=0)]
    for i, x in enumerate(("x", "v0")):
        nodes += [
            node("SequenceAt", f"s p{i}", f"h{i}"),
            node("GRU", f"{x} W{i} R{i} _ _ h{i}", f"Y{i} n{i}", hidden_size=4),
            node("Squeeze", f"Y{i} one", f"v{i}"),
        ]
    nodes += [node("SequenceConstruct", "n0 n1", "l"), node("ConcatFromSequence", "l", "hn", axis=0)]
    nodes += [node("Identity", "v1", "y")]
    arrays |= {"p0": ARRAYS["p0"], "p1": ARRAYS["p1"], "one": i8(1)}
    content = model(nodes, {"x": ("T", 1, 4), "h": (2, 1, 4)}, "y hn", arrays).SerializeToString()
    loaded = gi.load(content, fallback=None)
    assert [(s.input, s.output, s.lifted) for s in loaded.states] == [("h", "hn", False)]
    x = rng.normal(size=(6, 1, 4)).astype("f4")
    feeds = {"x": x, "h": np.zeros((2, 1, 4), "f4")}
    whole = loaded.run(None, feeds)
    for got, expected in zip(whole, by_onnxruntime(content, feeds), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=2 * 2 * tolerance.recurrent(10, 6))
    stream = loaded.stream()
    np.testing.assert_array_equal(np.concatenate([stream(x[:2]), stream(x[2:])]), whole[0])


# ---- what stays a list ----------------------------------------------------------------------------------------------

UNTOLD = {
    "insert in front of a split": [KEPT, node("Neg", "x", "q"), node("Slice", "q zero one0 one0", "r"),
                                   node("SequenceInsert", "s r p0", "t"), node("SequenceInsert", "t r", "v"),
                                   node("SequenceErase", "v i", "u"), node("ConcatFromSequence", "u", "w", axis=1)],
    "insert": [LISTED, node("SequenceInsert", "s n i", "t"), node("SequenceInsert", "t x", "u"),
               node("ConcatFromSequence", "u", "w", axis=0)],
    "erase": [LISTED, node("SequenceErase", "s i", "t"), node("SequenceAt", "t p0", "w")],
    "two readers": [LISTED, node("SequenceInsert", "s n i", "t"), node("SequenceAt", "t m1", "a"),
                    node("Relu", "a", "b"), node("SequenceInsert", "t b", "u"),
                    node("ConcatFromSequence", "u", "w", axis=0)],
}  # fmt: skip


def untold(name, steps="T"):
    """Positions that only the run tells, between native nodes."""
    nodes = [node("Neg", "x", "n"), node("Cast", "f", "i", to=I64), *UNTOLD[name], node("Tanh", "w", "y")]
    return model(nodes, untold_inputs(nodes, steps), "y", constants_for(nodes)).SerializeToString()


def untold_inputs(nodes, steps):
    read = {source for n in nodes for source in n.input}
    return {n: (steps, 2, 5) for n in "xz" if n in read} | ({"f": ()} if "f" in read else {"i": (I64, ())})


def constants_for(nodes):
    read = {source for n in nodes for source in n.input}
    arrays = POSITIONS | {"zero": i8(0), "one0": i8(1)}
    return {n: a for n, a in arrays.items() if n in read}


@pytest.mark.parametrize("name", UNTOLD)
def test_a_position_that_is_fed_decides(name):
    """It is bound like any shape, so that nothing is left for an island."""
    nodes = [node("Neg", "x", "n"), *UNTOLD[name], node("Identity", "w", "y")]
    content = model(nodes, untold_inputs(nodes, "T"), "y", constants_for(nodes)).SerializeToString()
    loaded = gi.load(content, fallback=None)
    for place in (0, 1, -1):
        feeds = {p.name: feeds_of(loaded, 3, 2)[p.name] for p in loaded.inputs} | {"i": np.array(place, "i8")}
        np.testing.assert_array_equal(loaded.run(None, feeds)[0], by_onnxruntime(content, feeds)[0])


@pytest.mark.parametrize("name", UNTOLD)
def test_lists_stay_inside_one_island(name):
    content = untold(name)
    loaded = gi.load(content)
    feeds = feeds_of(loaded, 3, 2) | {"f": np.array(1, "f4")}
    (got,) = loaded.run(None, feeds)
    (expected,) = by_onnxruntime(content, feeds)
    np.testing.assert_allclose(got, expected, rtol=4 * tolerance.U, atol=0)
    shapes = {name: array.shape for name, array in feeds.items()}
    islands = [op for op in loaded.plan(shapes, {}).lowered.program.op_names if op.startswith("onnxruntime")]
    assert len(islands) == (2 if name == "two readers" else 1)
    assert "Neg" not in islands[0]
    assert "Tanh" not in islands[-1]


def test_steps_behind_a_list_that_stays_are_no_sequence_to_stream():
    rng = np.random.default_rng(0)
    arrays = {k: (rng.normal(size=(1, 15, 5)) * 0.5).astype("f4") for k in "WR"}
    nodes = [
        node("SplitToSequence", "x", "s", axis=0),
        node("Cast", "f", "i", to=I64),
        node("SequenceErase", "s i", "t"),
        node("ConcatFromSequence", "t", "w", axis=0),
        node("GRU", "w W R", "y", hidden_size=5),
    ]
    loaded = gi.load(model(nodes, {"x": ("T", 1, 5), "f": ()}, "y", arrays).SerializeToString())
    with pytest.raises(gi.StateMismatch, match='GRU node "gru_of_y"'):
        loaded.stream()


@pytest.mark.parametrize("name", UNTOLD)
def test_a_summary_shows_the_island(name):
    summary = gi.load(untold(name, steps=3)).summary()
    assert "onnxruntime[" in str(summary)
    assert "a list" in {row.shape for row in summary.rows if row.where == "onnxruntime"}


@pytest.mark.parametrize("steps", [3, "T"])
@pytest.mark.parametrize("name", UNTOLD)
def test_without_islands_they_are_refused_by_name_when_loading(name, steps):
    with pytest.raises(gi.UnsupportedOp, match=r"Sequence\w+ node .* export the model without it"):
        gi.load(untold(name, steps=steps), fallback=None)


@pytest.mark.parametrize("fallback", [None, "onnxruntime"])
def test_a_carried_list_that_nothing_resolves_is_refused_when_loading(fallback):
    """How often the loop turns is only known when it runs, and the body asks how long its list is."""
    nodes = [n for n in LISTS_OF_LOOPS["looked at"] if n.output[0] != "T"]
    nodes = [node("Cast", "f", "T", to=I64), *nodes]
    content = model(nodes, {"x": ("S", 2, 5), "f": ()}, "y", cell_arrays(), opset=14).SerializeToString()
    with pytest.raises(gi.UnsupportedOp, match='Loop node "loop_of_last".* carries the sequence "list"'):
        gi.load(content, fallback=fallback)


WRONG = {
    "position out of range": ([LISTED, node("SequenceAt", "s p5", "y")], "position 5 does not exist among 3 members"),
    "parts that do not add up": ([node("SplitToSequence", "x parts", "s", axis=0), *at("p0")], "do not make up axis 0"),
    "axis of a split": ([node("SplitToSequence", "x", "s", axis=3), *at("p0")], "axis 3 does not exist"),
    "axis of a join": ([SPLIT, node("ConcatFromSequence", "s", "y", axis=3, new_axis=1)], "axis 3"),
    "no axis": ([SPLIT, node("ConcatFromSequence", "s", "y")], "attribute axis"),
    "position out of reach": ([SPLIT, node("SequenceAt", "s p5", "y")], '"sequenceat_of_y": indices from 5 to 5'),
    "no part": ([node("SplitToSequence", "x p0", "s", axis=0), *at("p0")], "a part must have elements, got 0"),
    "a list of lists": ([LISTED, node("SequenceConstruct", "s s", "t"), node("SequenceAt", "t p0", "y")],
                        r"input 0 \(\"s\"\) must be a tensor"),
    "a list in a list": ([LISTED, node("SequenceInsert", "s s", "t"), node("SequenceAt", "t p0", "y")],
                         r"input 1 \(\"s\"\) must be a tensor"),
    "split of a list": ([LISTED, node("SplitToSequence", "s", "t"), *at("p0", source="t")], "must be a tensor"),
    "two outputs": ([node("SplitToSequence", "x", "s t", axis=0), *at("p0")], "one output"),
    "a list as output": ([node("SplitToSequence", "x", "y", axis=0)], 'graph output "y" is a sequence'),
    "a part with a fraction": ([node("SplitToSequence", "x half", "s", axis=0), *at("p0")], "must be whole numbers"),
    "empty": ([EMPTY, node("ConcatFromSequence", "e", "w", axis=0), node("Add", "w x", "y")], "is empty"),
    "a tensor": ([node("SequenceAt", "x p0", "y")], "must be a sequence"),
    "a list as a tensor": ([SPLIT, node("Neg", "s", "y")], "Neg node"),
    "unequal members": ([node("SplitToSequence", "x parts", "s", axis=2), node("SequenceAt", "s i", "y")],
                        "SequenceAt node"),
}  # fmt: skip


@pytest.mark.parametrize("fallback", [None, "onnxruntime"])
@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_when_loading(name, fallback):
    nodes, text = WRONG[name]
    read = {source for n in nodes for source in n.input}
    inputs = {"x": (4, 3, 5), "z": (4, 3, 5), "i": (I64, ())}
    arrays = {n: a for n, a in (ARRAYS | {"p5": np.array(5, "i8"), "half": np.array(0.5, "f4")}).items() if n in read}
    content = model(nodes, inputs, "y", arrays).SerializeToString()
    with pytest.raises(gi.GateInferError, match=text):
        gi.load(content, fallback=fallback)


MANY = 5000
MANIFOLD = {
    "members to take apart": ([node("SplitToSequence", "x", "s", axis=0), node("ConcatFromSequence", "s", "y", axis=1)],
                              "5000 members, of which at most 4096"),
    "members one by one": ([node("SequenceConstruct", "x", "s0"),
                            *(node("SequenceInsert", f"s{i} x", f"s{i + 1}") for i in range(MANY)),
                            node("ConcatFromSequence", f"s{MANY}", "y", axis=0)], "export the model without it"),
    "lists to take apart": ([node("SplitToSequence", "x short", "s", axis=0),
                             *(node("SequenceErase", "s p0", f"e{i}") for i in range(100)),
                             *(node("SequenceAt", f"e{i} p0", f"y{i}") for i in range(100)),
                             node("Sum", " ".join(f"y{i}" for i in range(100)), "y")], "folding visits more than"),
}  # fmt: skip


@pytest.mark.parametrize("name", MANIFOLD)
def test_lists_beyond_measure_are_refused(name):
    nodes, text = MANIFOLD[name]
    arrays = {"p0": np.array(0), "short": np.array(2)}
    content = model(nodes, {"x": (MANY, 1)}, "y", {k: a for k, a in arrays.items() if k in str(nodes)})
    with pytest.raises(gi.GateInferError, match=text):
        gi.load(content.SerializeToString(), fallback=None)


def random_lists(seed):
    """Operators at random on lists and tensors [3, 2, 4]; most positions exist."""
    rng = np.random.default_rng(seed)
    nodes, arrays, lists, tensors = [], {}, ["l"], ["x", "z"]
    nodes.append(node("SplitToSequence", "x", "l", axis=int(rng.integers(-3, 3))))

    def constant(low, high):
        arrays[f"k{len(arrays)}"] = np.array(rng.integers(low, high))
        return f"k{len(arrays) - 1}"

    for count in range(rng.integers(3, 9)):
        out, some, one = f"v{count}", lists[-1], str(rng.choice(tensors))
        axis = int(rng.integers(-3, 3))
        makes_list, made = [
            (True, node("SequenceConstruct", f"{one} {rng.choice(tensors)}", out)),
            (True, node("SplitToSequence", f"{one} {constant(1, 3)}", out, axis=axis)),
            (True, node("SequenceInsert", f"{some} {one} {constant(0, 2)}", out)),
            (True, node("SequenceInsert", f"{some} {one}", out)),
            (True, node("SequenceErase", some, out)),
            (False, node("SequenceAt", f"{some} {constant(-1, 2)}", out)),
            (False, node("ConcatFromSequence", some, out, axis=axis)),
        ][rng.integers(7)]
        nodes.append(made)
        (lists if makes_list else tensors).append(out)
    nodes += [node("SequenceAt", f"{lists[-1]} {constant(-1, 1)}", "last"), node("Relu", "last", "y")]
    read = {name for n in nodes for name in n.input}
    shape = ("T", "N", 4) if seed % 2 else (3, 2, 4)
    inputs = {name: shape for name in "xz" if name in read}
    return model(nodes, inputs, "y", {n: a for n, a in arrays.items() if n in read}, opset=14).SerializeToString()


@pytest.mark.parametrize("seed", range(60))
def test_random_lists(seed):
    content = random_lists(seed)
    feeds = {n: np.random.default_rng(seed).normal(size=(3, 2, 4)).astype("f4") for n in "xz"}
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    feeds = {arg.name: feeds[arg.name] for arg in session.get_inputs()}
    try:
        (expected,) = session.run(None, feeds)
    except Exception:  # onnxruntime fails, maybe in a node that no output needs: at most a typed error here
        with contextlib.suppress(gi.GateInferError):
            gi.load(content, fallback=None).run(None, feeds)
        return
    np.testing.assert_array_equal(gi.load(content, fallback=None).run(None, feeds)[0], expected)
