"""A million steps on bound buffers allocate nothing: a preloaded library counts what the whole process asks for."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from nets import cache_net, recurrent_net
from sequence_nets import loop_net

import gateinfer as gi

SOURCE = Path(__file__).with_name("c") / "count_allocations.c"
NETS = {
    "lstm": (recurrent_net("LSTM", 4, 8), {"x": (1, 1, 4)}),
    "conv": (cache_net(), {"x": (1, 2, 4)}),
    "loop": (loop_net("rnn", extra="number").SerializeToString(), {"x": (3, 1, 3)}),
}
"""Op the program must hold -> model, and shapes of its frames."""

PROGRAM = """
import ctypes, sys
from itertools import repeat
import numpy as np
import gateinfer as gi

path, op, shapes, each, repetitions = sys.argv[1], sys.argv[2], eval(sys.argv[3]), sys.argv[4], int(sys.argv[5])
counter = ctypes.CDLL(None)
model = gi.load(path)
states = {state.input: state.output for state in model.states if op != "loop"}
known = {name: (1, 1, 8) if op == "lstm" else (1, 2, 2 if name == "cache" else 1) for name in states}
lowered = model.plan(shapes | known, {}, tuple(states.items())).lowered
assert op in lowered.program.op_names, lowered.program.op_names
runner = lowered.new_runner()
for tensor, dtype, shape in (*lowered.inputs.values(), *lowered.outputs.values()):
    runner.bind(tensor, np.full(shape, 0.5, dtype))
step, times, kept = runner.step, repeat(None, repetitions), []
step()
counter.count_start()
if each == "allocates":
    for _ in times: kept.append(bytearray(4096))
else:
    for _ in times: step()
print(counter.count_stop())
"""


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cc = shutil.which(os.environ.get("CC", "cc"))
    if cc is None or platform.libc_ver()[0] != "glibc":
        pytest.skip("needs a C compiler and glibc, whose allocator the counter calls")
    if "LD_PRELOAD" in os.environ:
        pytest.skip("another library is preloaded: a sanitizer has an allocator of its own")
    built = tmp_path_factory.mktemp("counter") / "count.so"
    subprocess.run([cc, "-O2", "-shared", "-fPIC", "-Wall", "-Werror", SOURCE, "-o", built], check=True)
    return built


def _calls(counter: Path, folder: Path, op: str, each: str, repetitions: int) -> int:
    """Of the allocator in a process that repeats a step, or an allocation."""
    content, shapes = NETS[op]
    path = folder / "model.onnx"
    path.write_bytes(content)
    package = str(Path(gi.__file__).parents[1])
    environment = os.environ | {"LD_PRELOAD": str(counter), "PYTHONPATH": package}
    command = [sys.executable, "-c", PROGRAM, path, op, repr(shapes), each, str(repetitions)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("op", NETS)
def test_a_million_steps_allocate_nothing(counter: Path, tmp_path: Path, op: str) -> None:
    assert _calls(counter, tmp_path, op, "steps", 1_000_000) == 0


def test_the_counter_counts(counter: Path, tmp_path: Path) -> None:
    assert _calls(counter, tmp_path, "lstm", "allocates", 100) >= 100
