"""LiteRT (TensorFlow Lite) with its default delegate, XNNPACK, on models made by litert_model.py."""

from __future__ import annotations

import numpy as np
from ai_edge_litert.interpreter import Interpreter as LiteRT

from bench.cases import Case
from bench.peers import needs_layer


class Interpreter:
    """The fused LSTM operator keeps its state itself; spelled cells have it as outputs, copied to inputs."""

    def __init__(self, case: Case, threads: int) -> None:
        layer = needs_layer(case, "LiteRT")
        if "tflite" not in case.prepared:
            from bench.peers.litert_model import build

            case.prepared["tflite"] = build(layer)
        self._litert = LiteRT(model_content=case.prepared["tflite"], num_threads=threads)
        self._litert.allocate_tensors()
        inputs, outputs = self._litert.get_input_details(), self._litert.get_output_details()
        self._x, *taken = (self._litert.tensor(port["index"]) for port in inputs)
        self._y, *given = (self._litert.tensor(port["index"]) for port in outputs)
        self._states = list(zip(taken, given, strict=True))
        for take, _ in self._states:
            take()[...] = 0
        self._frames, self._layer = case.frames, layer

    def __call__(self, index: int) -> None:
        self._x()[...] = self._frames[index % len(self._frames)]["x"].reshape(self._x().shape)
        self._litert.invoke()
        for take, give in self._states:
            take()[...] = give()

    def answer(self) -> np.ndarray:
        layer = self._layer
        return np.array(self._y()).reshape(layer.seq_len, 1, layer.rows, layer.size)
