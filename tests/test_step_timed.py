"""Runner.step_timed: the same step as `step`, with the time of every op."""

import numpy as np
import pytest
from nets import recurrent_net

import gateinfer as gi
from gateinfer.errors import ShapeError


def _bound():
    stream = gi.load(recurrent_net("GRU", 4, 5, dense=3, seq=1, batch=1)).stream()
    stream(np.ones(stream.model.inputs[0].type.extents, np.float32))
    (binding,) = stream._bindings.values()
    return stream, binding.runner


def test_a_timed_step_is_the_same_step() -> None:
    (plain, runner), (timed, timed_runner) = _bound(), _bound()
    ns = np.full(len(runner.program.op_names), -1, np.int64)
    runner.step()
    timed_runner.step_timed(ns)
    assert (ns >= 0).all() and ns.sum() > 0
    for name, buffer in plain.outputs.items():
        np.testing.assert_array_equal(timed.outputs[name], buffer)
    for name in plain.state:
        np.testing.assert_array_equal(timed.state[name], plain.state[name])


@pytest.mark.parametrize("extra", [-1, 1])
def test_the_times_need_one_element_per_op(extra: int) -> None:
    _, runner = _bound()
    with pytest.raises(ShapeError, match=f"{len(runner.program.op_names)} elements"):
        runner.step_timed(np.zeros(len(runner.program.op_names) + extra, np.int64))
