"""`threads=`: large layers are shared and nothing else changes: same bits, also after a fork and in several threads."""

from __future__ import annotations

import gc
import os
import threading
import time

import numpy as np
import pytest
from nets import recurrent_net

import gateinfer as gi
from gateinfer.errors import GateInferError

KINDS = ["LSTM", "GRU", "RNN"]


def _stream(op: str, hidden: int, seq: int, batch: int, **options: object) -> gi.Stream:
    return gi.load(recurrent_net(op, 40, hidden, dense=0, seq=seq, batch=batch), **options).stream()


def _frames(seq: int, batch: int, count: int = 3) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((count, seq, batch, 40)).astype(np.float32)


def _outputs(stream: gi.Stream, frames: np.ndarray) -> list[np.ndarray]:
    return [stream(frame) for frame in frames] + [np.array(a) for a in stream.state.arrays.values()]


def _assert_same(got: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("keep_hot", [0.0, 0.01])
@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize(
    ("hidden", "seq", "batch"),
    [(140, 1, 1), (140, 40, 1), (140, 11, 5), (140, 4, 16), (140, 1, 64), (512, 1, 1), (512, 1, 16), (512, 3, 16)],
)
@pytest.mark.parametrize("op", KINDS)
def test_the_bits_do_not_depend_on_threads(
    op: str, hidden: int, seq: int, batch: int, threads: int, keep_hot: float
) -> None:
    frames = _frames(seq, batch)
    expected = _outputs(_stream(op, hidden, seq, batch), frames)
    _assert_same(_outputs(_stream(op, hidden, seq, batch, threads=threads, keep_hot=keep_hot), frames), expected)


def _count_threads() -> int:
    """The least of some readings: the system lists a thread for a moment after it has been joined."""
    gc.collect()  # models of other tests and their streams may refer to each other
    counts = []
    for _ in range(40):
        counts.append(len(os.listdir("/proc/self/task")))
        time.sleep(0.005)
    return min(counts)


def _members(threads: int) -> int:
    return min(threads, len(os.sched_getaffinity(0)))


needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads in /proc")


@needs_proc
def test_threads_start_with_the_first_layer_that_needs_them_and_end_with_the_model() -> None:
    before = _count_threads()
    small, large = _stream("LSTM", 4, 1, 1, threads=3), _stream("LSTM", 140, 40, 1, threads=3)
    small(_frames(1, 1)[0])
    assert _count_threads() == before
    large(_frames(40, 1)[0])
    assert _count_threads() == before + _members(3) - 1
    del large
    assert _count_threads() == before


@needs_proc
def test_a_small_layer_is_shared_by_threads_that_are_hot() -> None:
    """Of a size that takes about 10 us with each instruction set."""
    before, shape = _count_threads(), (1, 1)
    hidden = {"scalar": 50, "avx2": 141, "avx512": 200}[gi.best_isa()]
    cold, hot = (_stream("LSTM", hidden, *shape, threads=2, keep_hot=seconds) for seconds in (0.0, 1e-3))
    cold(_frames(*shape)[0])
    assert _count_threads() == before
    hot(_frames(*shape)[0])
    assert _count_threads() == before + _members(2) - 1


@needs_proc
def test_one_thread_starts_none() -> None:
    before = _count_threads()
    _outputs(_stream("LSTM", 140, 40, 1), _frames(40, 1))
    assert _count_threads() == before


@needs_proc
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_a_process_bound_to_one_cpu_starts_no_thread_until_it_is_free() -> None:
    before, cpus = _count_threads(), os.sched_getaffinity(0)
    model = gi.load(recurrent_net("LSTM", 40, 140, dense=0, seq=40, batch=1), threads=4)
    stream, frames = model.stream(), _frames(40, 1)
    try:
        os.sched_setaffinity(0, {min(cpus)})
        stream(frames[0])
        assert _count_threads() == before
    finally:
        os.sched_setaffinity(0, cpus)
    time.sleep(0.01)  # a team asks now and then
    stream(frames[1])
    assert _count_threads() == before + _members(4) - 1
    assert model.threads == 4


def test_streams_of_one_model_in_several_threads() -> None:
    model = gi.load(recurrent_net("GRU", 40, 140, dense=0, seq=40, batch=1), threads=2)
    frames = _frames(40, 1, count=20)
    expected = _outputs(model.stream(), frames)
    results: list[list[np.ndarray]] = []
    workers = [threading.Thread(target=lambda: results.append(_outputs(model.stream(), frames))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(results) == 4
    for result in results:
        _assert_same(result, expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_goes_on_with_threads_of_its_own() -> None:
    stream = _stream("LSTM", 140, 40, 1, threads=2)
    frames = _frames(40, 1)
    expected = _outputs(_stream("LSTM", 140, 40, 1), frames)
    stream(frames[0])
    pid = os.fork()
    if pid == 0:
        good = np.array_equal(stream(frames[1]), expected[1]) and np.array_equal(stream(frames[2]), expected[2])
        del stream
        os._exit(0 if good else 1)
    np.testing.assert_array_equal(stream(frames[1]), expected[1])
    assert os.waitpid(pid, 0)[1] == 0


def test_numbers_of_numpy_are_numbers() -> None:
    net = recurrent_net("GRU", 4, 5, dense=0, seq=1, batch=1)
    assert gi.load(net, threads=np.int64(2), keep_hot=np.float32(0.5)).plans.target.team.keep_hot == 0.5


@pytest.mark.parametrize("wrong", [0, -1, 65, 2.0, True, "2", None])
def test_wrong_numbers_of_threads_are_refused(wrong: object) -> None:
    with pytest.raises(GateInferError, match="threads="):
        gi.load(recurrent_net("GRU", 4, 5, dense=0, seq=1, batch=1), threads=wrong)


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), "1", None])
def test_wrong_times_to_keep_hot_are_refused(wrong: object) -> None:
    with pytest.raises(GateInferError, match="keep_hot="):
        gi.load(recurrent_net("GRU", 4, 5, dense=0, seq=1, batch=1), threads=2, keep_hot=wrong)
