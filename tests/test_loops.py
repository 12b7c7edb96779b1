"""Loop and Scan: against onnxruntime, in every form a file may give them, and against files that mean harm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from pipeline import node, random

import gateinfer as gi
from gateinfer import _core
from gateinfer.graph.fold import specialize
from gateinfer.graph.ir import Graph, Node
from gateinfer.loaders.onnx import load_onnx

F, I64, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
H = 4
Ports = dict[str, tuple[int, tuple[int | str, ...] | None]]
Feeds = dict[str, np.ndarray]


def value_infos(ports: Ports) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in ports.items()]


def graph_of(nodes: list, ins: Ports, outs: Ports, constants: Feeds | None = None, name: str = "g") -> onnx.GraphProto:
    weights = [numpy_helper.from_array(np.asarray(a), n) for n, a in (constants or {}).items()]
    return helper.make_graph(nodes, name, value_infos(ins), value_infos(outs), weights)


def model_of(nodes: list, ins: Ports, outs: Ports, constants: Feeds | None = None, opset: int = 18) -> bytes:
    graph = graph_of(nodes, ins, outs, constants)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def loop(inputs: str, outputs: str, body: onnx.GraphProto) -> onnx.NodeProto:
    return node("Loop", inputs, outputs, body=body)


def check(model: bytes, feeds: Feeds, atol: float = 1e-6) -> gi.Model:
    """The engine alone gives onnxruntime's figures, and the same bits on every instruction set."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    expected = session.run(None, feeds)
    found = [gi.load(model, isa=isa, fallback=None) for isa in runnable_isas()]
    results = [m.run(None, feeds) for m in found]
    for got, figures in zip(results[-1], expected, strict=True):
        assert got.dtype == figures.dtype and got.shape == figures.shape
        np.testing.assert_allclose(got, figures, atol=atol, rtol=1e-5)
    for other in results[:-1]:
        for a, b in zip(other, results[-1], strict=True):
            assert a.tobytes() == b.tobytes()
    return found[-1]


def runnable_isas() -> list[str]:
    names = _core.isa_names()
    return names[: names.index(_core.best_isa()) + 1]


def specialized(model: bytes, feeds: Feeds) -> Graph:
    return specialize(load_onnx(model), {name: array.shape for name, array in feeds.items()})


def loops_in(graph: Graph) -> list[Node]:
    return [n for n in graph.nodes if n.op in ("Loop", "Scan")]


def folded_loop(model: bytes, feeds: Feeds) -> Node:
    (found,) = loops_in(specialized(model, feeds))
    return found


# ---- a recurrent layer, as TensorFlow writes it ----------------------------------------------------------------------

WEIGHTS: Feeds = {
    "W": random(3, H, seed=1),
    "R": random(H, H, seed=2),
    "b": random(H, seed=3),
    "one": np.array(1, np.int64),
    "go": np.array(True),
    "T": np.array(7.0, np.float32),
}

CELL = [
    node("Gather", "X t", "x", axis=0),
    node("MatMul", "x W_in", "xw"),
    node("MatMul", "h R_in", "hr"),
    node("Add", "xw hr", "s"),
    node("Add", "s b", "sb"),
    node("Tanh", "sb", "h_out"),
    node("Identity", "h_out", "y"),
    node("Add", "t one", "t_out"),
    node("Cast", "t_out", "t_float", to=F),
    node("Less", "t_float T", "below"),
    node("And", "below go_in", "go_out"),
    node("Identity", "W_in", "W_out"),
    node("Identity", "R_in", "R_out"),
]
BODY_IN: Ports = {
    "i": (I64, ()),
    "go_in": (B, ()),
    "t": (I64, ()),
    "h": (F, None),
    "W_in": (F, None),
    "R_in": (F, None),
}
BODY_OUT: Ports = {"go_out": (B, ()), "t_out": (I64, ()), "h_out": (F, None), "W_out": (F, None), "R_out": (F, None)}


def layer(trips: np.ndarray | None = None, opset: int = 18) -> bytes:
    """A counter, weights carried as state, a condition on the counter, a TensorArray."""
    body = graph_of(CELL, BODY_IN, BODY_OUT | {"y": (F, None)})
    first = "M" if trips is not None else "-"
    whole = loop(f"{first} go t0 h0 W R", "t_end h_end W_end R_end Y", body)
    nodes = [node("Transpose", "x_in", "X", perm=[1, 0, 2]), whole]
    constants = WEIGHTS | {"t0": np.array(0, np.int64)} | ({"M": trips} if trips is not None else {})
    ins: Ports = {"x_in": (F, ("N", 7, 3)), "h0": (F, ("N", H))}
    return model_of(nodes, ins, {"Y": (F, None), "h_end": (F, None), "t_end": (I64, ())}, constants, opset)


FEEDS: Feeds = {"x_in": random(2, 7, 3, seed=9), "h0": random(2, H, seed=8)}


@pytest.mark.parametrize("trips", [None, 3, 7, 2**31 - 1, 2**62], ids=str)
def test_layer_against_onnxruntime(trips: int | None) -> None:
    model = layer(None if trips is None else np.array(trips, np.int64))
    check(model, FEEDS)
    assert folded_loop(model, FEEDS).attrs["trips"] == min(trips or 7, 7)


@pytest.mark.parametrize("opset", [11, 13, 21])
def test_operator_versions(opset: int) -> None:
    check(layer(opset=opset), FEEDS)


def test_rows_of_a_batch_do_not_meet() -> None:
    """Each sequence alone gives the bits it has in a batch."""
    model = gi.load(layer(), fallback=None)
    together = model.run(["Y"], FEEDS)[0]
    for n in range(2):
        alone = model.run(["Y"], {name: array[n : n + 1] for name, array in FEEDS.items()})[0]
        np.testing.assert_array_equal(alone, together[:, n : n + 1])


def test_what_no_turn_changes_is_captured_and_counters_are_known() -> None:
    """Weights carried as state are constants of the products inside; what is left is the state and the frames."""
    found = folded_loop(layer(), FEEDS)
    body = found.attrs["body"]
    assert [port.shape for port in body.inputs] == [(), (2, H), (2, 3)]
    assert not {"Gather", "Less", "And", "Cast"} & {n.op for n in body.nodes}
    assert found.attrs["scanned"] == 1 and len(found.outputs) == 2


def test_a_stream_keeps_the_state_of_a_loop() -> None:
    """The state of a loop that is an input and an output of the model goes on from call to call."""
    model = gi.load(layer(), fallback=None)
    stream = model.stream(states={"h0": "h_end"})
    state = np.zeros((2, H), np.float32)
    for seed in range(3):
        x = random(2, 7, 3, seed=seed)
        expected, state, _ = model.run(["Y", "h_end", "t_end"], {"x_in": x, "h0": state})
        np.testing.assert_array_equal(stream(x_in=x)["Y"], expected)
    np.testing.assert_array_equal(stream.state["h0"], state)


# ---- counting --------------------------------------------------------------------------------------------------------

X3: Feeds = {"x": random(3, seed=4)}


def accumulate(
    carried: str, condition: list, constants: Feeds, kind: int = I64, start: object = 0, trips: object = None
) -> bytes:
    """s += x; k is carried from `start` on; k_out and go_out come from `condition`."""
    body = graph_of(
        [node("Add", "s x", "s_out"), node("Identity", "s_out", "row"), *condition],
        {"i": (I64, ()), "c": (B, ()), "s": (F, (3,)), "k": (kind, ())},
        {"go_out": (B, ()), "s_out": (F, (3,)), carried: (kind, ()), "row": (F, (3,))},
    )
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    fixed = {"zero": np.zeros(3, np.float32), "k0": np.array(start, dtype), "go": np.array(True), **constants}
    first = "-"
    if trips is not None:
        fixed["M"], first = np.array(trips, np.int64), "M"
    outs: Ports = {"s_end": (F, (3,)), "k_end": (kind, ()), "rows": (F, (None, 3))}
    return model_of([loop(f"{first} go zero k0", "s_end k_end rows", body)], {"x": (F, (3,))}, outs, fixed)


def number(value: object, kind: int = I64) -> np.ndarray:
    return np.array(value, helper.tensor_dtype_to_np_dtype(kind))


COUNTING = {
    "down": (accumulate("k_out", [node("Sub", "k u", "k_out"), node("Greater", "k_out l", "go_out")],
                        {"u": number(2), "l": number(0)}, start=11), 6),
    "float": (accumulate("k_out", [node("Add", "k u", "k_out"), node("Less", "k_out l", "go_out")],
                         {"u": number(1, F), "l": number(5, F)}, kind=F, start=0), 5),
    "float-that-rounds": (accumulate("k_out", [node("Add", "k u", "k_out"), node("Less", "k_out l", "go_out")],
                                     {"u": number(0.1, F), "l": number(1, F)}, kind=F, start=0), 10),
    "doubling": (accumulate("k_out", [node("Mul", "k u", "k_out"), node("LessOrEqual", "k_out l", "go_out")],
                            {"u": number(2), "l": number(64)}, start=1), 7),
    "by-the-turn": (accumulate("k_out", [node("Identity", "i", "k_out"), node("GreaterOrEqual", "i l", "late"),
                                         node("Not", "late", "go_out")], {"l": number(4)}), 5),
    "long": (accumulate("k_out", [node("Add", "k u", "k_out"), node("Less", "k_out l", "go_out")],
                        {"u": number(1), "l": number(3000)}), 3000),
    "until-the-trip-count": (accumulate("k_out", [node("Add", "k u", "k_out"), node("Less", "k_out l", "go_out")],
                                        {"u": number(1), "l": number(300)}, trips=9), 9),
    "condition-true": (accumulate("k_out", [node("Add", "k u", "k_out"), node("Identity", "c", "go_out")],
                                  {"u": number(3)}, trips=6), 6),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTING)
def test_turns_are_counted(name: str) -> None:
    model, turns = COUNTING[name]
    check(model, X3, atol=1e-2 if name == "long" else 1e-5)
    assert folded_loop(model, X3).attrs["trips"] == turns


@pytest.mark.parametrize("turns", [0, 1])
def test_short_loops_leave_no_loop(turns: int) -> None:
    less = [node("Add", "k u", "k_out"), node("Less", "k_out l", "go_out")]
    model = accumulate("k_out", less, {"u": number(1), "l": number(9)}, trips=turns)
    check(model, X3)
    assert not loops_in(specialized(model, X3))


def test_a_negative_trip_count_makes_no_turn() -> None:
    less = [node("Add", "k u", "k_out"), node("Less", "k_out l", "go_out")]
    check(accumulate("k_out", less, {"u": number(1), "l": number(9)}, trips=-3), X3)


# ---- counts that only running tells ----------------------------------------------------------------------------------


def grow(condition: str = "go_out") -> bytes:
    """Doubles until the sum of the elements is large."""
    body = graph_of(
        [
            node("Add", "s s", "s_out"),
            node("ReduceSum", "s_out", "total", keepdims=0),
            node("Less", "total limit", "go_out"),
            node("Add", "n one", "n_out"),
        ],
        {"i": (I64, ()), "c": (B, ()), "s": (F, (3,)), "n": (I64, ())},
        {"go_out": (B, ()), "s_out": (F, (3,)), "n_out": (I64, ())},
    )
    nodes = [
        node("Abs", "x", "start"),
        node("ReduceSum", "start", "first", keepdims=0),
        node("Less", "first limit", "go"),
        loop("M go start zero", "end turns", body),
    ]
    constants = {"one": np.array(1), "zero": np.array(0), "limit": np.float32(100), "M": np.array(2**62)}
    return model_of(nodes, {"x": (F, (3,))}, {"end": (F, (3,)), "turns": (I64, ())}, constants)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
def test_condition_at_run_time(scale: float) -> None:
    check(grow(), {"x": np.float32(scale) * random(3, seed=5)})


def test_trip_count_at_run_time() -> None:
    body = graph_of(
        [node("Mul", "s half", "s_out"), node("Identity", "c", "c_out")],
        {"i": (I64, ()), "c": (B, ()), "s": (F, (3,))},
        {"c_out": (B, ()), "s_out": (F, (3,))},
    )
    model = model_of(
        [node("ReduceSum", "n", "m", keepdims=0), loop("m - x", "y", body)],
        {"x": (F, (3,)), "n": (I64, (2,))},
        {"y": (F, (3,))},
        {"half": np.float32(0.5)},
    )
    for counts in ([1, 4], [0, 0], [-3, 1]):
        check(model, X3 | {"n": np.array(counts)})
    assert folded_loop(model, X3 | {"n": np.array([1, 4])}).attrs["trips"] == -1


def test_stacks_as_long_as_an_input_says() -> None:
    """The input that decides how long a result is becomes a constant of the program, call by call."""
    less = [node("Add", "k u", "k_out"), node("Less", "k_out n", "go_out")]
    body = graph_of(
        [node("Add", "s x", "s_out"), node("Identity", "s_out", "row"), *less],
        {"i": (I64, ()), "c": (B, ()), "s": (F, (3,)), "k": (I64, ())},
        {"go_out": (B, ()), "s_out": (F, (3,)), "k_out": (I64, ()), "row": (F, (3,))},
    )
    constants = {"zero": np.zeros(3, np.float32), "k0": np.array(0), "u": np.array(1), "go": np.array(True)}
    model = model_of(
        [loop("- go zero k0", "s_end k_end rows", body)],
        {"x": (F, (3,)), "n": (I64, ())},
        {"rows": (F, (None, 3))},
        constants,
    )
    for count in (1, 2, 6):
        check(model, X3 | {"n": np.array(count)})


def test_stacks_of_a_length_that_nobody_knows_are_refused() -> None:
    body = graph_of(
        [node("Add", "s s", "s_out"), node("Identity", "s_out", "row"), node("ReduceSum", "s", "total", keepdims=0),
         node("Less", "total limit", "go_out")],
        {"i": (I64, ()), "c": (B, ()), "s": (F, (3,))},
        {"go_out": (B, ()), "s_out": (F, (3,)), "row": (F, (3,))},
    )  # fmt: skip
    constants = {"limit": np.float32(100), "go": np.array(True)}
    outs: Ports = {"end": (F, (3,)), "rows": (F, (None, 3))}
    nodes = [loop("- go x", "end rows", body)]
    with pytest.raises(gi.UnsupportedOp, match=r"stacks what each turn yields.*run-time values"):
        gi.load(model_of(nodes, {"x": (F, (3,))}, outs, constants), fallback=None)
    check(model_of(nodes, {"x": (F, (3,))}, {"end": (F, (3,))}, constants), {"x": np.abs(X3["x"])})


def test_a_condition_that_is_only_known_at_run_time_before_a_counted_loop() -> None:
    """Zero turns or exactly five: a counter's result is its first value if there was no turn."""
    body = graph_of(
        [node("Add", "s x", "s_out"), node("Add", "k u", "k_out"), node("Less", "k_out l", "go_out")],
        {"i": (I64, ()), "c": (B, ()), "s": (F, (3,)), "k": (I64, ())},
        {"go_out": (B, ()), "s_out": (F, (3,)), "k_out": (I64, ())},
    )
    nodes = [
        node("ReduceSum", "x", "total", keepdims=0),
        node("Less", "total zero", "go"),
        loop("- go x k0", "s_end k_end", body),
    ]
    constants = {"k0": np.array(0), "u": np.array(1), "l": np.array(5), "zero": np.float32(0)}
    model = model_of(nodes, {"x": (F, (3,))}, {"s_end": (F, (3,)), "k_end": (I64, ())}, constants)
    for sign in (1, -1):
        check(model, {"x": np.float32(sign) * np.abs(X3["x"])})


# ---- what flows through the body -------------------------------------------------------------------------------------


def simple(nodes: list, carried: dict[str, str], outs: list[str], *, trips: int = 5, kind: int = F) -> bytes:
    """Carried values (name behind a turn by name before) that all start from x; `outs` are stacked."""
    ports: Ports = {"i": (I64, ()), "c": (B, ())} | {name: (kind, (3,)) for name in carried}
    leaving: Ports = {"c": (B, ())} | {name: (kind, None) for name in [*carried.values(), *outs]}
    body = graph_of(nodes, ports, {})
    body.output.extend(helper.make_tensor_value_info(name, *leaving[name]) for name in ["c", *carried.values(), *outs])
    ends = [f"end{i}" for i in range(len(carried))] + [f"stack{i}" for i in range(len(outs))]
    main = [loop(" ".join(["M", "-"] + ["x"] * len(carried)), " ".join(ends), body)]
    constants = {"M": np.array(trips), "w": random(3, seed=11)}
    return model_of(main, {"x": (kind, (3,))}, {name: (kind, None) for name in ends}, constants)


THROUGH = {
    "fibonacci": simple([node("Add", "a b", "s")], {"a": "b", "b": "s"}, []),
    "swap": simple([node("Mul", "a w", "p")], {"a": "b", "b": "p"}, []),
    "one-value-twice": simple([node("Add", "a w", "s")], {"a": "s", "b": "s"}, ["s", "s"]),
    "the-value-before": simple([node("Add", "a w", "s")], {"a": "s"}, ["a"]),
    "the-captured-value": simple(
        [node("Add", "a x", "s"), node("Identity", "x", "x1"), node("Identity", "w", "w1")], {"a": "s"}, ["x1", "w1"]
    ),
    "the-carried-value-becomes-a-constant": simple(
        [node("Add", "a b", "s"), node("Identity", "w", "w1")], {"a": "s", "b": "w1"}, []
    ),
    "the-number-of-the-turn": simple(
        [node("Cast", "i", "f", to=F), node("Add", "a f", "s"), node("Mul", "f w", "row")], {"a": "s"}, ["row"]
    ),
    "nothing-carried": simple([node("Cast", "i", "f", to=F), node("Add", "x f", "row")], {}, ["row"]),
    "an-unused-state": simple([node("Add", "a w", "s"), node("Mul", "b b", "t")], {"a": "s", "b": "t"}, ["s"]),
}


@pytest.mark.parametrize("name", THROUGH)
def test_dataflow_through_the_body(name: str) -> None:
    check(THROUGH[name], X3)


def test_results_in_strided_places() -> None:
    """Stacks that end in a concatenation or behind a transpose."""
    body = graph_of(
        [node("Add", "a w", "s"), node("Mul", "s s", "t")],
        {"i": (I64, ()), "c": (B, ()), "a": (F, (2, 3))},
        {"c": (B, ()), "s": (F, (2, 3)), "t": (F, (2, 3))},
    )
    body.output.extend(value_infos({"s2": (F, (2, 3))}))
    body.node.append(node("Identity", "s", "s2"))
    nodes = [
        loop("M - x", "end ss tt", body),
        node("Concat", "ss tt", "both", axis=2),
        node("Transpose", "both", "y", perm=[1, 0, 2]),
        node("Concat", "end x", "z", axis=1),
    ]
    constants = {"M": np.array(4), "w": random(2, 3, seed=1)}
    model = model_of(nodes, {"x": (F, (2, 3))}, {"y": (F, None), "z": (F, None)}, constants)
    check(model, {"x": random(2, 3, seed=2)})


def test_frames_are_picked_in_any_order() -> None:
    """Elements at places that follow from the counter: backwards, every other one, along another axis, wrapped."""
    body = graph_of(
        [
            node("Sub", "last i", "back"), node("Gather", "X back", "a", axis=0),
            node("Mul", "i two", "even"), node("Gather", "X even", "b", axis=0),
            node("Gather", "X i", "c0", axis=1), node("ReduceSum", "c0", "c1", keepdims=0),
            node("Sub", "i last", "wrapped"), node("Gather", "X wrapped", "d", axis=0),
            node("Unsqueeze", "i zero", "i1"), node("Gather", "X i1", "e0", axis=0), node("Squeeze", "e0 zero", "e"),
            node("Mod", "even three", "odd"), node("Gather", "X odd", "f", axis=0),
            node("Sum", "a b d e f s", "s1"), node("Add", "s1 c1", "s_out"),
        ],
        {"i": (I64, ()), "c": (B, ()), "s": (F, (4,))},
        {"c": (B, ()), "s_out": (F, (4,))},
    )  # fmt: skip
    numbers = {"M": 4, "last": 3, "two": 2, "three": 3, "zero": [0]}
    constants = {name: np.array(value, np.int64) for name, value in numbers.items()}
    model = model_of(
        [node("Neg", "x", "X"), loop("M - s", "y", body)],
        {"x": (F, (8, 4)), "s": (F, (4,))},
        {"y": (F, (4,))},
        constants,
    )
    feeds = {"x": random(8, 4, seed=3), "s": random(4, seed=4)}
    check(model, feeds, atol=1e-5)
    assert "Gather" not in {n.op for n in folded_loop(model, feeds).attrs["body"].nodes}


def test_places_that_are_data_are_looked_up_in_each_turn() -> None:
    body = graph_of(
        [node("Gather", "ids i", "id", axis=0), node("Gather", "table id", "row", axis=0), node("Add", "s row", "t")],
        {"i": (I64, ()), "c": (B, ()), "s": (F, (3,))},
        {"c": (B, ()), "t": (F, (3,))},
    )
    model = model_of(
        [loop("M - x", "y", body)],
        {"x": (F, (3,)), "ids": (I64, (6,))},
        {"y": (F, (3,))},
        {"M": np.array(6), "table": random(9, 3, seed=1)},
    )
    check(model, X3 | {"ids": np.array([3, 0, -1, 8, 3, 5])})
    with pytest.raises(gi.ShapeError, match="out of range"):
        gi.load(model).run(None, X3 | {"ids": np.array([3, 0, 9, 8, 3, 5])})


def test_tensor_arrays_written_at_the_counter() -> None:
    """An accumulator that ScatterND fills row by row."""
    body = graph_of(
        [
            node("Add", "s x", "t"),
            node("Unsqueeze", "i zero", "i1"),
            node("Unsqueeze", "i1 zero", "i2"),
            node("Unsqueeze", "t zero", "t1"),
            node("ScatterND", "buffer i2 t1", "filled"),
        ],
        {"i": (I64, ()), "c": (B, ()), "s": (F, (3,)), "buffer": (F, (5, 3))},
        {"c": (B, ()), "t": (F, (3,)), "filled": (F, (5, 3))},
    )
    constants = {"M": np.array(5), "zero": np.array([0]), "empty": np.zeros((5, 3), np.float32)}
    model = model_of([loop("M - x empty", "s_end y", body)], {"x": (F, (3,))}, {"y": (F, (5, 3))}, constants)
    check(model, X3)


def nested(depth: int, turns: int = 2) -> bytes:
    """Loops inside loops; the innermost adds a value of the main graph and the outermost counter."""
    inner = [node("Cast", "i0", "f", to=F), node("Add", "a x", "b"), node("Add", "b f", "a_out")]
    for level in reversed(range(depth)):
        body = graph_of(
            inner,
            {f"i{level}": (I64, ()), f"c{level}": (B, ()), "a" if level == depth - 1 else f"a{level}": (F, (3,))},
            {f"c{level}": (B, ()), "a_out" if level == depth - 1 else f"b{level + 1}": (F, (3,))},
            name=f"level{level}",
        )
        inner = [loop("M - x" if level == 0 else f"M - a{level - 1}", f"b{level}", body)]
    return model_of(inner, {"x": (F, (3,))}, {"b0": (F, (3,))}, {"M": np.array(turns)})


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_loops_in_loops(depth: int) -> None:
    check(nested(depth), X3, atol=1e-4)


def test_lstm_nodes_and_convolutions_in_a_loop() -> None:
    """The state of an LSTM node handed from turn to turn, and a window of frames per turn."""
    weights = {"W": random(1, 4 * H, H, seed=1), "R": random(1, 4 * H, H, seed=2), "K": random(H, 2, 3, seed=3)}
    body = graph_of(
        [
            node("Gather", "X i", "x", axis=0),
            node("Conv", "x K", "k", pads=[1, 1]),
            node("Transpose", "k", "kt", perm=[2, 0, 1]),
            node("LSTM", "kt W R - - h c", "Y h_out c_out", hidden_size=H),
            node("ReduceMean", "Y axes0", "row", keepdims=0),
        ],
        {"i": (I64, ()), "go": (B, ()), "h": (F, (1, 1, H)), "c": (F, (1, 1, H))},
        {"go": (B, ()), "h_out": (F, (1, 1, H)), "c_out": (F, (1, 1, H)), "row": (F, None)},
    )
    zeros = np.zeros((1, 1, H), np.float32)
    model = model_of(
        [loop("M - z z", "h_end c_end rows", body)],
        {"X": (F, (6, 1, 2, 5))},
        {"rows": (F, None), "h_end": (F, None), "c_end": (F, None)},
        weights | {"M": np.array(6), "z": zeros, "axes0": np.array([0])},
    )
    check(model, {"X": random(6, 1, 2, 5, seed=7)}, atol=1e-5)


def test_shapes_that_grow_are_written_out() -> None:
    """Few turns whose values change shape are not a loop any more; many are refused by name."""
    body = graph_of(
        [node("Add", "s x", "t"), node("Unsqueeze", "t zero", "row"), node("Concat", "all row", "more", axis=0)],
        {"i": (I64, ()), "c": (B, ()), "s": (F, (3,)), "all": (F, (None, 3))},
        {"c": (B, ()), "t": (F, (3,)), "more": (F, (None, 3))},
    )
    constants = {"zero": np.array([0]), "none": np.zeros((0, 3), np.float32)}
    nodes = [loop("M - x none", "s_end y", body)]
    outs: Ports = {"y": (F, (None, 3))}
    check(model_of(nodes, {"x": (F, (3,))}, outs, constants | {"M": np.array(9)}), X3, atol=1e-5)
    with pytest.raises(gi.UnsupportedOp, match=r'carried value "all.*keep its type and shape'):
        gi.load(model_of(nodes, {"x": (F, (3,))}, outs, constants | {"M": np.array(2**40)}), fallback=None)


def test_branches_that_the_turn_decides_are_written_out() -> None:
    """Step 0 peeled off inside the loop."""
    first = graph_of([node("Mul", "s w", "p")], {}, {"p": (F, None)}, name="first")
    later = graph_of([node("Add", "s w", "q")], {}, {"q": (F, None)}, name="later")
    is_first = [node("Equal", "i zero", "z"), node("If", "z", "t", then_branch=first, else_branch=later)]
    body = graph_of(is_first, {"i": (I64, ()), "c": (B, ()), "s": (F, (3,))}, {"c": (B, ()), "t": (F, (3,))})
    constants = {"M": np.array(4), "zero": np.array(0), "w": random(3, seed=2)}
    check(model_of([loop("M - x", "y", body)], {"x": (F, (3,))}, {"y": (F, (3,))}, constants), X3)


# ---- Scan ------------------------------------------------------------------------------------------------------------


def scan(inputs: str, outputs: str, body: onnx.GraphProto, **attrs) -> onnx.NodeProto:
    return node("Scan", inputs, outputs, body=body, **attrs)


@pytest.mark.parametrize("opset", [9, 11, 16, 21])
@pytest.mark.parametrize(
    "attrs",
    [
        {},
        {"scan_input_directions": [1, 0]},
        {"scan_output_directions": [1, 1]},
        {"scan_input_axes": [1, 0], "scan_input_directions": [1, 1], "scan_output_axes": [1, 0]},
        {"scan_output_axes": [-1, 1], "scan_output_directions": [0, 1]},
    ],
    ids=["plain", "reverse", "reverse-out", "axes", "last-axis"],
)
def test_scan(attrs: dict[str, list[int]], opset: int) -> None:
    body = graph_of(
        [node("MatMul", "h R", "hr"), node("Add", "hr a", "s"), node("Tanh", "s", "h_out"), node("Mul", "h_out b", "p"),
         node("Identity", "h_out", "y")],
        {"h": (F, (2, 3)), "a": (F, (2, 3)), "b": (F, (2, 3))},
        {"h_out": (F, (2, 3)), "y": (F, (2, 3)), "p": (F, (2, 3))},
    )  # fmt: skip
    model = model_of(
        [scan("h0 A B", "h_end Y P", body, num_scan_inputs=2, **attrs)],
        {"h0": (F, (2, 3)), "A": (F, None), "B": (F, (5, 2, 3))},
        {"h_end": (F, None), "Y": (F, None), "P": (F, None)},
        {"R": random(3, 3, seed=1)},
        opset,
    )
    shape = (2, 5, 3) if "scan_input_axes" in attrs else (5, 2, 3)
    check(model, {"h0": random(2, 3, seed=2), "A": random(*shape, seed=3), "B": random(5, 2, 3, seed=4)})


def test_scan_of_one_and_of_no_element() -> None:
    body = graph_of(
        [node("Add", "s a", "t"), node("Mul", "t t", "y")],
        {"s": (F, (3,)), "a": (F, (3,))},
        {"t": (F, (3,)), "y": (F, (3,))},
    )
    model = model_of(
        [scan("x A", "end Y", body, num_scan_inputs=1)],
        {"x": (F, (3,)), "A": (F, ("T", 3))},
        {"end": (F, None), "Y": (F, None)},
    )
    for count in (4, 1):
        check(model, X3 | {"A": random(count, 3)})
    end, stack = gi.load(model).run(None, X3 | {"A": np.zeros((0, 3), np.float32)})
    np.testing.assert_array_equal(end, X3["x"])
    assert stack.shape == (0, 3)


# ---- files that mean harm --------------------------------------------------------------------------------------------


def test_loops_without_end_are_stopped() -> None:
    """At load when that can be seen, else while running, and the stream stays as it was."""
    less = [node("Add", "k u", "k_out"), node("Less", "k_out l", "go_out")]
    with pytest.raises(gi.ModelError, match="does not end"):
        gi.load(accumulate("k_out", less, {"u": number(0), "l": number(9)}), fallback=None)
    with pytest.raises(gi.ModelError, match="does not end"):
        gi.load(accumulate("k_out", [node("Identity", "c", "go_out"), node("Add", "k u", "k_out")], {"u": number(1)}))
    stream = gi.load(grow(), fallback=None).stream(states={"x": "end"})
    with pytest.raises(gi.ModelError, match="does not end"):
        for _ in range(3):
            stream.state["x"] = np.zeros(3, np.float32)
            stream()
    np.testing.assert_array_equal(stream.state["x"], np.zeros(3))


def test_nested_loops_share_one_limit() -> None:
    with pytest.raises(gi.ModelError, match="does not end"):
        gi.load(nested(5, turns=2**10), fallback=None).run(None, X3)


def test_deep_nests_end_in_a_figure_or_an_error() -> None:
    try:
        gi.load(nested(28, turns=1), fallback=None).run(None, X3)
    except gi.GateInferError as error:
        assert "nodes" in str(error)


def bad_loop(**changes) -> bytes:
    """A sound loop, with some part of it changed."""
    parts = {
        "nodes": [node("Add", "s x", "t")],
        "ins": {"i": (I64, ()), "c": (B, ()), "s": (F, (3,))},
        "outs": {"c": (B, ()), "t": (F, (3,))},
        "inputs": "M - x",
        "outputs": "y",
    } | changes
    body = graph_of(parts["nodes"], parts["ins"], parts["outs"])
    constants = {"M": np.array(4), "two": np.array([1, 2]), "wide": random(4, 3)}
    return model_of([loop(parts["inputs"], parts["outputs"], body)], {"x": (F, (3,))}, {"y": (F, None)}, constants)


BAD = {
    "captures-nothing": bad_loop(nodes=[node("Add", "s nowhere", "t")]),
    "yields-nothing": bad_loop(nodes=[]),
    "body-with-too-few-inputs": bad_loop(ins={"i": (I64, ()), "c": (B, ())}),
    "body-with-too-few-outputs": bad_loop(outs={"c": (B, ())}),
    "more-outputs-than-the-body": bad_loop(outputs="y z"),
    "omitted-state": bad_loop(inputs="M - -"),
    "two-trip-counts": bad_loop(inputs="two - x"),
    "type-that-changes": bad_loop(nodes=[node("Greater", "s x", "t")]),
    "operands-that-do-not-fit": bad_loop(nodes=[node("Add", "s two", "t")]),
    "unknown-operator": bad_loop(nodes=[node("Foo", "s", "t")]),
    "captures-itself": bad_loop(nodes=[node("Add", "s y", "t")]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_loops_are_refused(name: str) -> None:
    with pytest.raises(gi.GateInferError):
        gi.load(BAD[name], fallback=None)


def test_scan_inputs_of_different_lengths_are_refused() -> None:
    body = graph_of([node("Add", "a b", "y")], {"a": (F, (3,)), "b": (F, (3,))}, {"y": (F, (3,))})
    ports: Ports = {"A": (F, (4, 3)), "B": (F, (5, 3))}
    with pytest.raises(gi.ShapeError, match="equally many"):
        gi.load(model_of([scan("A B", "Y", body, num_scan_inputs=2)], ports, {"Y": (F, None)}), fallback=None)


# ---- exports of a framework ------------------------------------------------------------------------------------------


def test_bidirectional_layers_with_masks(zoo) -> None:
    """Whole LSTMs as loops: an embedding's mask, a reversed copy for the backward direction, weights as loop state."""
    case = zoo("nakdimon")
    model = gi.load(Path(case.model), fallback=None)
    for feeds, expected in case.calls():
        results = dict(zip((p.name for p in model.outputs), model.run(None, feeds), strict=True))
        for name, figures in expected.items():
            np.testing.assert_allclose(results[name], figures, rtol=1e-3, atol=1e-4)


def test_a_loop_around_an_operator_that_is_not_native_becomes_an_island() -> None:
    body = graph_of(
        [node("Atan", "s", "t"), node("Gather", "X i", "x_i", axis=0), node("Add", "t x_i", "row")],
        {"i": (I64, ()), "c": (B, ()), "s": (F, (3,))},
        {"c": (B, ()), "t": (F, (3,)), "row": (F, (3,))},
    )
    nodes = [node("Relu", "A", "X"), loop("M - x", "end rows", body), node("Relu", "rows", "y")]
    outs: Ports = {"end": (F, None), "y": (F, None)}
    model = model_of(nodes, {"x": (F, (3,)), "A": (F, (4, 3))}, outs, {"M": np.array(4)})
    feeds = X3 | {"A": random(4, 3, seed=6)}
    expected = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feeds)
    for got, figures in zip(gi.load(model).run(None, feeds), expected, strict=True):
        np.testing.assert_array_equal(got, figures)
    with pytest.raises(gi.UnsupportedOp, match="no native operator Atan"):
        gi.load(model, fallback=None)


@pytest.mark.parametrize("first", [True, False])
def test_the_float64_reference_runs_loops(first):
    """x doubled n times unless the first condition is false, as the engine does it."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["v", "v"], ["w"]),
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Identity", ["w"], ["seen"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, [2]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [2]),
            helper.make_tensor_value_info("seen", TensorProto.FLOAT, [2]),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["n", "first", "x"], ["last", "all"], body=body)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("last",)],
        [numpy_helper.from_array(np.array(3), "n"), numpy_helper.from_array(np.array(first), "first")],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    report = gi.validate(gi.load(content), [np.array([1, 2], np.float32)], oracles=["reference"]).check()
    assert report.max_abs == 0
