"""Plain NumPy: the equations with matrix products from its BLAS, the input product hoisted over time."""

from __future__ import annotations

import numpy as np

from bench.cases import Case
from bench.peers import needs_layer


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


class Loops:
    def __init__(self, case: Case, threads: int) -> None:
        layer = needs_layer(case, "NumPy")  # threads: those of its BLAS, set by the environment before NumPy starts
        weights = layer.weights()
        self._W, self._R = (np.ascontiguousarray(weights[name][0].T) for name in "WR")  # [I, G H], [H, G H]
        self._Wb, self._Rb = np.split(weights["B"][0], 2)
        self._frames, self._step, self._size = case.frames, getattr(self, layer.op.lower()), layer.size
        self._h, self._c = (np.zeros((layer.rows, layer.size), np.float32) for _ in range(2))
        self._y = np.empty((layer.seq_len, 1, layer.rows, layer.size), np.float32)

    def __call__(self, index: int) -> None:
        x = self._frames[index % len(self._frames)]["x"]  # [T, N, I]
        for t, pre in enumerate(x @ self._W + self._Wb):
            self._step(pre)
            self._y[t, 0] = self._h

    def lstm(self, pre: np.ndarray) -> None:
        H = self._size
        pre = pre + self._h @ self._R + self._Rb
        i, o, f = np.split(sigmoid(pre[:, : 3 * H]), 3, axis=1)
        self._c = f * self._c + i * np.tanh(pre[:, 3 * H :])
        self._h = o * np.tanh(self._c)

    def gru(self, pre: np.ndarray) -> None:
        H = self._size
        rec = self._h @ self._R + self._Rb
        z, r = np.split(sigmoid(pre[:, : 2 * H] + rec[:, : 2 * H]), 2, axis=1)
        candidate = np.tanh(pre[:, 2 * H :] + r * rec[:, 2 * H :])
        self._h = candidate + z * (self._h - candidate)

    def answer(self) -> np.ndarray:
        return np.array(self._y)
