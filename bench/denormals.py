"""What denormals cost: a step on denormal inputs and states, and on ones whose products underflow, against normal ones.

.venv/bin/python -m bench.denormals [--rounds 60]

The row `unflushed` is a matrix product of NumPy, which flushes nothing: what this CPU asks for denormals.
States are not carried, so that every step meets the same figures. The three take turns; a ratio is the median of the
ratios per turn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import gateinfer as gi
from bench.cases import Layer, layer_model
from gateinfer._core import aligned_empty

FIGURES = {"normal": 1.0, "denormal": 1e-41, "underflow": 2e-38}
"""Scale of inputs and states. The last ones are normal; with weights below one, their products are not."""
TURN_NS = 300_000


def _net(op: str, x: tuple[int, ...], weights: tuple[int, ...] | None = None, **attrs: object) -> bytes:
    """y = op(x, W) with W uniform in +-0.1, or op(x)."""
    W = np.random.default_rng(0).uniform(-0.1, 0.1, weights or ()).astype(np.float32)
    constants = [numpy_helper.from_array(W, "W")] if weights else []
    node = helper.make_node(op, ["x", *(c.name for c in constants)], ["y"], **attrs)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", x), ("y", None))]
    graph = helper.make_graph([node], op, ports[:1], ports[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def paths() -> dict[str, bytes]:
    """Layers without biases, so that sums are as small as their products."""
    found = {}
    for op in ("LSTM", "GRU"):
        for size in (16, 128):
            for seq_len, batch in ((1, 1), (100, 1), (1, 16)):
                found[f"{op.lower()}-{size}-t{seq_len}-n{batch}"] = layer_model(Layer(op, size, seq_len, batch, False))
    found["dense-256-n1"] = _net("MatMul", (1, 256), (256, 256))
    found["dense-256-n16"] = _net("MatMul", (16, 256), (256, 256))
    found["dense-256-to-1"] = _net("MatMul", (16, 256), (256, 1))
    found["conv-lines"] = _net("Conv", (1, 16, 200), (16, 16, 3), pads=[1, 1])
    found["conv-depthwise"] = _net("Conv", (1, 32, 200), (32, 1, 3), pads=[1, 1], group=32)
    found["conv-channels"] = _net("Conv", (1, 64, 3), (64, 64, 3))
    found["pool"] = _net("AveragePool", (1, 16, 200), kernel_shape=[3])
    return found


def stepper(content: bytes, scale: float) -> Callable[[], None]:
    """A step on inputs of that scale, bound for good."""
    model = gi.load(content)
    lowered = model.plan({port.name: port.type.extents for port in model.inputs}, {}).lowered
    runner, rng = lowered.new_runner(), np.random.default_rng(1)
    for tensor, dtype, shape in lowered.inputs.values():
        runner.bind(tensor, _aligned((rng.uniform(0.5, 1.0, shape) * scale).astype(dtype)))
    for tensor, dtype, shape in lowered.outputs.values():
        runner.bind(tensor, _aligned(np.zeros(shape, dtype)))
    return runner.step


def _aligned(array: np.ndarray) -> np.ndarray:
    """A copy that starts on a cache line, so that places in memory do not make a difference."""
    copy = aligned_empty(array.size, array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def time_of(step: Callable[[], object], repetitions: int) -> float:
    """Nanoseconds per step."""
    start = time.perf_counter_ns()
    for _ in range(repetitions):
        step()
    return (time.perf_counter_ns() - start) / repetitions


def unflushed(scale: float) -> Callable[[], object]:
    rng = np.random.default_rng(1)
    x, W = (rng.uniform(0.5, 1.0, (16, 256)) * scale).astype(np.float32), np.full((256, 256), 0.1, np.float32)
    return partial(np.matmul, x, W, out=np.zeros((16, 256), np.float32))


def measure(steps: Sequence[Callable[[], object]], rounds: int) -> np.ndarray:
    """ns per step [rounds, steps], which take turns"""
    repetitions = max(1, int(TURN_NS / max(1.0, time_of(steps[0], 20))))
    return np.array([[time_of(step, repetitions) for step in steps] for _ in range(rounds)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    args = parser.parse_args()
    print("| path | normal us | denormal | underflow |\n|---|---:|---:|---:|")
    makers: dict[str, Callable[[float], Callable[[], object]]] = {"unflushed": unflushed}
    makers |= {name: partial(stepper, content) for name, content in paths().items()}
    for name, make in makers.items():
        times = measure([make(scale) for scale in FIGURES.values()], args.rounds)
        ratios = np.median(times[:, 1:] / times[:, :1], axis=0)
        print(f"| {name} | {np.median(times[:, 0]) / 1e3:.2f} | {ratios[0]:.2f} | {ratios[1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
