"""gi.validate: agrees on good models, finds a planted error, reports honestly."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from nets import recurrent_net

import gateinfer as gi
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
