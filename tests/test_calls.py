"""What calls check and copy: frames that are as the buffers are go a short way, all others a long one."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest
from nets import default_net, recurrent_net, running_sum_net, sum_and_difference_net, window_net

import gateinfer as gi
from gateinfer._core import DTYPES, UNARY, Builder, Runner, best_isa, isa_names
from gateinfer.stream import Stream


@pytest.fixture(scope="module")
def model():
    """x [T, N, 3] -> y [T, N, 3], so that a frame may also be where results go."""
    return gi.load(recurrent_net("LSTM", dense=3))


@pytest.fixture
def x():
    return np.random.default_rng(3).normal(size=(12, 1, 1, 3)).astype(np.float32)


@pytest.fixture
def long_ways(monkeypatch):
    """How often a call took the long way."""
    found = []
    taken = Stream._call_any

    def counted(self, args, frames, out):
        found.append(1)
        return taken(self, args, frames, out)

    monkeypatch.setattr(Stream, "_call_any", counted)
    return found


def unaligned(frame):
    raw = np.zeros(frame.nbytes + 1, np.uint8)
    view = raw[1:].view(frame.dtype).reshape(frame.shape)
    view[...] = frame
    return view


def read_only(frame):
    frame = frame.copy()
    frame.flags.writeable = False
    return frame


class Array(np.ndarray):
    pass


SHORT = {
    "as it is": lambda f: f,
    "read-only": read_only,
    "a slice": lambda f: np.stack([f, f])[1],
    "Fortran order of one row": np.asfortranarray,
}
LONG = {
    "float64": lambda f: f.astype(np.float64),
    "float16": lambda f: f.astype(np.float16),
    "other byte order": lambda f: f.astype(f.dtype.newbyteorder()),
    "strided": lambda f: np.repeat(f, 2, axis=-1)[..., ::2],
    "unaligned": unaligned,
    "subclass": lambda f: f.view(Array),
    "list": lambda f: f.tolist(),
}


@pytest.mark.parametrize("clothes", [*SHORT, *LONG])
@pytest.mark.parametrize("named", [False, True])
def test_both_ways_give_the_same_bits(model, x, long_ways, clothes, named):
    x = x.astype(np.float16).astype(np.float32)
    plain, other = model.stream(shapes={"x": (1, 1, 3)}), model.stream(shapes={"x": (1, 1, 3)})
    dress = SHORT.get(clothes) or LONG[clothes]
    for frame in x:
        expected = plain(frame)
        frame = dress(frame)
        np.testing.assert_array_equal(other(x=frame) if named else other(frame), expected)
    assert len(long_ways) == (len(x) if clothes in LONG else 0)
    for name in plain.state:
        np.testing.assert_array_equal(plain.state[name], other.state[name])


def test_integers_take_the_short_way_in_their_own_width(long_ways):
    stream = gi.load(running_sum_net()).stream(states={"acc": "acc_out"}, shapes={"ids": (2,)})
    expected = [[3, 5, 7]] * 2
    for ids, ways in ((np.array([0, 1]), 0), (np.array([0, 1], np.int32), 1), (np.array([0, 1], np.uint8), 2)):
        stream.reset()
        np.testing.assert_array_equal(stream(ids), expected[0])
        assert len(long_ways) == ways


@pytest.mark.parametrize("in_dict", [False, True])
def test_out_is_filled_and_returned(model, x, long_ways, in_dict):
    plain, other = (model.stream(shapes={"x": (1, 1, 3)}) for _ in range(2))
    target = np.empty((1, 1, 3), np.float32)
    out = {"y": target} if in_dict else target
    for frame in x:
        expected = plain(frame)
        assert other(frame, out=out) is out
        np.testing.assert_array_equal(target, expected)
    assert not long_ways


def test_out_in_other_layouts_is_filled_the_long_way(model, x, long_ways):
    plain, other = (model.stream(shapes={"x": (1, 1, 3)}) for _ in range(2))
    strided = np.zeros((1, 1, 6), np.float32)
    for target in (strided[..., ::2], np.empty((1, 1, 3), np.float32).view(Array)):
        for frame in x:
            np.testing.assert_array_equal(plain(frame), other(frame, out=target))
    assert len(long_ways) == 2 * len(x)
    assert not strided[..., 1::2].any()


def test_several_results_and_inputs(long_ways):
    stream = gi.load(sum_and_difference_net()).stream()
    a, b = np.array([1, 2], np.float32), np.array([5, 7], np.float32)
    expected = {"sum": [6, 9], "difference": [-4, -5]}
    out = {name: np.empty(2, np.float32) for name in ("difference", "sum")}
    for results in (stream(a, b), stream(a, b=b), stream(b=b, a=a), stream(a, b, out=out)):
        assert results.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(results[name], array)
    assert results is out and list(stream(a, b)) == list(expected)
    assert not long_ways
    for args, frames in (((a,), {}), ((a,), {"a": b}), ((a, b, b), {}), ((a,), {"z": b}), ((), {"b": b})):
        with pytest.raises(gi.ShapeError):
            stream(*args, **frames)
    for wrong in ({"sum": out["sum"]}, out["sum"], {"sum": out["sum"], "z": out["difference"]}):
        with pytest.raises(gi.ShapeError, match="expected arrays for sum, difference"):
            stream(a, b, out=wrong)


def test_out_may_be_the_frame_or_a_buffer(model, x, long_ways):
    plain, other = (model.stream(shapes={"x": (1, 1, 3)}) for _ in range(2))
    for i, frame in enumerate(x):
        expected = plain(frame)
        other.x[...] = frame
        given = frame.copy() if i % 2 else other.x
        target = (given, other.y, other.x)[i % 3]
        assert other(given, out=target) is target
        np.testing.assert_array_equal(target, expected)
    assert not long_ways


def test_results_of_calls_are_not_the_buffers(model, x):
    stream = model.stream(shapes={"x": (1, 1, 3)})
    first = stream(x[0])
    kept = first.copy()
    second = stream(x[1])
    np.testing.assert_array_equal(first, kept)
    assert not np.shares_memory(second, stream.y) and not np.array_equal(first, second)
    assert second.flags.owndata and second.flags.writeable


def test_a_refused_out_changes_nothing(model, x):
    stream = model.stream(shapes={"x": (1, 1, 3)})
    stream(x[0])
    before = {name: array.copy() for name, array in stream.state.items()}
    good = np.zeros((1, 1, 3), np.float32)
    for out in (good[0], good.astype(np.float64), read_only(good), [0.0] * 3, {"z": good}, {}, {"y": None}):
        with pytest.raises(gi.ShapeError, match="out"):
            stream(x[1], out=out)
    for name, array in before.items():
        np.testing.assert_array_equal(stream.state[name], array)


def test_a_step_that_fails_keeps_state_and_out():
    stream = gi.load(running_sum_net()).stream(states={"acc": "acc_out"}, shapes={"ids": (2,)})
    out = np.full(3, 7, np.float32)
    stream(np.array([1, 2]))
    before = stream.state["acc"].copy()
    for call in (
        lambda ids: stream(ids),
        lambda ids: stream(ids, out=out),
        lambda ids: stream(ids=ids, out={"y": out}),
    ):
        with pytest.raises(gi.ShapeError, match="9"):
            call(np.array([1, 9]))
    np.testing.assert_array_equal(stream.state["acc"], before)
    assert (out == 7).all()
    np.testing.assert_array_equal(stream(np.array([0, 1])), np.add(before, [3, 5, 7]))


def test_a_frame_without_its_name_is_the_first_input():
    """Also when the last call fed only another one, of the same shape."""
    stream = gi.load(default_net()).stream()
    frame = np.ones(2, np.float32)
    np.testing.assert_array_equal(stream(b=frame), [4, 5])
    with pytest.raises(gi.ShapeError, match="missing: b"):
        stream(frame)
    np.testing.assert_array_equal(stream(b=frame), [4, 5])
    np.testing.assert_array_equal(stream(frame, frame), [2, 2])


def test_values_that_decide_shapes_are_not_kept_for_the_next_call():
    stream = gi.load(window_net()).stream()
    frame = np.arange(4, dtype=np.float32)
    for _ in range(2):
        np.testing.assert_array_equal(stream(frame), [0, 1])
        np.testing.assert_array_equal(stream(frame, np.array([3])), [0, 1, 2])


def test_calls_leave_no_references(model, x):
    stream = model.stream(shapes={"x": (1, 1, 3)})
    frame, out, results = x[0].copy(), np.empty((1, 1, 3), np.float32), {"y": np.empty((1, 1, 3), np.float32)}
    held = (frame, out, results, results["y"], stream.x, stream.y)
    before = [sys.getrefcount(obj) for obj in held]
    for _ in range(100):
        stream(frame), stream(x=frame), stream(frame, out=out), stream(frame, out=results)
        with pytest.raises(gi.ShapeError):
            stream(frame, out=frame[0])
    assert [sys.getrefcount(obj) for obj in held] == before
    assert sys.getrefcount(stream(frame)) == sys.getrefcount(np.empty(3))


def test_many_calls_grow_nothing(model, x):
    stream, out = model.stream(shapes={"x": (1, 1, 3)}), np.empty((1, 1, 3), np.float32)
    frame = x[0]
    stream(frame, out=out)
    gc.collect()
    tracemalloc.start()
    calls = 100_000
    for _ in range(calls // 4):
        stream(frame), stream(frame, out=out), stream(x=frame), stream(frame, out={"y": out})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < calls, "not a byte per call"


def test_the_call_says_what_it_takes():
    assert "out : ndarray or dict of str to ndarray" in Stream.__call__.__doc__


# ---- the GIL ---------------------------------------------------------------------------------------------------------


def heavy_stream():
    """A step takes ten milliseconds on a fast machine."""
    return gi.load(recurrent_net("GRU", 64, 256)).stream(shapes={"x": (2000, 1, 64)})


def runs_beside(stream) -> bool:
    """Whether another thread gets to run during calls, although none is ever interrupted."""
    frame, seen, gate = np.zeros_like(stream.x), [], threading.Lock()
    gate.acquire()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(100)
    try:
        other = threading.Thread(target=lambda: (gate.acquire(), seen.append(1)))
        other.start()
        gate.release()
        for _ in range(300):
            stream(frame)
            if seen:
                break
        return bool(seen)
    finally:
        sys.setswitchinterval(interval)
        other.join()


def test_only_long_steps_let_other_threads_run(model):
    assert runs_beside(heavy_stream())
    assert not runs_beside(model.stream(shapes={"x": (1, 1, 3)}))


@pytest.mark.parametrize(
    ("ops", "elements", "rows", "heavy"),
    [(3, 4, 1, False), (100, 4, 1, True), (3, 10**5, 1, True), (3, 100, 10**3, True)],
)
def test_many_ops_elements_or_rows_make_a_step_long(ops, elements, rows, heavy):
    builder = Builder()
    source, target = (builder.external(DTYPES[np.dtype(np.float32)], elements) for _ in range(2))
    for _ in range(ops):
        builder.unary(UNARY["sin"], *((tensor, 0, (elements,), (1,)) for tensor in (target, source)))
    assert Runner(builder.finish(), rows).heavy == heavy


def test_two_threads_on_one_stream_are_told():
    stream, errors = heavy_stream(), []
    frame = np.zeros_like(stream.x)

    def work():
        for _ in range(300):
            try:
                stream(frame)
            except gi.GateInferError as error:
                errors.append(error)
            if errors:
                return

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors, "calls never overlapped"
    assert "another thread" in str(errors[0])
    stream(frame)


class StepsElsewhere:
    """A frame that lets another thread step the stream while it is converted."""

    def __init__(self, stream):
        self.stream, self.threads = stream, []

    def __array__(self, dtype=None, copy=None):
        begun = threading.Event()

        def work():
            begun.set()
            with contextlib.suppress(gi.GateInferError):
                self.stream.step()

        self.threads.append(threading.Thread(target=work))
        self.threads[-1].start()
        begun.wait()
        time.sleep(0.001)
        return np.ones_like(self.stream.x)


def test_a_step_that_began_while_a_frame_was_converted_keeps_its_input():
    stream = heavy_stream()
    refused = 0
    for _ in range(100):
        stream.x[...] = 0
        frame = StepsElsewhere(stream)
        try:
            stream(frame)
        except gi.GateInferError as error:
            assert "another thread" in str(error)
            assert not stream.x.any()
            refused += 1
        frame.threads[0].join()
        if refused == 3:
            break
    assert refused


def test_narrow_kernels_make_a_step_long_sooner():
    """60,000 multiply-adds: about 2 us with 16 lanes."""
    heavy = {}
    for isa in [name for name in isa_names() if name in ("scalar", best_isa())]:
        stream = gi.load(recurrent_net("GRU", 40, 80, dense=0, seq=1, batch=1), isa=isa).stream()
        heavy[isa] = next(iter(stream._bindings.values())).runner.heavy
    assert heavy["scalar"]
    assert heavy.get("avx512") is not True


# ---- whole models ----------------------------------------------------------------------------------------------------


def test_runs_like_the_last_one_are_checked_all_the_same(model, x):
    h = np.zeros((1, 1, 5), np.float32)
    feeds = {"x": x[0], "h": h, "c": h}
    expected = model.run(None, feeds)
    for clothes, dress in (SHORT | LONG).items():
        exact = x[0].astype(np.float16).astype(np.float32)
        wanted = model.run(None, feeds | {"x": exact})
        for got, array in zip(model.run(None, feeds | {"x": dress(exact)}), wanted, strict=True):
            np.testing.assert_array_equal(got, array, err_msg=clothes)
    with pytest.raises(gi.ShapeError, match="missing: c"):
        model.run(None, {"x": x[0], "h": h})
    with pytest.raises(gi.ShapeError, match="no input is called 'z'"):
        model.run(None, feeds | {"z": h})
    with pytest.raises(gi.ShapeError):
        model.run(None, feeds | {"h": np.zeros((1, 1, 6), np.float32)})
    again = model.run(None, feeds)
    for got, array in zip(again, expected, strict=True):
        np.testing.assert_array_equal(got, array)
        assert not np.shares_memory(got, array)
    named = model(x[0], c=h, h=h)
    assert list(named) == ["y", "hn", "cn"]
    np.testing.assert_array_equal(named["y"], expected[0])


def test_runs_fold_values_that_decide_shapes_anew():
    model, frame = gi.load(window_net()), np.arange(4, dtype=np.float32)
    for _ in range(2):
        np.testing.assert_array_equal(model(frame), [0, 1])
        np.testing.assert_array_equal(model(frame, np.array([3])), [0, 1, 2])
        np.testing.assert_array_equal(model(frame, np.array([1])), [0])


class Name(str):
    """Compares as any string does, and runs `hook` at the comparison numbered `at`."""

    __hash__ = str.__hash__

    def __eq__(self, other):
        Name.at -= 1
        if Name.at == -1:
            Name.hook()
        return str.__eq__(self, other)


@pytest.mark.parametrize("at", range(12))
def test_names_that_call_the_stream_again_while_they_are_looked_up(at):
    model = gi.load(sum_and_difference_net("n"))
    stream = model.stream(shapes={"a": (4000,), "b": (4000,)})
    a, b = np.arange(4000, dtype=np.float32), np.ones(4000, np.float32)
    Name.at, Name.hook = at, lambda: stream(a[:2], b[:2])
    results = stream(**{Name("a"): a, Name("b"): b})
    Name.at = at
    more = stream(a, b, out={Name("sum"): np.empty_like(a), Name("difference"): np.empty_like(a)})
    for found in (results, more):
        np.testing.assert_array_equal(found["sum"], a + b)
        np.testing.assert_array_equal(found["difference"], a - b)


def test_an_input_given_twice_is_refused(model, x):
    stream = model.stream(shapes={"x": (1, 1, 3)})
    with pytest.raises(gi.ShapeError, match="'x' is given by position and by name"):
        stream(x[0], x=x[0])
    with pytest.raises(gi.ShapeError, match="'a' is given by position and by name"):
        gi.load(sum_and_difference_net())(x[0], a=x[0])
