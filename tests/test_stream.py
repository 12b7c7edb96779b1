"""Stream: state, chunks, bound buffers, out=, reset, and everything that must be refused without losing the state."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import tracemalloc

import numpy as np
import pytest
from nets import cache_net, gather_net, recurrent_net, stateless_net, turned_state_net
from onnx_models import model as onnx_model
from onnx_models import node

import gateinfer as gi


@pytest.fixture(scope="module", params=["LSTM", "GRU", "RNN"])
def model(request):
    return gi.load(recurrent_net(request.param))


@pytest.fixture
def x():
    return np.random.default_rng(3).normal(size=(12, 1, 3)).astype(np.float32)


def whole(model, x):
    states = {s.input: np.zeros((1, x.shape[1], 5), np.float32) for s in model.states}
    names = [p.name for p in model.outputs]
    return dict(zip(names, model.run(None, {"x": x} | states), strict=True))


def test_steps_chunks_and_whole_are_the_same_bits(model, x):
    expected = whole(model, x)
    for cuts in ([1] * 12, [5, 7], [2, 1, 9], [12]):
        stream, start, got = model.stream(), 0, []
        for size in cuts:
            got.append(stream(x[start : start + size]))
            start += size
        np.testing.assert_array_equal(np.concatenate(got), expected["y"])
        for state in model.states:
            np.testing.assert_array_equal(stream.state[state.input], expected[state.output])


@pytest.mark.parametrize("isa", ["auto", "scalar"])
@pytest.mark.parametrize("size", [3, 24, 40, 100])
@pytest.mark.parametrize("inputs", ["x W R _ _ c c", "c W R _ _ c c", "c W R _ _ h c"])
def test_a_state_that_is_read_in_several_places(inputs, size, isa):
    """A layer that carries its state itself must not write it before all of its units have read the old one."""
    rng = np.random.default_rng(size)
    figures = {name: rng.normal(size=(1, 4 * size, size)).astype(np.float32) / 4 for name in "WR"}
    x, *_, h, c = inputs.split()
    lstm = node("LSTM", inputs, "_ hn cn", hidden_size=size)
    shape = [1, 1, size]
    ports = {name: shape for name in sorted({x, h, c})}
    loaded = gi.load(onnx_model([lstm], ports, "hn cn", figures).SerializeToString(), isa=isa)
    states = {"c": "cn"} | ({"h": "hn"} if "h" in ports else {})
    stream = loaded.stream(states=states)
    feeds = {name: np.zeros(shape, np.float32) for name in ports}
    for frame in rng.normal(size=(4, *shape)).astype(np.float32):
        given = {"x": frame} if "x" in ports else {}
        wanted = dict(zip(("hn", "cn"), loaded.run(None, feeds | given), strict=True))
        stream(**given)
        feeds |= {name: wanted[output] for name, output in states.items()}
        for name in states:
            np.testing.assert_array_equal(stream.state[name], feeds[name])


def test_batches_of_streams_are_independent(model):
    x = np.random.default_rng(4).normal(size=(6, 5, 3)).astype(np.float32)
    together = model.stream()(x)
    for n in range(5):
        np.testing.assert_array_equal(model.stream()(x[:, n : n + 1]), together[:, n : n + 1])


def test_bound_buffers_equal_calls(model, x):
    called, bound = model.stream(), model.stream(shapes={"x": (1, 1, 3)})
    for frame in x:
        bound.x[...] = frame[None]
        bound.step()
        np.testing.assert_array_equal(bound.y, called(frame[None]))
    assert bound.inputs["x"] is bound.x
    assert bound.outputs["y"] is bound.y


def test_results_are_copies_and_out_is_filled(model, x):
    stream = model.stream()
    first = stream(x[:1])
    kept = first.copy()
    buffer = np.empty_like(first)
    assert stream(x[1:2], out=buffer) is buffer
    np.testing.assert_array_equal(first, kept)
    again = model.stream()
    again(x[:1])
    np.testing.assert_array_equal(again(x[1:2]), buffer)


def test_out_allocates_nothing_that_grows(model, x):
    stream, buffer = model.stream(), None
    buffer = stream(x[:1])
    gc.collect()
    tracemalloc.start()
    for _ in range(2000):
        stream(x[1:2], out=buffer)
    current, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000 and current < 10_000


def test_reset_and_initial(model, x):
    h0 = np.full((1, 1, 5), 0.25, np.float32)
    stream = model.stream(initial={"h": h0})
    first = stream(x)
    stream.reset()
    np.testing.assert_array_equal(stream.state["h"], h0)
    np.testing.assert_array_equal(stream(x), first)
    assert not np.array_equal(model.stream()(x), first)


def test_state_is_a_view_and_assignment_copies(model, x):
    stream = model.stream()
    h0 = np.full((1, 1, 5), 0.5, np.float32)
    stream.state["h"] = h0  # before the first frame
    h0[...] = 9
    np.testing.assert_array_equal(stream.state["h"], np.full((1, 1, 5), 0.5))
    stream(x[:1])
    view = stream.state["h"]
    stream(x[1:2])
    assert view is stream.state["h"]
    view[...] = 0
    assert not stream.state["h"].any()
    assert set(stream.state) == {s.input for s in model.states}


def test_state_assigned_first_fixes_the_batch(model):
    stream = model.stream()
    stream.state["h"] = np.zeros((1, 4, 5), np.float32)
    with pytest.raises(gi.GateInferError, match="axis 1: expected 3"):
        stream(np.zeros((1, 3, 3), np.float32))
    assert stream(np.zeros((1, 4, 3), np.float32)).shape == (1, 4, 2)


def test_an_empty_chunk_changes_nothing(model, x):
    stream = model.stream()
    stream(x[:3])
    before = {name: array.copy() for name, array in stream.state.items()}
    assert stream(x[:0]).shape == (0, 1, 2)
    for name, array in before.items():
        np.testing.assert_array_equal(stream.state[name], array)
    np.testing.assert_array_equal(np.concatenate([whole(model, x)["y"][3:]]), stream(x[3:]))
    fresh = model.stream()
    assert fresh(x[:0]).shape == (0, 1, 2)
    np.testing.assert_array_equal(fresh(x), whole(model, x)["y"])


def test_an_empty_chunk_where_windows_and_states_would_be_empty_too():
    x = np.random.default_rng(6).normal(size=(1, 2, 7)).astype(np.float32)
    once, stream = gi.load(cache_net()).stream()(x), gi.load(cache_net()).stream()
    got = [stream(x[:, :, start:stop]) for start, stop in ((0, 0), (0, 2), (2, 2), (2, 7))]
    assert [y.shape for y in got] == [(1, 2, 0), (1, 2, 2), (1, 2, 0), (1, 2, 5)]
    np.testing.assert_array_equal(np.concatenate(got, axis=2), once)


BAD_FRAMES = {
    "rank": np.zeros((1, 3), np.float32),
    "extent": np.zeros((1, 1, 4), np.float32),
    "batch": np.zeros((1, 2, 3), np.float32),
    "text": np.array([[["a", "b", "c"]]]),
    "object": np.array([[[None, 1, 2]]]),
    "complex": np.zeros((1, 1, 3), np.complex64),
    "integers": np.zeros((1, 1, 3), np.int64),
    "overflow": np.full((1, 1, 3), 1e300),
    "ragged": [[[1.0, 2.0, 3.0]], [[1.0]]],
    "none": None,
}


@pytest.mark.parametrize("bad", BAD_FRAMES.values(), ids=BAD_FRAMES)
def test_bad_frames_are_typed_errors_and_lose_nothing(model, x, bad):
    stream = model.stream()
    stream(x[:3])
    with pytest.raises(gi.GateInferError) as caught:
        stream(bad)
    assert "x" in str(caught.value)
    np.testing.assert_array_equal(stream(x[3:]), whole(model, x)["y"][3:])


GOOD_FRAMES = {
    "float64": lambda x: x.astype(np.float64),
    "big endian": lambda x: x.astype(">f4"),
    "big endian float64": lambda x: x.astype(">f8"),
    "fortran": np.asfortranarray,
    "strided": lambda x: np.repeat(x, 2, axis=2)[:, :, ::2],
    "negative stride": lambda x: x[::-1][::-1],
    "list": lambda x: x.tolist(),
    "misaligned": lambda x: np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape),
    "read only": lambda x: np.broadcast_to(x, x.shape),
}


@pytest.mark.parametrize("convert", GOOD_FRAMES.values(), ids=GOOD_FRAMES)
def test_good_frames_in_any_clothes(model, x, convert):
    expected = whole(model, x)["y"]
    np.testing.assert_array_equal(model.stream()(convert(x)), expected)
    stream = model.stream(shapes={"x": x.shape})
    np.testing.assert_array_equal(stream(convert(x)), expected)


def test_nan_stays_visible_and_in_its_row(model):
    x = np.zeros((4, 3, 3), np.float32)
    x[1, 1, 0] = np.nan
    y = model.stream()(x)
    assert np.isfinite(y[:, [0, 2]]).all() and np.isfinite(y[0]).all()
    assert np.isnan(y[1:, 1]).all()


def test_wrong_names(model, x):
    stream = model.stream()
    with pytest.raises(gi.ShapeError, match="frame inputs: x"):
        stream(y=x)
    with pytest.raises(gi.ShapeError, match="state"):
        stream(x=x, h=np.zeros((1, 1, 5), np.float32))
    with pytest.raises(gi.ShapeError, match="missing"):
        stream()
    with pytest.raises(gi.ShapeError):
        stream(x, x)
    with pytest.raises(gi.StateMismatch, match="no state is called"):
        stream.state["nope"]
    with pytest.raises(gi.StateMismatch):
        stream.state["h"] = np.zeros((2, 2), np.float32)
    with pytest.raises(gi.ShapeError, match="nothing is bound"):
        stream.step()
    with pytest.raises(AttributeError, match="no buffer yet"):
        _ = stream.x
    with pytest.raises(gi.ShapeError, match="no input is called"):
        model.stream(nope=1)
    with pytest.raises(gi.GateInferError):
        stream(x, out=np.empty((3, 3), np.float32))


@pytest.mark.parametrize("direction", ["reverse", "bidirectional"])
def test_backward_in_time_cannot_be_streamed(direction):
    model = gi.load(recurrent_net("GRU", dense=0, direction=direction))
    with pytest.raises(gi.StateMismatch, match="cell"):
        model.stream()


@pytest.mark.parametrize("branch", [False, True])
def test_backward_in_time_is_seen_through_views_and_branches(branch):
    model = gi.load(turned_state_net("bidirectional", branch=branch))
    with pytest.raises(gi.StateMismatch, match="inner"):
        model.stream(constants={"flag": True} if branch else {})


def test_state_is_the_result_of_a_net_without_another():
    model, x = gi.load(turned_state_net("forward", branch=False)), np.ones((3, 1, 2), np.float32)
    stream = model.stream()
    got = stream(x)
    np.testing.assert_array_equal(got, model.run(None, {"x": x, "h": np.zeros((1, 1, 4), np.float32)})[0])
    np.testing.assert_array_equal(got, stream.state["h"])


def test_states_with_defaults_start_with_them():
    """Known shapes: the program of streams is made while loading, when nothing is fed to the states."""
    rng = np.random.default_rng(6)
    arrays = {"W": (1, 16, 2), "R": (1, 16, 4), "h": (1, 1, 4), "c": (1, 1, 4)}
    constants = {name: rng.normal(size=shape).astype(np.float32) for name, shape in arrays.items()}
    made = node("LSTM", "x W R _ _ h c", "y hn cn", hidden_size=4)
    inputs = {"x": (1, 1, 2), "h": (1, 1, 4), "c": (1, 1, 4)}
    model = gi.load(onnx_model([made], inputs, "y hn cn", constants).SerializeToString())
    frames, feeds, stream = rng.normal(size=(3, 1, 1, 2)).astype(np.float32), {}, model.stream()
    for frame in frames:
        y, feeds["h"], feeds["c"] = model.run(None, {"x": frame, **feeds})
        np.testing.assert_array_equal(stream(frame), y)


@pytest.mark.parametrize("shape", [[1, "q1", "q2"], ["q0", 1, "q2"], ["q0", "q1", 4], [1, 1, 4]])
def test_open_extents_of_a_state_are_those_of_its_default(shape):
    """Not 1, and not an extent of the frames, where both have another meaning."""
    start = np.zeros((1, 1, 4), np.float32)
    nodes = [node("Add", "x h", "y"), node("Mul", "y k", "hn")]
    made = onnx_model(nodes, {"x": (1, 1, 4), "h": shape}, "y hn", {"h": start, "k": np.float32(0.5)})
    x = np.ones((1, 1, 4), np.float32)
    np.testing.assert_array_equal(gi.load(made.SerializeToString()).stream()(x), x, strict=True)


def test_state_that_never_leaves_the_file_is_lifted():
    model = gi.load(stateless_net())
    x = np.random.default_rng(6).normal(size=(5, 1, 2)).astype(np.float32)
    stream = model.stream()
    for frame in x:
        last = stream(frame[None])
    np.testing.assert_array_equal(last, model.run(None, {"x": x})[0])


def test_index_out_of_range_is_an_error_and_the_stream_lives_on():
    stream = gi.load(gather_net()).stream()
    np.testing.assert_array_equal(stream(np.array([1, -1])), [[3, 4, 5], [9, 10, 11]])
    for bad in (4, -5, 2**62):
        with pytest.raises(gi.ShapeError, match=str(bad)):
            stream(np.array([1, bad]))
    np.testing.assert_array_equal(stream(np.array([0, 2])), [[0, 1, 2], [6, 7, 8]])


def test_many_chunk_lengths_stay_bounded(model):
    stream = model.stream()
    x = np.random.default_rng(5).normal(size=(60, 1, 3)).astype(np.float32)
    start, got = 0, []
    for size in [*range(1, 11), 5]:
        got.append(stream(x[start : start + size]))
        start += size
    np.testing.assert_array_equal(np.concatenate(got), whole(model, x)["y"])


def test_threads_with_a_stream_each_and_one_model(model, x):
    expected, results = whole(model, x)["y"], {}

    def work(i):
        for _ in range(50):
            stream = model.stream()
            results[i] = np.concatenate([stream(frame[None]) for frame in x])
            assert np.array_equal(whole(model, x)["y"], expected)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(results) == 4
    for got in results.values():
        np.testing.assert_array_equal(got, expected)


def test_snapshot_restore_and_fork(model, x):
    stream = model.stream()
    stream(x[:5])
    saved, twin = stream.snapshot(), stream.fork()
    expected = stream(x[5:])
    np.testing.assert_array_equal(twin(x[5:]), expected)
    stream.restore(saved)
    np.testing.assert_array_equal(stream(x[5:]), expected)
    fresh = model.stream()
    fresh.restore(saved)
    np.testing.assert_array_equal(fresh(x[5:]), expected)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_copies_go_on_alone(model, x, duplicate):
    stream = model.stream(initial={"h": np.full((1, 1, 5), 0.5, np.float32)})
    stream(x[:5])
    twin = duplicate(stream)
    np.testing.assert_array_equal(twin(x[5:]), stream(x[5:]))
    twin.reset()
    assert (twin.state["h"] == 0.5).all()


def test_bad_snapshots_change_nothing(model, x):
    stream = model.stream()
    stream(x[:3])
    good = stream.snapshot()
    other = gi.load(recurrent_net("GRU", hidden=6)).stream()
    other(x[:1])
    wide = model.stream()
    wide(np.zeros((1, 2, 3), np.float32))
    for bad in (b"", b"PK\x03\x04", good[:-30], other.snapshot(), wide.snapshot(), pickle.dumps({"h": 1})):
        with pytest.raises(gi.StateMismatch):
            stream.restore(bad)
    np.testing.assert_array_equal(stream(x[3:]), whole(model, x)["y"][3:])


def test_a_buffer_cannot_be_replaced_by_accident(model):
    stream = model.stream(shapes={"x": (1, 1, 3)})
    with pytest.raises(AttributeError, match=r"s\.x\[\.\.\.\]"):
        stream.x = np.zeros((1, 1, 3), np.float32)
