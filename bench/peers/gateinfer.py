"""gateinfer: a stream called with its frame, or `run` for models that are called whole."""

from __future__ import annotations

import numpy as np

import gateinfer as gi
from bench.cases import Case
from bench.peers import Skip


class Stream:
    KEEP_HOT = 0.0

    def __init__(self, case: Case, threads: int) -> None:
        model = load(case, threads, self.KEEP_HOT)
        self._case, self._model, self._first = case, model, model.outputs[0].name
        self._stream = None
        if case.pairs:
            self._stream = model.stream(states=case.pairs, constants=case.constants, initial=case.initial)
            self._stream(**case.frames[0])
            self._stream.reset()
            self._first = next(name for name in self._stream.outputs)
        order = [port.name for port in model.inputs if port.name in case.frames[0]]
        self._frames = [tuple(frame[name] for name in order) for frame in case.frames]

    def __call__(self, index: int) -> None:
        if self._stream is None:
            self._results = self._model.run(None, self._case.feeds(index))
            return
        self._stream(*self._frames[index % len(self._frames)])

    def answer(self) -> np.ndarray:
        return np.array(self._results[0] if self._stream is None else self._stream.outputs[self._first])


class Hot(Stream):
    """Its threads wait awake for the next call of the turn, and sleep when others have theirs."""

    KEEP_HOT = 200e-6


def load(case: Case, threads: int, keep_hot: float) -> gi.Model:
    try:
        return gi.load(case.model, threads=threads, keep_hot=keep_hot)
    except (gi.GateInferError, ValueError, NotImplementedError) as error:
        raise Skip(f"threads={threads}: {error}") from None
