"""From an ONNX model to figures through every stage by hand (load, specialise, lower, run), and oracles to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from tolerance import product

from gateinfer._core import Runner
from gateinfer.graph.float32 import in_float32
from gateinfer.graph.fold import specialize
from gateinfer.loaders.onnx import load_onnx
from gateinfer.lower import Lowered, lower

Arrays = dict[str, np.ndarray]

ULP = 2.0**-23
"""Spacing of float32 numbers, relative to them, at most."""


def make_model(
    nodes: Sequence[onnx.NodeProto],
    feeds: Mapping[str, np.ndarray],
    constants: Mapping[str, np.ndarray],
    outputs: Sequence[str],
    opset: int,
    dtype: type | None = None,
) -> onnx.ModelProto:
    """A model with inputs like `feeds`, and outputs of unknown shape and of `dtype` (if None: the reference's)."""
    inputs = [_port(name, array, array.shape) for name, array in feeds.items()]
    weights = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    opsets = [helper.make_opsetid("", opset)]

    def model(dtypes: Sequence[np.dtype | type]) -> onnx.ModelProto:
        typed = [_port(name, np.empty((), kind), None) for name, kind in zip(outputs, dtypes, strict=True)]
        graph = helper.make_graph(nodes, "g", inputs, typed, weights)
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    if dtype is not None:
        return model([dtype] * len(outputs))
    found = ReferenceEvaluator(model([np.float32] * len(outputs))).run(None, dict(feeds))
    return model([np.asarray(array).dtype for array in found])


def compile_model(
    model: onnx.ModelProto,
    feeds: Mapping[str, np.ndarray],
    values: Mapping[str, np.ndarray] | None = None,
    isa: str = "auto",
    cache: dict | None = None,
) -> Lowered:
    """Compiles for the shapes of `feeds`; `values` are inputs that are known at that time."""
    values = dict(values or {})
    shapes = {name: array.shape for name, array in feeds.items() if name not in values}
    graph = in_float32(specialize(load_onnx(model.SerializeToString()), shapes, values))
    return lower(graph, isa, {} if cache is None else cache, [])


def run_lowered(lowered: Lowered, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """One step of one row."""
    runner = Runner(lowered.program)
    for name, (tensor, dtype, shape) in lowered.inputs.items():
        assert (feeds[name].shape, feeds[name].dtype) == (shape, dtype)
        runner.bind(tensor, np.ascontiguousarray(feeds[name]))
    found = {}
    for name, (tensor, dtype, shape) in lowered.outputs.items():
        found[name] = np.full(shape, 77, dtype)
        runner.bind(tensor, found[name])
    runner.step()
    return found


def run_model(
    model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray] | None = None
) -> Arrays:
    """All outputs of `model`, natively."""
    return run_lowered(compile_model(model, feeds, values), feeds)


def reference(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """All outputs by `onnx.reference`, with everything that is float32 in float64."""
    names = [output.name for output in model.graph.output]
    found = ReferenceEvaluator(_widened(model)).run(None, {name: _wide(array) for name, array in feeds.items()})
    return dict(zip(names, map(np.asarray, found), strict=True))


def against_onnxruntime(
    nodes, feeds: Arrays, constants: Arrays, *, opset: int, atol: float, dtype: type = np.float32
) -> None:
    model = make_model(nodes, feeds, constants, ["Y"], opset, dtype)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, feeds)
    compare(run_model(model, feeds)["Y"], _wide(expected), 0, atol)


def random(*shape: int, seed: int = 0, low: float = -1.0, high: float = 1.0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).uniform(low, high, shape).astype(np.float32)


def integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def node(op: str, inputs: str, outputs: str = "Y", **attrs):
    """A node; names are separated by spaces, "-" is an omitted one."""
    return helper.make_node(
        op, [n.strip("-") for n in inputs.split()], [n.strip("-") for n in outputs.split()], **attrs
    )


def check(
    nodes, feeds: Arrays, constants: Arrays | None = None, *, opset: int = 22, outputs=("Y",), rtol=0.0, atol=0.0
):
    """Runs the model natively and compares shapes, dtypes and values of all outputs with the reference."""
    nodes = nodes if isinstance(nodes, list) else [nodes]
    model = make_model(nodes, feeds, constants or {}, outputs, opset)
    expected = reference(model, feeds)
    lowered = compile_model(model, feeds)
    found = run_lowered(lowered, feeds)
    for name in outputs:
        compare(found[name], expected[name], rtol, atol)
    return lowered


def compare(found: np.ndarray, expected: np.ndarray, rtol: float, atol: float) -> None:
    assert found.shape == expected.shape
    assert found.dtype == (np.float32 if expected.dtype.kind == "f" else expected.dtype)
    if rtol == atol == 0 and expected.dtype == np.float64:
        with np.errstate(over="ignore"):
            expected = expected.astype(np.float32)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


def chain(K: int) -> float:
    """Absolute error of a K-term product of values in [-1, 1]: uniform terms keep partial sums below 2 sqrt(K) + 1."""
    return product(K + 1, min(K, 2 * np.sqrt(K)) + 1)


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype == np.float32 else array


def _widened(model: onnx.ModelProto) -> onnx.ModelProto:
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for tensor in wide.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(_wide(numpy_helper.to_array(tensor)), tensor.name))
    return wide


def _port(name: str, array: np.ndarray, shape: tuple[int, ...] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), shape)
