"""Model.summary: what the model is, which parts run where, what each costs, and what was picked for the figures."""

from __future__ import annotations

import json

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_models import model as make_model
from onnx_models import node

import gateinfer as gi
from gateinfer.profile import profile
from gateinfer.samples import closed
from gateinfer.stages import Staged

RNG = np.random.default_rng(2)
HIDDEN, INPUTS = 4, 6


def gru(x, y, start="", **attrs):
    count = 2 if attrs.get("direction") == "bidirectional" else 1
    weights = {
        "W": RNG.normal(size=(count, 3 * HIDDEN, INPUTS)).astype("f4"),
        "R": RNG.normal(size=(count, 3 * HIDDEN, HIDDEN)).astype("f4"),
    }
    return node("GRU", f"{x} W R _ _ {start or '_'}", y, hidden_size=HIDDEN, **attrs), weights


def load(nodes, inputs, outputs="y", constants=None, **options):
    return gi.load(make_model(nodes, inputs, outputs, constants or {}).SerializeToString(), **options)


@pytest.fixture
def islanded():
    """x [T, N, 6] -> Tanh -> Sinh (no native op) -> bidirectional GRU."""
    layer, weights = gru("s", "y", direction="bidirectional")
    return load([node("Tanh", "x", "a"), node("Sinh", "a", "s"), layer], {"x": ("T", "N", INPUTS)}, "y", weights)


def test_parts_say_what_runs_where_and_what_crosses(islanded):
    summary = islanded.summary()
    assert [(part.number, part.where, part.ops) for part in summary.parts] == [
        (1, "native", {"Tanh": 1}),
        (2, "onnxruntime", {"Sinh": 1}),
        (3, "native", {"GRU": 1}),
    ]
    assert [part.inputs for part in summary.parts] == [
        ("x (100, 1, 6) float32",),
        ("a (100, 1, 6) float32",),
        ("s (100, 1, 6) float32",),
    ]
    assert summary.parts[-1].outputs == ("y (100, 2, 1, 4) float32",)
    assert [(row.op, row.where, row.part) for row in summary.rows] == [
        ("Tanh", "native", 1),
        ("Sinh", "onnxruntime", 2),
        ("GRU", "native", 3),
    ]


def test_parts_add_up(islanded):
    summary = islanded.summary()
    expected = 100 * 2 * 3 * HIDDEN * (INPUTS + HIDDEN)
    assert summary.macs == sum(part.macs or 0 for part in summary.parts) == expected
    assert summary.rows[2].macs == expected and summary.rows[0].macs == 0 and summary.rows[1].macs is None
    assert summary.share(summary.parts[2]) == 1 and summary.share(summary.parts[1]) is None
    # W and R of both directions, at least
    assert summary.packed_bytes >= 4 * 2 * 3 * HIDDEN * (INPUTS + HIDDEN)
    assert summary.packed_bytes == sum(part.weight_bytes for part in summary.parts)


def test_measured_times_add_up(islanded):
    summary = islanded.summary(time=True)
    assert all(part.us > 0 for part in summary.parts)
    assert sum(summary.share(part) for part in summary.parts) == pytest.approx(1)
    # One node per part: each takes all of it, less what its part needs to put outputs in place.
    for part, row in zip(summary.parts, summary.rows, strict=True):
        assert 0 < row.us <= part.us * (1 + 1e-9)


def test_profiling_carries_no_state():
    layer, weights = gru("x", "y hn", "h")
    model = load([layer], {"x": (1, 1, INPUTS), "h": (1, 1, HIDDEN)}, "y hn", weights)
    plan = model.plan({"x": (1, 1, INPUTS), "h": (1, 1, HIDDEN)}, {}, (("h", "hn"),))
    runner = plan.lowered.new_runner()
    arrays = {name: np.ones(shape, dtype) for name, (_, dtype, shape) in {**plan.lowered.inputs}.items()}
    arrays |= {name: np.zeros(shape, dtype) for name, (_, dtype, shape) in plan.lowered.outputs.items()}
    for name, (tensor, _, _) in {**plan.lowered.inputs, **plan.lowered.outputs}.items():
        runner.bind(tensor, arrays[name])
    assert len(runner.profile()) == len(plan.lowered.sources) and (arrays["h"] == 1).all() and arrays["hn"].any()
    runner.step()
    np.testing.assert_array_equal(arrays["h"], arrays["hn"])


def test_ops_are_credited_to_their_nodes():
    """The Add melts into the product, and takes nothing of its own."""
    weights = {"w": RNG.normal(size=(5, 3)).astype("f4"), "b": RNG.normal(size=3).astype("f4")}
    nodes = [node("MatMul", "x w", "m"), node("Add", "m b", "s"), node("Exp", "s", "y")]
    summary = load(nodes, {"x": (2, 5)}, "y", weights).summary(time=True)
    figures = {row.op: row for row in summary.rows}
    assert (figures["MatMul"].macs, figures["Add"].macs, figures["Exp"].macs) == (2 * 5 * 3, 0, 0)
    assert figures["MatMul"].us > 0 and figures["Exp"].us > 0 and figures["Add"].us == 0


def test_layers_that_run_side_by_side_share_the_time_of_their_op():
    """Of one size, so in equal parts."""
    (first, weights), (second, _) = (gru("x", names, linear_before_reset=1) for names in ("y hn", "z hz"))
    model = load([first, second], {"x": (9, 1, INPUTS)}, "y z", weights)
    summary = model.summary(time=True)
    rows = [row for row in summary.rows if row.op == "GRU"]
    assert [row.macs for row in rows] == [9 * 3 * HIDDEN * (INPUTS + HIDDEN)] * 2
    assert rows[0].us == rows[1].us > 0 and summary.parts[0].macs == sum(row.macs for row in rows)


def test_layers_say_sizes_steps_and_direction(islanded):
    (layer,) = islanded.summary().layers
    assert (layer.op, layer.input_size, layer.hidden_size) == ("GRU", INPUTS, HIDDEN)
    assert (layer.direction, layer.steps, layer.batch, layer.part) == ("bidirectional", 100, 1, 3)


@pytest.mark.parametrize(
    ("start", "kind", "state"),
    [
        ("h", "streams: stream() takes frames of x", "h -> hn (1, N, 4)"),
        ("", "frames along axis 0 of 'x' by stream()", "lifted out of its node, starts at zero"),
        ("h0", "frames along axis 0 of 'x' by stream()", "lifted out of its node, starts at a learned value"),
    ],
)
def test_kind_and_states(start, kind, state):
    layer, weights = gru("x", "y hn", start)
    inputs = {"x": ("T", "N" if start != "h0" else 1, INPUTS)} | ({"h": (1, "N", HIDDEN)} if start == "h" else {})
    constants = weights | ({"h0": np.ones((1, 1, HIDDEN), "f4")} if start == "h0" else {})
    summary = load([layer], inputs, "y hn", constants).summary()
    assert kind in summary.kind and len(summary.states) == 1 and state in summary.states[0]


def test_backward_models_say_that_they_only_run(islanded):
    assert islanded.summary().kind.startswith("whole sequences, by run() only") and not islanded.summary().states


def test_stateless_models_say_so():
    summary = load([node("Exp", "x", "y")], {"x": (2, 3)}).summary()
    assert summary.kind.startswith("no state, no recurrent layer") and not summary.layers


def test_a_loop_in_an_island_is_not_native():
    """Its body has an operator that only onnxruntime runs."""
    body = helper.make_graph(
        [helper.make_node("Sinh", ["a"], ["b"]), helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("a", TensorProto.FLOAT, [3]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, [3]),
        ],
    )
    nodes = [node("Loop", "trips go x", "s", body=body), node("Exp", "s", "y")]
    model = load(nodes, {"x": (3,)}, "y", {"trips": np.array(1000), "go": np.array(True)})
    summary = model.summary()
    loops = [row for row in summary.rows if row.op == "Loop"]
    assert loops and all(row.where == "onnxruntime" for row in loops)
    x = np.full(3, 1e-3, "f4")
    assert np.isfinite(model(x)).all()


# ---- what is picked -----------------------------------------------------------------------------------------------


def port(name, dtype, *shape):
    from gateinfer.graph.ir import Port, TensorType

    return Port(name, TensorType(np.dtype(dtype), shape))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (port("x", "f4", "N", "T", 3), (1, 9, 3)),
        (port("x", "f4", None, None), (1, 9)),
        (port("x", "f4", "N", 30, 3), (1, 30, 3)),
        (port("x", "f4", "T", 1, 3), (9, 1, 3)),
        (port("x", "f4", "T", 3), (9, 3)),
        (port("ids", "i8", "N", 82), (1, 82)),
        (port("x", "f4", "T"), (9,)),
        (port("x", "f4"), ()),
    ],
)
def test_an_open_batch_is_one(given, expected):
    assert closed([given], 9) == {given.name: expected}


def test_time_may_come_first():
    assert closed([port("x", "f4", "T", "N", 3)], 9, time_first=True) == {"x": (9, 1, 3)}


def test_time_is_found_where_a_default_fixes_the_batch():
    """h [2, N, H] defaults to one row, so x [T, N, I] can only grow along its first axis."""
    shapes = {"weight_ih_l0": (12, 5), "weight_hh_l0": (12, 4), "bias_ih_l0": (12,), "bias_hh_l0": (12,)}
    shapes |= {f"{name}_reverse": shape for name, shape in shapes.items()}
    arrays = {name: RNG.normal(size=shape).astype("f4") for name, shape in shapes.items()}
    summary = gi.from_weights(arrays, kind="gru", layout="torch").summary()
    assert "(100, 1, 5)" in summary.note and summary.layers[0].steps == 100


def test_text_keeps_to_a_hundred_columns(islanded):
    assert max(map(len, str(islanded.summary(time=True)).splitlines())) <= 100


def test_a_batch_that_is_named_is_one_everywhere():
    ports = [port("x", "f4", "N", "T", 3), port("h", "f4", 1, "N", 4)]
    assert closed(ports, 9) == {"x": (1, 9, 3), "h": (1, 1, 4)}


def test_constants_that_decide_are_picked_from_what_the_file_compares_with(zoo):
    summary = gi.load(zoo("silero-vad").model).summary()
    assert "sr=16000" in summary.note and summary.macs and summary.parts[0].where == "native"
    assert "stream(sr=...)" in summary.kind
    given = gi.load(zoo("silero-vad").model).summary(constants={"sr": 8000}, shapes={"input": (1, 288)})
    assert "sr" not in given.note and given.macs < summary.macs


def test_without_a_program_nothing_is_said_to_be_native():
    weights = {"w": np.ones((2, 1, 20000), "f4")}
    summary = load([node("Conv", "x w", "y")], {"x": (1, 1, "T")}, "y", weights).summary()
    assert summary.macs is None and "no figures until" in summary.note and summary.rows[0].where == "?"


def test_json_holds_everything(islanded):
    found = json.loads(json.dumps(islanded.summary(time=True).as_dict()))
    assert [part["where"] for part in found["parts"]] == ["native", "onnxruntime", "native"]
    assert found["layers"][0]["hidden_size"] == HIDDEN and found["rows"][2]["us"] > 0


def test_what_cannot_run_on_made_up_input_says_so():
    """An index that made-up input does not meet."""
    nodes = [node("Gather", "table i", "g"), node("Exp", "g", "y")]
    summary = load(nodes, {"i": (TensorProto.INT64, (9,))}, "y", {"table": np.ones((1, 2), "f4")}).summary(time=True)
    assert "not timed" in summary.note and summary.us is None and summary.macs is not None


def test_profile_of_stages_is_in_order(islanded):
    plan = islanded.plan({"x": (5, 1, INPUTS)}, {})
    assert isinstance(plan.lowered, Staged)
    times = profile(plan)
    assert [len(time.ops) for time in times] == [len(getattr(stage, "sources", ())) for stage in plan.lowered.stages]
