"""gi.validate: agrees on good models, finds a planted error, reports honestly."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from nets import recurrent_net
from onnx_models import model as make_model
from onnx_models import node

import gateinfer as gi
from gateinfer.lifted_run import LiftedRun, pieces
from gateinfer.validate import OutputReport, difference


@pytest.fixture
def frames():
    return list(np.random.default_rng(0).normal(size=(20, 1, 1, 3)).astype(np.float32))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_good_model_passes_against_both_oracles(kind, frames):
    report = gi.validate(gi.load(recurrent_net(kind)), frames)
    assert report.ok and report.check() is report and not report.skipped
    assert {row.oracle for row in report.rows} == {"onnxruntime", "reference"}
    assert {row.output for row in report.rows} >= {"y", "hn"}
    assert all(row.steps == len(frames) for row in report.rows)
    assert 0 < report.max_abs < 1e-5
    assert report.worst.max_abs == report.max_abs
    assert report.as_dict()["ok"] is True


def test_a_planted_error_is_found_at_its_step(frames):
    model = gi.load(recurrent_net("GRU"))
    other = gi.load(recurrent_net("GRU", seed=1))
    model.source = other.source  # the oracle answers for another network
    report = gi.validate(model, frames, oracles=["onnxruntime"])
    assert not report.ok and report.rows[0].first == 0
    with pytest.raises(gi.ValidationError, match="differs from onnxruntime"):
        report.check()


def test_one_bad_value_is_enough():
    row = OutputReport("reference", "y")
    for step in range(5):
        got = np.zeros(4, np.float32)
        got[2] = 0.5 if step == 3 else 0
        row.add(got, np.zeros(4), 1e-4, 1e-3)
    assert (row.first, row.worst, row.max_abs, row.steps) == (3, 3, 0.5, 5)


def test_non_finite_values_only_match_themselves():
    a = np.array([np.nan, np.inf, 1, np.nan, np.inf], np.float32)
    b = np.array([np.nan, np.inf, 1, 1, -np.inf])
    np.testing.assert_array_equal(difference(a, b), [0, 0, 0, np.inf, np.inf])
    row = OutputReport("reference", "y")
    row.add(np.zeros(1, np.float32), np.array([np.nan]), 1e-4, 1e-3)
    assert row.first == 0 and row.max_abs == np.inf


def test_without_an_oracle_nothing_is_proved(frames, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    model = gi.load(recurrent_net("GRU"))
    report = gi.validate(model, frames, oracles=["onnxruntime"])
    assert not report.ok and "onnxruntime" in report.skipped
    with pytest.raises(gi.ValidationError, match="no oracle"):
        report.check()
    with pytest.raises(gi.GateInferError, match="no oracle is called"):
        gi.validate(model, frames, oracles=["gut feeling"])


# ---- states that streams lift -----------------------------------------------------------------------------------


def lifting(nodes="free", steps="T", rows="N", shape=()):
    """x [T, N, 2] through GRU layers; "wired" ones start from h [1, N, 2], the others from nothing."""
    rng = np.random.default_rng(8)
    weights = {name: rng.normal(size=(1, 6, 2)).astype("f4") for name in ("W", "R")}
    weights |= {"axis": np.array([1])} | ({"shape": np.array(shape)} if shape else {})
    made, current = [], "x"
    for name in nodes.split():
        start = "h" if name == "wired" else "_"
        made.append(node("GRU", f"{current} W R _ _ {start}", f"Y_{name} hn_{name}", hidden_size=2))
        made.append(node("Squeeze", f"Y_{name} axis", f"y_{name}"))
        current = f"y_{name}"
    made.append(node("Reshape", f"{current} shape", "y") if shape else node("Identity", current, "y"))
    wired = "wired" in nodes
    inputs = {"x": (steps, rows, 2)} | ({"h": (1, rows, 2)} if wired else {})
    outputs = "y hn_free" + " hn_wired" * wired
    return gi.load(make_model(made, inputs, outputs, weights, opset=17).SerializeToString())


def chunks(*lengths, rows=1):
    return [np.random.default_rng(n).normal(size=(length, rows, 2)).astype("f4") for n, length in enumerate(lengths)]


@pytest.fixture
def forgetful(monkeypatch):
    """A stream that loses its lifted states between frames."""
    step = LiftedRun.step

    def forget(run, frame):
        for state in run.pairs:
            if state.lifted:
                run._stream.state[state.input] = np.zeros_like(run._stream.state[state.input])
        return step(run, frame)

    monkeypatch.setattr(LiftedRun, "step", forget)


@pytest.mark.parametrize("nodes", ["free", "wired free", "free wired"])
@pytest.mark.parametrize("steps", ["T", 3], ids=["open", "declared"])
def test_chunks_are_compared_with_one_long_run(nodes, steps):
    model = lifting(nodes, steps)
    report = gi.validate(model, chunks(2, 1, 4)).check()
    assert {row.oracle for row in report.rows} == {"onnxruntime", "reference"}
    assert {row.output for row in report.rows} == {port.name for port in model.outputs}
    assert all(row.steps == 3 for row in report.rows)


@pytest.mark.parametrize("nodes", ["free", "wired free"])
def test_a_stream_that_forgets_is_found_at_its_chunk(nodes, forgetful):
    report = gi.validate(lifting(nodes), chunks(2, 1, 4))
    first = {row.output: row.first for row in report.rows}
    assert first["y"] == 1 and first["hn_free"] == 2


def test_a_length_the_file_fixes_is_compared_chunk_by_chunk():
    model = lifting(steps=3, rows=1, shape=(3, 1, 2))
    report = gi.validate(model, chunks(3, 3, 3)).check()
    lifted = {state.output for state in model.states}
    assert {row.oracle for row in report.rows} == {"onnxruntime", "reference"}
    assert {row.output for row in report.rows} == {"y", "hn_free"} | lifted
    assert all(row.steps == 3 for row in report.rows)


def test_a_stream_that_forgets_is_found_in_a_file_of_fixed_length(forgetful):
    report = gi.validate(lifting(steps=3, rows=1, shape=(3, 1, 2)), chunks(3, 3))
    assert all(row.first == 1 for row in report.rows)


@pytest.mark.parametrize("nodes", ["free", "wired free"])
def test_frames_may_be_sequences_of_their_own(nodes, forgetful):
    report = gi.validate(lifting(nodes), chunks(2, 5, 2), lift=False).check()
    assert all(row.steps == 3 for row in report.rows)


def test_frames_of_different_batches_are_sequences_of_their_own():
    report = gi.validate(lifting(), [*chunks(2, 3), *chunks(2, rows=4)]).check()
    assert all(row.steps == 3 for row in report.rows)


@pytest.mark.parametrize(
    ("frames", "whole", "expected"),
    [
        ([(1, 2, 3), (4, 2, 3)], (5, 2, 3), [0, 1]),
        ([(2, 1, 3), (2, 4, 3)], (2, 5, 3), [0, 1]),
        ([(2, 3), (2, 3)], (2, 3), [1]),
        ([(2, 3)], (2, 3), [0]),
        ([(2, 3), (2, 3)], (5, 3), [1]),
        ([(), ()], (), [1]),
    ],
    ids=["time first", "time second", "last step", "one frame", "a shape that is wrong", "scalars"],
)
def test_pieces_of_a_long_run(frames, whole, expected):
    array = np.random.default_rng(0).normal(size=whole)
    found = list(pieces([np.zeros(shape) for shape in frames], array))
    assert [index for index, _, _ in found] == expected
    if len(found) > 1:
        assert [got.shape for _, got, _ in found] == [part.shape for _, _, part in found]
