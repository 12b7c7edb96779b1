"""One step, a sequence, several rows and real frames, in gateinfer and in onnxruntime. How to read it: README.md."""

import numpy as np
import pytest
from cases import BATCHES, SEQUENCES, STEPS, real_cases

import gateinfer as gi
from gateinfer.bench import OnnxruntimeBound, OnnxruntimeRun, engine_call

ENGINES = {"gateinfer": engine_call, "ort-run": OnnxruntimeRun, "ort-bound": OnnxruntimeBound}


def measure(benchmark, engine, case):
    """Times single calls on frames that repeat; state goes on from call to call, as in use."""
    model = gi.load(case.model())
    constants = {name: np.asarray(value, model.port(name).dtype) for name, value in case.constants}
    call = ENGINES[engine](model, case.frames(), constants)
    benchmark.group = case.name
    benchmark.extra_info["isa"] = model.isa
    counter = iter(range(1 << 60))
    benchmark(lambda: call(next(counter)))


engines = pytest.mark.parametrize("engine", ENGINES)


@engines
@pytest.mark.parametrize("case", STEPS, ids=str)
def test_step(benchmark, engine, case):
    measure(benchmark, engine, case)


@engines
@pytest.mark.parametrize("case", SEQUENCES, ids=str)
def test_sequence(benchmark, engine, case):
    measure(benchmark, engine, case)


@engines
@pytest.mark.parametrize("case", BATCHES, ids=str)
def test_rows(benchmark, engine, case):
    measure(benchmark, engine, case)


@engines
@pytest.mark.parametrize(
    "case", real_cases() or [pytest.param(None, marks=pytest.mark.skip("no corpus of real models"))]
)
def test_real_frame(benchmark, engine, case):
    measure(benchmark, engine, case)


def test_bare_step(benchmark):
    """`step()` alone on buffers bound once: what a call costs when the frame is already in place."""
    case = STEPS[0]
    stream = gi.load(case.model()).stream()
    stream.x[...] = case.frames()[0]["x"]
    benchmark.group = f"{case.name} step() alone"
    benchmark(stream.step)
