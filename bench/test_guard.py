"""pytest-benchmark on steps, sequences, rows and real frames, to compare before and after a change on one machine.

make bench-guard, or: pytest bench -k "step and lstm-16" --benchmark-autosave, then --benchmark-compare after the change
"""

import pytest

from bench import cases
from bench.peers import make
from gateinfer import load

ENGINES = ("gateinfer", "onnxruntime run", "onnxruntime io_binding")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", cases.names())
def test_call(benchmark, engine, name):
    """Single calls on frames that repeat; state goes on from call to call, as in use."""
    call = make(engine, cases.load(name))
    counter = iter(range(1 << 60))
    benchmark.group = name
    benchmark(lambda: call(next(counter)))


def test_bare_step(benchmark):
    """`step()` alone on buffers bound once: what a call costs when the frame is already in place."""
    case = cases.load("lstm-16-step")
    stream = load(case.model).stream()
    stream.x[...] = case.frames[0]["x"]
    benchmark.group = f"{case.name}, step() alone"
    benchmark(stream.step)
