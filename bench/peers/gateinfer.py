"""gateinfer: a stream called with its frame, or `run` for models that are called whole."""

from __future__ import annotations

import numpy as np

import gateinfer as gi
from bench.cases import Case
from bench.peers import Peer, Skip

KEEP_HOT = 200e-6
"""Seconds: threads wait awake for the next call of the turn, and sleep when others have theirs."""


class Stream:
    def __init__(self, case: Case, model: gi.Model) -> None:
        self._stream = model.stream(states=case.pairs, constants=case.constants, initial=case.initial)
        self._stream(**case.frames[0])
        self._stream.reset()
        order = [port.name for port in model.inputs if port.name in case.frames[0]]
        self._frames = [tuple(frame[name] for name in order) for frame in case.frames]

    def __call__(self, index: int) -> None:
        self._stream(*self._frames[index % len(self._frames)])

    def answer(self) -> np.ndarray:
        return np.array(next(iter(self._stream.outputs.values())))


class Whole:
    def __init__(self, case: Case, model: gi.Model) -> None:
        self._case, self._model = case, model

    def __call__(self, index: int) -> None:
        self._results = self._model.run(None, self._case.feeds(index))

    def answer(self) -> np.ndarray:
        return np.array(self._results[0])


def plain(case: Case, threads: int) -> Peer:
    return engine(case, threads, 0.0)


def hot(case: Case, threads: int) -> Peer:
    return engine(case, threads, KEEP_HOT)


def engine(case: Case, threads: int, keep_hot: float) -> Peer:
    try:
        model = gi.load(case.model, threads=threads, keep_hot=keep_hot)
    except (gi.GateInferError, ValueError, NotImplementedError) as error:
        raise Skip(f"threads={threads}: {error}") from None
    return (Stream if case.pairs else Whole)(case, model)
