"""The floating-point mode: the engine flushes denormals and never traps, and gives the caller's back."""

from __future__ import annotations

import ctypes
import ctypes.util
import platform
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from nets import gather_net, recurrent_net
from onnx_models import model, node

import gateinfer as gi
from gateinfer._core import Cell, Runner, pack_cell, pack_dense, round_weights
from gateinfer.errors import GateInferError

# ---- the caller's mode ----------------------------------------------------------------------------------------------

ROUNDINGS = {"down": 0x2000, "up": 0x4000, "to-zero": 0x6000}
FLUSHED, MASKED, INEXACT, DENORMAL = 0x8040, 0x1F80, 0x20, 0x02
DENORMAL_OR_UNDERFLOW = 0x900  # bits that mask them
MODES = {name: MASKED | rounding | INEXACT for name, rounding in ROUNDINGS.items()} | {
    "flushed": MASKED | FLUSHED | INEXACT | DENORMAL,
    "trapping": MASKED & ~DENORMAL_OR_UNDERFLOW | INEXACT,
}
"""Name -> MXCSR. Inexact results are flagged in all of them, because the interpreter makes some, too; NumPy, which some
entry points use, clears other flags than that one and the one for denormal operands."""


class _Environment:
    """MXCSR of this thread; `fenv_t` of glibc on x86-64 is 32 bytes and ends with it."""

    def __init__(self, libm: ctypes.CDLL) -> None:
        self._libm, self._before, self._now = libm, (ctypes.c_uint32 * 8)(), (ctypes.c_uint32 * 8)()
        libm.fegetenv(self._before)

    def enter(self, mxcsr: int) -> None:
        self._now[:] = [*self._before[:7], mxcsr]
        self._libm.fesetenv(self._now)

    def leave(self) -> int:
        """The mode that was found."""
        self._libm.fegetenv(self._now)
        self._libm.fesetenv(self._before)
        return self._now[7]

    def during(self, mxcsr: int, call: Callable[[], Any]) -> tuple[Any, int]:
        """What `call` gives, or the GateInferError it raises, in that mode, and the mode it leaves."""
        self.enter(mxcsr)
        try:
            result = call()
        except GateInferError as error:
            result = error
        finally:
            left = self.leave()
        return result, left


@pytest.fixture
def environment() -> _Environment:
    name = ctypes.util.find_library("m")
    if sys.platform != "linux" or platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc" or name is None:
        pytest.skip("needs glibc on x86-64, whose fenv_t is known")
    return _Environment(ctypes.CDLL(name))


TINY = np.float32(1e-42)
CELL = Cell("gru", 3, 5, (("sigmoid", 0.0, 0.0), ("tanh", 0.0, 0.0)), 0.0, True, False)


def _gru_runner() -> tuple[Runner, list[int], list[np.ndarray]]:
    """A program with numbers on its tensors that underflow at once."""
    lowered = gi.load(recurrent_net("GRU")).plan({"x": (4, 1, 3), "h": (1, 1, 5)}, {}).lowered
    ports = [*lowered.inputs.values(), *lowered.outputs.values()]
    runner = lowered.new_runner()
    assert isinstance(runner, Runner)
    arrays = [np.full(shape, TINY, dtype) for _, dtype, shape in ports]
    return runner, [tensor for tensor, _, _ in ports], arrays


def _bound_gru() -> Runner:
    runner, tensors, arrays = _gru_runner()
    for tensor, array in zip(tensors, arrays, strict=True):
        runner.bind(tensor, array)
    return runner


def _run_of_arrays() -> Callable[[], Any]:
    runner, tensors, arrays = _gru_runner()
    return lambda: runner.run(tuple(tensors), arrays)


def _model_run(frames: np.ndarray) -> Callable[[], Any]:
    gru, h = gi.load(recurrent_net("GRU")), np.full((1, 1, 5), TINY)
    return lambda: gru.run(None, {"x": frames, "h": h})


def _stream_step() -> Callable[[], Any]:
    stream = gi.load(recurrent_net("LSTM")).stream()
    stream(np.full((4, 1, 3), TINY))
    return stream.step


def _gather_of(index: int) -> Callable[[], Any]:
    """An op that finds out while it runs that an index is out of range."""
    net = gi.load(gather_net())
    net.run(None, {"ids": np.zeros(1, np.int64)})
    return lambda: net.run(None, {"ids": np.full(1, index)})


def _packing_of(weights: str) -> Callable[[], bytes]:
    rng = np.random.default_rng(0)
    W, R, B = (rng.normal(size=shape).astype(np.float32) * 1e-4 for shape in ((15, 3), (15, 5), (30,)))
    W[0], R[0], B[[0, 15]] = TINY, TINY, (TINY, 2 * TINY)
    cell = CELL._replace(weights=weights)
    return lambda: pack_cell(cell, W, R, B, None).tobytes() + pack_dense(W, None, weights).tobytes()


ENTRIES: dict[str, tuple[Callable[[], Callable[[], Any]], bool]] = {
    "step": (lambda: _bound_gru().step, False),
    "run": (_run_of_arrays, False),
    "profile": (lambda: _bound_gru().profile, False),
    "step-of-a-stream": (_stream_step, False),
    "run-of-a-model": (lambda: _model_run(np.full((4, 1, 3), TINY)), False),
    "pack-f32": (lambda: _packing_of("f32"), False),
    "pack-bf16": (lambda: _packing_of("bf16"), False),
    "pack-f16": (lambda: _packing_of("f16"), False),
    "round": (lambda: lambda: round_weights(np.full(3, TINY), "f16"), False),
    "round-too-large": (lambda: lambda: round_weights(np.full(3, 1e6, np.float32), "f16"), True),
    "unbound-step": (lambda: _gru_runner()[0].step, True),
    "unbound-profile": (lambda: _gru_runner()[0].profile, True),
    "wrong-feed": (lambda: _model_run(np.zeros((4, 1, 2), np.float32)), True),
    "wrong-index": (lambda: _gather_of(9), True),
    "wrong-weights": (lambda: lambda: pack_cell(CELL, np.ones((1, 1), np.float32), None, None, None), True),
}
"""Name -> what prepares the call, and whether the call raises."""


@pytest.mark.parametrize("mxcsr", MODES.values(), ids=MODES)
@pytest.mark.parametrize("entry", ENTRIES)
def test_the_callers_mode_comes_back(environment: _Environment, entry: str, mxcsr: int) -> None:
    """Rounding, flushing, masks and flags; with traps on, arithmetic in the caller's mode would end the process."""
    prepare, raises = ENTRIES[entry]
    result, left = environment.during(mxcsr, prepare())
    assert isinstance(result, GateInferError) == raises
    assert hex(left) == hex(mxcsr)


@pytest.mark.parametrize("mxcsr", MODES.values(), ids=MODES)
@pytest.mark.parametrize("weights", ["f32", "bf16", "f16"])
def test_packed_weights_do_not_depend_on_the_callers_mode(environment: _Environment, weights: str, mxcsr: int) -> None:
    pack = _packing_of(weights)
    wanted = pack()
    assert environment.during(mxcsr, pack)[0] == wanted


@pytest.mark.parametrize("mxcsr", MODES.values(), ids=MODES)
def test_results_do_not_depend_on_the_callers_mode(environment: _Environment, mxcsr: int) -> None:
    run = _model_run(np.linspace(-1, 1, 60, dtype=np.float32).reshape(20, 1, 3))
    wanted = run()
    for one, other in zip(environment.during(mxcsr, run)[0], wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_caller_keeps_denormals() -> None:
    _model_run(np.full((2, 1, 3), TINY))()
    assert np.float32(TINY) * np.float32(1) != 0


# ---- flushed alike --------------------------------------------------------------------------------------------------

STEPS, ROWS, HIDDEN = 170, 7, 20
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def _halving_net(kind: str) -> bytes:
    """States [1, N, 20] that each step halves: at zero, every gate is 1/2 and the candidate 0; an RNN's R is 1/2.

    y [T, N, 3] is a product of the layer's output, z [T, 20, N] a convolution.
    """
    width = GATES[kind] * HIDDEN
    R = np.eye(HIDDEN) / 2 if kind == "RNN" else np.zeros((width, HIDDEN))
    constants = {"W": np.zeros((1, width, 1)), "R": R[None], "D": np.ones((HIDDEN, 3)), "C": np.ones((2, HIDDEN, 1))}
    states = "h c" if kind == "LSTM" else "h"
    nodes = [
        node(kind, f"x W R _ _ {states}", f"Y {states.replace('h', 'hn').replace('c', 'cn')}", hidden_size=HIDDEN),
        node("Squeeze", "Y one", "s"),
        node("MatMul", "s D", "y"),
        node("Transpose", "s", "lines", perm=[0, 2, 1]),
        node("Conv", "lines C", "z"),
    ]
    constants = {name: array.astype(np.float32) for name, array in constants.items()} | {"one": np.array([1])}
    ports = {"x": ["T", "N", 1]} | {name: [1, "N", HIDDEN] for name in states.split()}
    outputs = "Y y z " + states.replace("h", "hn").replace("c", "cn")
    return model(nodes, ports, outputs, constants).SerializeToString()


def _halved(content: bytes, isa: str, rows: int, chunk: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The first row of every output, all chunks of it, and of the last state h."""
    stream = gi.load(content, isa=isa).stream()
    for state in stream.states:
        stream.state[state.input] = np.ones((1, rows, HIDDEN), np.float32)
    results = [stream(np.zeros((min(chunk, STEPS - i), rows, 1), np.float32)) for i in range(0, STEPS, chunk)]
    firsts = {"Y": (slice(None), 0, 0), "y": (slice(None), 0), "z": (slice(None), slice(None), 0)}
    return [np.concatenate([r[n][at] for r in results]) for n, at in firsts.items()], stream.state["h"][0, 0].copy()


@pytest.mark.parametrize("kind", GATES)
def test_decayed_states_are_flushed_alike(kind: str) -> None:
    """A state below the smallest normal number is 0 from then on, whatever kernels, rows and chunks bring it there."""
    content = _halving_net(kind)
    wanted, last = _halved(content, "scalar", 1, STEPS)
    for figures in wanted:
        assert not np.any((figures != 0) & (np.abs(figures) < np.finfo(np.float32).tiny))
        assert figures[100].all()
    assert not last.any()
    for isa in ("scalar", "auto"):
        for rows, chunk in ((1, 1), (1, 7), (ROWS, 1), (ROWS, STEPS)):
            for got, expected in zip(_halved(content, isa, rows, chunk)[0], wanted, strict=True):
                assert got.tobytes() == expected.tobytes(), (isa, rows, chunk)
