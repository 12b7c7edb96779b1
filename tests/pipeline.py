"""From an ONNX model to figures through every stage by hand: load, specialise, lower, run. For tests of the stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from gateinfer._core import Runner
from gateinfer.graph.fold import specialize
from gateinfer.loaders.onnx import load_onnx
from gateinfer.lower import Lowered, lower

Arrays = dict[str, np.ndarray]


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
    graph = specialize(load_onnx(model.SerializeToString()), shapes, values)
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
