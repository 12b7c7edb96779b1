"""Prints what calls from Python cost: nanoseconds per call, the minimum over bursts that take turns.

.venv/bin/python -m bench.calls

`one op` is a step of one operation on one number: nearly all of it is call. A line less `s.step()` is what copies and
checks cost.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from onnx import TensorProto, helper

import gateinfer as gi
from bench.cases import Layer, layer_model


def one_op() -> bytes:
    """x [1] -> -x."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "one-op", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    return model.SerializeToString()


def calls(content: bytes) -> dict[str, Callable[[], object]]:
    """Every way to call a model of static shapes."""
    model = gi.load(content)
    stream = model.stream()
    frame = np.zeros_like(stream.x)
    out = stream(frame)
    feeds = {port.name: np.zeros(port.type.extents, np.float32) for port in model.inputs}
    arrays = list(feeds.values())
    return {
        "s.step()": lambda: stream.step(),
        "s(frame)": lambda: stream(frame),
        "s(x=frame)": lambda: stream(x=frame),
        "s(frame, out=)": lambda: stream(frame, out=out),
        "m.run(None, feeds)": lambda: model.run(None, feeds),
        "m(...)": lambda: model(*arrays),
    }


def burst(call: Callable[[], object], count: int) -> float:
    """Nanoseconds per call of `count` of them."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count * 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bursts", type=int, default=200)
    parser.add_argument("--count", type=int, default=300)
    args = parser.parse_args()
    models = {"one op": calls(one_op()), "lstm-16": calls(layer_model(Layer("LSTM", 16)))}
    todo = {(kind, name): call for kind, ways in models.items() for name, call in ways.items()}
    todo["", "a function that does nothing"] = lambda: None
    best = dict.fromkeys(todo, float("inf"))
    for _ in range(args.bursts):
        for key, call in todo.items():
            best[key] = min(best[key], burst(call, args.count))
    nothing = best.pop(("", "a function that does nothing"))
    print(f"less the {nothing:.0f} ns that the loop and an empty function take:")
    for (kind, name), ns in best.items():
        print(f"{kind:8} {name:20} {ns - nothing:8.0f} ns")


if __name__ == "__main__":
    main()
