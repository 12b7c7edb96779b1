"""onnxruntime in both forms, without spinning. `Run` is what most programs do, `Bound` is its fastest form."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort

from bench.cases import Case, Frame


def session(case: Case, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return ort.InferenceSession(case.model, options, providers=["CPUExecutionProvider"])


def bind_arrays(session: ort.InferenceSession, inputs: Frame, outputs: Frame) -> ort.IOBinding:
    """As `gateinfer.bench.bind_arrays`, whose import would count as onnxruntime's when it starts cold."""
    binding = session.io_binding()
    for name, array in inputs.items():
        binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
    for name, array in outputs.items():
        binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
    return binding


class Run:
    """`run` with a dict; the state outputs of one call are handed to the next."""

    def __init__(self, case: Case, threads: int) -> None:
        self._session = session(case, threads)
        self._case, self._names = case, [output.name for output in self._session.get_outputs()]
        self._feeds = case.constants | case.initial

    def __call__(self, index: int) -> None:
        feeds, frames = self._feeds, self._case.frames
        feeds.update(frames[index % len(frames)])
        self._results = dict(zip(self._names, self._session.run(self._names, feeds), strict=True))
        for taken, given in self._case.pairs.items():
            feeds[taken] = self._results[given]

    def answer(self) -> np.ndarray:
        return next(value for name, value in self._results.items() if name not in self._case.pairs.values())


class Bound:
    """`run_with_iobinding` on memory bound once; state goes back and forth between two bindings and is never copied."""

    def __init__(self, case: Case, threads: int) -> None:
        self._session = session(case, threads)
        self._frames = case.frames
        self._inputs = {name: np.array(value) for name, value in case.frames[0].items()}
        names = [output.name for output in self._session.get_outputs()]
        fixed = self._inputs | case.constants
        results = dict(zip(names, self._session.run(names, fixed | case.initial), strict=True))
        self._outputs = {name: results[name] for name in names if name not in case.pairs.values()}
        halves = [{name: np.array(value) for name, value in case.initial.items()} for _ in range(2)]
        self._bindings = [
            bind_arrays(
                self._session,
                fixed | halves[k],
                self._outputs | {case.pairs[n]: v for n, v in halves[1 - k].items()},
            )
            for k in range(2)
        ]
        self._keep = fixed, halves  # onnxruntime borrows this memory

    def __call__(self, index: int) -> None:
        for name, value in self._frames[index % len(self._frames)].items():
            self._inputs[name][...] = value
        self._session.run_with_iobinding(self._bindings[index & 1])

    def answer(self) -> np.ndarray:
        return np.array(next(iter(self._outputs.values())))
