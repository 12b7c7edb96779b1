"""PyTorch eager: nn.LSTM or nn.GRU in inference mode on memory it shares with NumPy."""

from __future__ import annotations

import numpy as np
import torch

from bench.cases import Case, Layer
from bench.peers import needs_layer

ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2)}
"""ONNX's gate blocks in PyTorch's order: iofc to ifgo, zrh to rzn."""


class Module:
    def __init__(self, case: Case, threads: int) -> None:
        layer = needs_layer(case, "PyTorch")
        torch.set_num_threads(threads)
        # oneDNN's LSTM repacks its weights in every call: faster over a sequence, twice as slow for a step.
        torch.backends.mkldnn.enabled = layer.seq_len > 1
        self._frames, self._module = case.frames, build(layer)
        self._x = torch.from_numpy(np.array(case.frames[0]["x"]))
        self._buffer = self._x.numpy()
        states = tuple(torch.from_numpy(np.array(case.initial[name])) for name in layer.states)
        self._state = states if layer.op == "LSTM" else states[0]

    def __call__(self, index: int) -> None:
        self._buffer[...] = self._frames[index % len(self._frames)]["x"]
        with torch.inference_mode():
            self._y, self._state = self._module(self._x, self._state)

    def answer(self) -> np.ndarray:
        return self._y.numpy()[:, None]


def build(layer: Layer) -> torch.nn.Module:
    module = getattr(torch.nn, layer.op)(layer.size, layer.size)
    weights = {name: value[0] for name, value in layer.weights().items()}
    weights["Wb"], weights["Rb"] = np.split(weights.pop("B"), 2)
    names = {"W": "weight_ih_l0", "R": "weight_hh_l0", "Wb": "bias_ih_l0", "Rb": "bias_hh_l0"}
    for name, value in weights.items():
        blocks = np.split(value, len(ORDER[layer.op]))
        ordered = np.concatenate([blocks[k] for k in ORDER[layer.op]])
        getattr(module, names[name]).data = torch.from_numpy(ordered)
    return module.eval()
