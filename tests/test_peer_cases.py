"""Operator tests of other projects (ngraph, onnxruntime, RTNeural, WebNN) with the figures those projects state."""

from __future__ import annotations

import numpy as np
import pytest
from corpus import PeerCase

import gateinfer as gi
from gateinfer.errors import GateInferError


def _run(model: gi.Model, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return dict(zip((port.name for port in model.outputs), model.run(None, feeds), strict=True))


def test_engine_meets_the_figures(peer_case: PeerCase) -> None:
    if peer_case.expects_error:
        with pytest.raises(GateInferError):
            _run(gi.load(peer_case.model), peer_case.feeds)
    else:
        peer_case.check(_run(gi.load(peer_case.model), peer_case.feeds))


def test_streamed_in_chunks(peer_stream: PeerCase) -> None:
    """However the sequence is cut, the stream gives the peer's figures and the very bits of the whole run."""
    model = gi.load(peer_stream.model)
    whole = _run(model, peer_stream.feeds)
    for chunk in peer_stream.stream["chunks"]:
        streamed = _stream(model, peer_stream, chunk)
        peer_stream.check(streamed)
        for name, figures in streamed.items():
            np.testing.assert_array_equal(figures, whole[name], err_msg=f"{name} in chunks of {chunk}")


def _stream(model: gi.Model, case: PeerCase, chunk: int) -> dict[str, np.ndarray]:
    """Outputs joined along time, and the states after the last chunk under the names of their outputs."""
    ((source, axis),) = case.stream["axis"].items()
    ((target, out_axis),) = case.stream["out_axis"].items()
    pairs = dict(case.stream["state"])
    stream = model.stream()
    assert set(stream.state) == set(pairs)
    for name in pairs:
        stream.state[name] = case.feeds[name]
    sequence = case.feeds[source]
    cuts = range(chunk, sequence.shape[axis], chunk)
    outputs = [stream(part) for part in np.split(sequence, list(cuts), axis)]
    return {target: np.concatenate(outputs, out_axis)} | {
        out: np.array(stream.state[name]) for name, out in pairs.items()
    }
