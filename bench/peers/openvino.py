"""OpenVINO, f32 math: two requests on shared memory, so that state goes back and forth and is never copied."""

from __future__ import annotations

import numpy as np
import openvino as ov

from bench.cases import Case, Frame

SETTINGS = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": "1"}


class Bound:
    def __init__(self, case: Case, threads: int) -> None:
        self._frames = case.frames
        self._inputs = {name: np.array(value) for name, value in case.frames[0].items()}
        fixed = self._inputs | {name: np.atleast_1d(value) for name, value in case.constants.items()}
        core = ov.Core()
        model = core.read_model(case.model, b"")
        shapes = {name: value.shape for name, value in (fixed | case.initial).items()}
        model.reshape({name: shape for name, shape in shapes.items() if name not in case.constants})
        compiled = core.compile_model(model, "CPU", SETTINGS | {"INFERENCE_NUM_THREADS": threads})
        fixed |= {name: case.constants[name].reshape(tuple(compiled.input(name).shape)) for name in case.constants}
        self._outputs = output_arrays(compiled, fixed | case.initial)
        shown = {name: value for name, value in self._outputs.items() if name not in case.pairs.values()}
        halves = [{name: np.array(value) for name, value in case.initial.items()} for _ in range(2)]
        self._requests = [
            bind(compiled, fixed | halves[k], shown | {case.pairs[n]: v for n, v in halves[1 - k].items()})
            for k in range(2)
        ]
        self._shown, self._keep = shown, (fixed, halves)  # OpenVINO borrows this memory

    def __call__(self, index: int) -> None:
        for name, value in self._frames[index % len(self._frames)].items():
            self._inputs[name][...] = value
        self._requests[index & 1].infer()

    def answer(self) -> np.ndarray:
        return np.array(next(iter(self._shown.values())))


def output_arrays(compiled: ov.CompiledModel, feeds: Frame) -> Frame:
    """One array per output, of the shape a first inference gives it."""
    results = compiled.create_infer_request().infer(feeds)
    return {port.any_name: np.array(results[port]) for port in compiled.outputs}


def bind(compiled: ov.CompiledModel, inputs: Frame, outputs: Frame) -> ov.InferRequest:
    request = compiled.create_infer_request()
    for name, array in (inputs | outputs).items():
        request.set_tensor(name, ov.Tensor(array, shared_memory=True))
    return request
