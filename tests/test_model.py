"""Model: load, run with onnxruntime's meaning, feeds in any clothes, bad feeds, sharing and forks."""

from __future__ import annotations

import os
import threading

import numpy as np
import onnxruntime as ort
import pytest
from nets import gather_net, recurrent_net

import gateinfer as gi


@pytest.fixture(scope="module")
def content():
    return recurrent_net("LSTM")


@pytest.fixture(scope="module")
def model(content):
    return gi.load(content)


def feed(seq=4, batch=2, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"x": (seq, batch, 3), "h": (1, batch, 5), "c": (1, batch, 5)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_run_means_what_onnxruntime_means(model, content):
    session = ort.InferenceSession(content)
    for seq, batch in [(1, 1), (4, 2), (9, 3)]:
        feeds = feed(seq, batch)
        for got, expected in zip(model.run(None, feeds), session.run(None, feeds), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    names = ["cn", "y"]
    for got, expected in zip(model.run(names, feeds), session.run(names, feeds), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert [(i.name, i.shape, i.type) for i in model.get_inputs()] == [
        (i.name, i.shape, i.type) for i in session.get_inputs()
    ]
    assert [o.name for o in model.get_outputs()] == [o.name for o in session.get_outputs()]


def test_run_keeps_nothing_and_reads_only(model):
    feeds = feed()
    kept = {name: array.copy() for name, array in feeds.items()}
    first = model.run(None, feeds)
    for array in feeds.values():
        array.flags.writeable = False
    for a, b in zip(first, model.run(None, feeds), strict=True):
        np.testing.assert_array_equal(a, b)
    for name, array in feeds.items():
        np.testing.assert_array_equal(array, kept[name])


def test_ortvalue_and_float64_feeds(model):
    feeds = feed()
    expected = model.run(["y"], feeds)[0]
    as_values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in feeds.items()}
    np.testing.assert_array_equal(model.run(["y"], as_values)[0], expected)
    doubles = {name: array.astype(np.float64) for name, array in feeds.items()}
    np.testing.assert_array_equal(model.run(["y"], doubles)[0], expected)


def test_call_takes_positions_and_names(model):
    feeds = feed()
    named = model(**feeds)
    assert set(named) == {"y", "hn", "cn"}
    np.testing.assert_array_equal(model(feeds["x"], h=feeds["h"], c=feeds["c"])["y"], named["y"])
    ids = gi.load(gather_net())
    np.testing.assert_array_equal(ids(np.array([2])), [[6, 7, 8]])


@pytest.mark.parametrize("seq, batch", [(0, 2), (3, 0), (0, 0)])
def test_zero_sizes(model, seq, batch):
    feeds = feed(seq, batch)
    y, hn, cn = model.run(None, feeds)
    assert y.shape == (seq, batch, 2) and hn.shape == cn.shape == (1, batch, 5)
    assert not hn.any() and not cn.any()  # as in onnxruntime: a row of length 0 has zero final states


BAD = {
    "missing": {"c": None},
    "unknown": {"extra": np.zeros(1, np.float32)},
    "rank": {"x": np.zeros((4, 3), np.float32)},
    "extent": {"x": np.zeros((4, 2, 4), np.float32)},
    "batch": {"h": np.zeros((1, 3, 5), np.float32)},
    "dtype": {"x": np.zeros((4, 2, 3), np.complex128)},
    "objects": {"x": np.full((4, 2, 3), object())},
    "strings": {"x": np.full((4, 2, 3), "x")},
    "datetime": {"x": np.zeros((4, 2, 3), "M8[s]")},
    "structured": {"x": np.zeros((4, 2, 3), [("a", "f4")])},
    "overflow": {"x": np.full((4, 2, 3), 1e39)},
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD)
def test_bad_feeds_are_typed_errors_and_the_model_lives_on(model, change):
    feeds = feed()
    expected = model.run(None, feeds)
    bad = {name: value for name, value in (feeds | change).items() if value is not None}
    with pytest.raises(gi.ShapeError) as caught:
        model.run(None, bad)
    assert any(name in str(caught.value) for name in change) or "N" in str(caught.value)
    for a, b in zip(expected, model.run(None, feeds), strict=True):
        np.testing.assert_array_equal(a, b)


def test_wrong_calls(model):
    with pytest.raises(gi.ShapeError, match="no output is called"):
        model.run(["nope"], feed())
    with pytest.raises(gi.ShapeError, match="dict"):
        model.run(None, [1])
    with pytest.raises(gi.ShapeError, match="missing: x, h, c"):
        model.run(None, {})


@pytest.mark.parametrize(
    "options", [{"isa": "mmx"}, {"threads": 0}, {"threads": "2"}, {"fallback": "tensorrt"}], ids=lambda o: next(iter(o))
)
def test_options_are_checked(content, options):
    with pytest.raises(gi.GateInferError, match=next(iter(options))):
        gi.load(content, **options)


def test_a_huge_declared_shape_is_refused_before_it_is_allocated(model):
    huge = np.broadcast_to(np.float32(0), (2**40, 1, 3))
    with pytest.raises(gi.GateInferError):
        model.plan({"x": huge.shape, "h": (1, 1, 5), "c": (1, 1, 5)}, {})


def test_one_model_in_many_threads(model):
    expected = {n: model.run(None, feed(n)) for n in range(1, 6)}
    problems = []

    def work(seed):
        for i in range(200):
            n = 1 + (seed + i) % 5
            for a, b in zip(model.run(None, feed(n)), expected[n], strict=True):
                if not np.array_equal(a, b):
                    problems.append((seed, n))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_can_go_on(model):
    stream, x = model.stream(), feed(6, 1)["x"]
    stream(x[:3])
    child = os.fork()
    if child == 0:
        twin = model.stream()
        good = np.array_equal(np.concatenate([twin(x[:3]), twin(x[3:])]), model.stream()(x))
        os._exit(0 if good and stream(x[3:]).shape == (3, 1, 2) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert stream(x[3:]).shape == (3, 1, 2)
