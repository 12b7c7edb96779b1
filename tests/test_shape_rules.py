"""Shape rules against the operator tests of onnx, differences of operator sets, attributes of recurrent nodes."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx_models import graph_of, lstm, node

from gateinfer.errors import GateInferError, ShapeError, UnsupportedOp
from gateinfer.graph.fold import specialize
from gateinfer.graph.infer import has_rule
from gateinfer.graph.ir import Node
from gateinfer.graph.recurrent_attrs import parse_recurrent
from gateinfer.loaders.onnx import load_onnx

# ---- rules against the operator tests that come with onnx -----------------------------------------------------------

_REFUSED = {
    "batchnorm_example_training_mode", "batchnorm_epsilon_training_mode", "convtranspose_output_shape",
    "einsum_batch_diagonal", "maxpool_with_argmax_2d_precomputed_pads", "maxpool_with_argmax_2d_precomputed_strides",
}  # fmt: skip
"""Cases with attributes that are not implemented."""
_REFUSED_VALUES = ("training_mode is", "mode=", "policy=", "run-time values")


@cache
def _operator_cases() -> dict[str, list[Any]]:
    from onnx.backend.test.case.node import collect_testcases

    found: dict[str, list[Any]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in collect_testcases(None):
            op = case.model.graph.node[0].op_type
            if "_expanded" not in case.name and has_rule(Node(op, (), ())):
                found.setdefault(op, []).append(case)
    return found


def _judge(case: Any, keep_floats: bool) -> str:
    """Specialises one operator test, with all inputs constant or only those that are no floats; "" for agreement."""
    inputs, expected = ([_array(a) for a in arrays] for arrays in case.data_sets[0])
    graph = load_onnx(case.model.SerializeToString())
    feeds = dict(zip([p.name for p in graph.inputs], inputs, strict=True))
    values = {n: a for n, a in feeds.items() if not keep_floats or a.dtype.kind in "iub" or n in ("scales", "roi")}
    found = specialize(graph, {n: a.shape for n, a in feeds.items() if n not in values}, values)
    for port, array in zip(found.outputs, expected, strict=True):
        if (port.dtype, port.shape) != (array.dtype, array.shape):
            return f"{case.name}: {port} instead of {array.dtype} {array.shape}"
        if port.name in found.constants and not _close(found.constants[port.name], array):
            return f"{case.name}: another value"
    return ""


def _array(value: Any) -> np.ndarray:
    return onnx.numpy_helper.to_array(value) if isinstance(value, TensorProto) else value


def _close(got: np.ndarray, expected: np.ndarray) -> bool:
    if expected.dtype.kind == "O":
        return bool((got == expected).all())
    return np.allclose(got.astype("f8"), expected.astype("f8"), rtol=1e-3, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("keep_floats", [True, False], ids=["floats-vary", "all-constant"])
def test_rules_agree_with_the_operator_tests_of_onnx(keep_floats: bool) -> None:
    wrong, agreed = [], 0
    for case in (c for cases in _operator_cases().values() for c in cases):
        try:
            verdict = _judge(case, keep_floats)
        except UnsupportedOp as error:
            loads = "element type" in str(error) or "only tensors" in str(error)
            known = case.name.removeprefix("test_") in _REFUSED or any(w in str(error) for w in _REFUSED_VALUES)
            verdict = "" if loads or known else f"{case.name}: {error}"
        except GateInferError as error:
            verdict = f"{case.name}: {type(error).__name__} {error}"
        agreed += not verdict
        wrong += [verdict] if verdict else []
    assert not wrong
    assert agreed > 700


# ---- opset differences and refused attribute values -----------------------------------------------------------------


def _shape(op: str, inputs: str, opset: int, x: tuple[int, ...], constants: dict | None = None, **attrs: Any) -> tuple:
    graph = graph_of([node(op, inputs, "y", **attrs)], {"x": x}, opset=opset, **(constants or {}))
    found = specialize(graph, {}).types["y"].shape
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("op", "opset", "x", "axes", "expected"),
    [
        ("Squeeze", 11, (1, 2, 1), [0], (2, 1)),
        ("Squeeze", 11, (1, 2, 1), None, (2,)),
        ("Unsqueeze", 11, (2,), [0, -1], (1, 2, 1)),
        ("ReduceSum", 11, (2, 3), [1], (2, 1)),
        ("ReduceMean", 17, (2, 3), [-2], (1, 3)),
        ("ReduceMax", 11, (2, 3), None, (1, 1)),
    ],
)
def test_axes_as_attribute(op: str, opset: int, x: tuple, axes: list | None, expected: tuple) -> None:
    assert _shape(op, "x", opset, x, **({} if axes is None else {"axes": axes})) == expected


@pytest.mark.parametrize(
    ("op", "opset", "attrs"),
    [("Squeeze", 13, {"axes": [0]}), ("ReduceSum", 13, {"axes": [0]}), ("ReduceMean", 18, {"axes": [0]}),
     ("Slice", 10, {"starts": [0], "ends": [1]}), ("Clip", 11, {"min": 0.0})],
)  # fmt: skip
def test_attributes_that_became_inputs(op: str, opset: int, attrs: dict) -> None:
    with pytest.raises(GateInferError, match=op):
        _shape(op, "x", opset, (1, 2), **attrs)


def test_slice_pad_and_split_of_old_operator_sets() -> None:
    assert _shape("Slice", "x", 9, (5, 5), starts=[1, -2], ends=[9, 99], axes=[0, 1]) == (4, 2)
    assert _shape("Pad", "x", 9, (2, 2), pads=[1, 0, 0, 3]) == (3, 5)
    assert _shape("Split", "x", 11, (2, 6), axis=1, split=[6]) == (2, 6)


@pytest.mark.parametrize(
    ("op", "attrs", "text"),
    [
        ("Pad", {"mode": "mirror"}, "mode='mirror'"),
        ("Conv", {"auto_pad": "SAME"}, "auto_pad='SAME'"),
        ("Conv", {"padding_mode": "zeros"}, "padding_mode"),
        ("Gemm", {"alphaBeta": 1}, "alphaBeta"),
        ("ScatterND", {"reduction": "xor"}, "reduction='xor'"),
    ],
)
def test_attribute_values_without_implementation_are_refused_by_name(op: str, attrs: dict, text: str) -> None:
    constants = {
        "a": np.zeros((4, 3, 1, 1) if op == "Conv" else (2, 2), "f4"),
        "i": np.zeros((1, 1), "i8"),
        "u": np.zeros((1, 2), "f4"),
    }
    shape = (1, 3, 4, 4) if op == "Conv" else (2, 2)
    inputs = {"Pad": "x i", "ScatterND": "x i u"}.get(op, "x a")
    with pytest.raises(UnsupportedOp, match=text):
        _shape(op, inputs, 17, shape, constants, **attrs)


def test_sequence_lengths_outside_the_sequence() -> None:
    proto = lstm()
    proto.graph.node[0].input.extend(["lens"])
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([4], "i4"), "lens"))
    graph = load_onnx(proto.SerializeToString())
    assert specialize(graph, {"x": (4, 1, 2)}).types["y"].shape == (4, 1, 1, 4)
    with pytest.raises(ShapeError, match="sequence_lens"):
        specialize(graph, {"x": (3, 1, 2)})


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("shape", [(0, 2), (3, 0), (0, 0), (5, 2)])
def test_recurrent_shapes(layout: int, shape: tuple[int, int]) -> None:
    steps, batch = shape
    graph = load_onnx(lstm(layout=layout).SerializeToString())
    found = specialize(graph, {"x": (batch, steps, 2) if layout else (steps, batch, 2)}).types
    assert found["y"].shape == ((batch, steps, 1, 4) if layout else (steps, 1, batch, 4))
    assert found["yh"].shape == found["yc"].shape == ((batch, 1, 4) if layout else (1, batch, 4))


# ---- attributes of recurrent nodes ----------------------------------------------------------------------------------


def _parse(op: str, **attrs: Any) -> Any:
    return parse_recurrent(Node(op, ("x", "W", "R"), ("y",), attrs))


def test_recurrent_defaults() -> None:
    found = _parse("LSTM")
    assert (found.kind, found.hidden_size, found.directions, found.layout) == ("lstm", None, ("forward",), 0)
    assert found.activations == ((("sigmoid", 0.0, 0.0), ("tanh", 0.0, 0.0), ("tanh", 0.0, 0.0)),)
    assert (found.clip, found.linear_before_reset, found.input_forget, found.gates) == (0.0, False, False, 4)
    assert len(_parse("GRU", direction="bidirectional").activations) == 2


def test_alpha_and_beta_go_to_the_functions_that_have_them() -> None:
    names = ["LEAKYRELU", "tanh", "Sigmoid", "ScaledTanh"]
    attrs = {"activation_alpha": [0.5, 2.0], "activation_beta": [3.0]}
    found = _parse("GRU", direction="bidirectional", activations=names, **attrs)
    assert found.activations == (
        (("leaky_relu", 0.5, 0.0), ("tanh", 0.0, 0.0)),
        (("sigmoid", 0.0, 0.0), ("scaled_tanh", 2.0, 3.0)),
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Affine", ("affine", 1.0, 0.0)),
        ("LeakyRelu", ("leaky_relu", 0.01, 0.0)),
        ("ThresholdedRelu", ("thresholded_relu", 1.0, 0.0)),
        ("ScaledTanh", ("scaled_tanh", 1.0, 1.0)),
        ("HardSigmoid", ("hard_sigmoid", 0.2, 0.5)),
        ("Elu", ("elu", 1.0, 0.0)),
        ("Softsign", ("softsign", 0.0, 0.0)),
        ("Softplus", ("softplus", 0.0, 0.0)),
        ("Relu", ("relu", 0.0, 0.0)),
    ],
)
def test_activation_defaults(name: str, expected: tuple) -> None:
    assert _parse("RNN", activations=[name]).activations == ((expected,),)


@pytest.mark.parametrize(("clip", "expected"), [(0.0, 0.0), (2.5, 2.5), (float("inf"), 0.0)])
def test_clip(clip: float, expected: float) -> None:
    assert _parse("LSTM", clip=clip).clip == expected
