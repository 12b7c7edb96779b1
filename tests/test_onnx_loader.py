"""load_onnx: what valid files of all kinds become. Files that must be refused are in test_hostile_files.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import lstm, model, node, subgraph, to_onnx

from gateinfer.errors import GateInferError, ModelError, ShapeError, UnsupportedOp
from gateinfer.graph.ir import UNKNOWN_DTYPE, Graph
from gateinfer.loaders.onnx import load_onnx


def load(proto: onnx.ModelProto, **options: bool) -> Graph:
    return load_onnx(proto.SerializeToString(), **options)


def test_path_str_and_bytes_give_the_same_graph(tmp_path: Path) -> None:
    path = tmp_path / "lstm.onnx"
    onnx.save(lstm(), path)
    for source in (path, str(path), path.read_bytes()):
        graph = load_onnx(source)
        assert [n.op for n in graph.nodes] == ["LSTM"]
        assert sorted(graph.constants) == ["B", "R", "W"]
        assert graph.opset == 17


def test_dimensions_are_numbers_names_or_unknown() -> None:
    proto = model([node("Relu", "x", "y")], {"x": (2, "n", None, 5)}, "y")
    proto.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 0
    assert load(proto).inputs[0].shape == (2, "n", None, None)


def test_a_missing_shape_differs_from_rank_zero() -> None:
    proto = model([node("Relu", "x", "y")], {"x": ()}, "y")
    graph = load(proto)
    assert (graph.inputs[0].shape, graph.outputs[0].shape) == ((), None)


def test_an_output_may_leave_its_type_out() -> None:
    proto = model([node("Relu", "x", "y")], {"x": (1,)}, "y")
    proto.graph.output[0].ClearField("type")
    assert load(proto).outputs[0].dtype == UNKNOWN_DTYPE


@pytest.mark.parametrize(
    ("attrs", "expected"),
    [
        ({"value": numpy_helper.from_array(np.array([[1, 2]], "i8"))}, np.array([[1, 2]], "i8")),
        ({"value_float": 1.5}, np.array(1.5, "f4")),
        ({"value_floats": [1.5, 2.0]}, np.array([1.5, 2.0], "f4")),
        ({"value_int": -3}, np.array(-3, "i8")),
        ({"value_ints": [1, 2, 3]}, np.array([1, 2, 3], "i8")),
    ],
)
def test_constant_nodes_become_constants(attrs: dict, expected: np.ndarray) -> None:
    graph = load(model([node("Constant", "", "c", **attrs), node("Identity", "c", "y")], {}, "y"))
    assert [n.op for n in graph.nodes] == ["Identity"]
    np.testing.assert_array_equal(graph.constants["c"], expected, strict=True)


_ARRAYS = [np.array([[0, 1], [1, 0]], dtype) for dtype in "f4 f8 f2 i1 i2 i4 i8 u1 u2 u4 u8 ?".split()]


@pytest.mark.parametrize("array", _ARRAYS, ids=lambda a: str(a.dtype))
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
def test_every_element_type_in_both_storages(array: np.ndarray, raw: bool) -> None:
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    data = array.tobytes() if raw else array.reshape(-1).tolist()
    tensor = helper.make_tensor("w", kind, array.shape, data, raw=raw)
    proto = model([node("Identity", "w", "y")], {}, "y", {"w": tensor})
    np.testing.assert_array_equal(load(proto).constants["w"], array, strict=True)


@pytest.mark.parametrize("shape", [(0,), (3, 0), ()])
def test_empty_and_scalar_tensors(shape: tuple[int, ...]) -> None:
    graph = load(model([node("Identity", "w", "y")], {}, "y", {"w": np.zeros(shape, "f4")}))
    assert graph.constants["w"].shape == shape


def test_an_initializer_that_is_an_input_is_a_default_since_ir_4() -> None:
    nodes = [node("Add", "x w", "y")]
    inputs = {"x": (2,), "w": (2,)}
    graph = load(model(nodes, inputs, "y", {"w": np.ones(2, "f4")}))
    assert [p.name for p in graph.inputs] == ["x", "w"]
    assert (list(graph.defaults), list(graph.constants)) == (["w"], [])
    graph = load(model(nodes, inputs, "y", {"w": np.ones(2, "f4")}, ir_version=3, opset=7))
    assert [p.name for p in graph.inputs] == ["x"]
    assert (list(graph.defaults), list(graph.constants)) == ([], ["w"])


def test_nodes_out_of_order_are_sorted() -> None:
    nodes = [node("Relu", "b", "y"), node("Neg", "x", "a"), node("Exp", "a", "b")]
    assert [n.op for n in load(model(nodes, {"x": (1,)}, "y")).nodes] == ["Neg", "Exp", "Relu"]


def test_order_counts_what_subgraphs_capture() -> None:
    branch = subgraph([node("Relu", "a", "b")], "b")
    nodes = [node("If", "c", "y", then_branch=branch, else_branch=branch), node("Neg", "x", "a")]
    graph = load(model(nodes, {"x": (1,), "c": (TensorProto.BOOL, ())}, "y"))
    assert [n.op for n in graph.nodes] == ["Neg", "If"]


def test_subgraphs_become_graphs_with_their_own_constants() -> None:
    branch = subgraph([node("Constant", "", "k", value_float=2.0), node("Mul", "x k", "b")], "b")
    proto = model(
        [node("If", "c", "y", then_branch=branch, else_branch=branch)], {"x": (1,), "c": (TensorProto.BOOL, ())}, "y"
    )
    inner = load(proto).nodes[0].attrs["then_branch"]
    assert isinstance(inner, Graph)
    assert ([n.op for n in inner.nodes], list(inner.constants)) == (["Mul"], ["k"])


def test_local_functions_are_inlined() -> None:
    body = [node("Mul", "a a", "b"), helper.make_node("LeakyRelu", ["b"], ["c"])]
    body[1].attribute.append(onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope"))
    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function("mine", "Squared", ["a"], ["c"], body, opsets, attributes=["slope"])
    proto = model([helper.make_node("Squared", ["x"], ["y"], domain="mine", slope=0.5)], {"x": (2,)}, "y")
    proto.functions.append(function)
    proto.opset_import.append(helper.make_opsetid("mine", 1))
    graph = load(proto)
    assert [(n.op, n.domain) for n in graph.nodes] == [("Mul", ""), ("LeakyRelu", "")]
    assert graph.nodes[1].attrs["alpha"] == 0.5


@pytest.mark.parametrize("opset", [1, 7, 14, 22])
def test_recurrent_nodes_of_every_version(opset: int) -> None:
    proto = lstm()
    proto.opset_import[0].version = opset
    assert load(proto).opset == opset


def test_old_models_without_opset_import_mean_version_1() -> None:
    proto = model([node("Relu", "x", "y")], {"x": (1,)}, "y", ir_version=2)
    del proto.opset_import[:]
    assert load(proto).opset == 1


def test_domain_spelled_ai_onnx_is_the_default_one() -> None:
    proto = model([node("Relu", "x", "y")], {"x": (1,)}, "y")
    proto.graph.node[0].domain = proto.opset_import[0].domain = "ai.onnx"
    assert (load(proto).nodes[0].domain, load(proto).opset) == ("", 17)


def test_external_data_inside_the_folder(tmp_path: Path) -> None:
    onnx.save(lstm(), tmp_path / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    inside = load_onnx(tmp_path / "m.onnx")
    for name, array in load(lstm()).constants.items():
        np.testing.assert_array_equal(inside.constants[name], array, strict=True)


# ---- non-finite weights ---------------------------------------------------------------------------------------------


def _with_weight(name: str, value: float) -> onnx.ModelProto:
    proto = lstm()
    (tensor,) = [t for t in proto.graph.initializer if t.name == name]
    array = numpy_helper.to_array(tensor).copy()
    array.flat[3] = value
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    return proto


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["W", "R", "B"])
def test_nonfinite_weights_are_refused_by_name_unless_asked_for(name: str, value: float) -> None:
    proto = _with_weight(name, value)
    with pytest.raises(ModelError, match=f'weight "{name}".*allow_nonfinite'):
        load(proto)
    np.testing.assert_equal(load(proto, allow_nonfinite=True).constants[name].flat[3], np.float32(value))


def test_nonfinite_weights_are_found_behind_moves_and_in_branches() -> None:
    bad = np.full((2, 2), np.inf, "f4")
    moved = model([node("Transpose", "w", "t"), node("MatMul", "x t", "y")], {"x": (1, 2)}, "y", {"w": bad})
    branch = subgraph([node("MatMul", "x w", "b")], "b")
    inputs = {"x": (1, 2), "c": (TensorProto.BOOL, ())}
    nested = model([node("If", "c", "y", then_branch=branch, else_branch=branch)], inputs, "y", {"w": bad})
    for proto in (moved, nested):
        with pytest.raises(ModelError, match='weight "w"'):
            load(proto)


def test_infinite_limits_and_masks_are_legal() -> None:
    nodes = [node("Clip", "x low", "a"), node("Add", "a mask", "b"), node("Where", "c nan b", "y")]
    constants = {"low": np.float32(-np.inf), "mask": np.array([0, -np.inf], "f4"), "nan": np.float32(np.nan)}
    load(model(nodes, {"x": (1, 2), "c": (TensorProto.BOOL, (1, 2))}, "y", constants))


# ---- recurrent nodes are judged at load -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attrs", "error", "text"),
    [
        ({"hidden_size": 5}, ShapeError, r'W \("W"\) must have shape \[1, 20, 2\], got \[1, 16, 2\]'),
        ({"direction": "bidirectional"}, ShapeError, "must have shape"),
        ({"direction": "sideways"}, UnsupportedOp, "sideways"),
        ({"activations": ["Sigmoid", "Tanh", "Swish"]}, UnsupportedOp, "Swish"),
        ({"activations": ["Sigmoid"]}, ModelError, "3 names"),
        ({"clip": -1.0}, ModelError, "clip"),
        ({"layout": 2}, UnsupportedOp, "layout"),
        ({"hidden_size": 0}, ModelError, "hidden_size"),
        ({"hidden_size": 4.0}, ModelError, "hidden_size"),
        ({"forget_bias": 1.0}, UnsupportedOp, "forget_bias"),
        ({"linear_before_reset": 1}, UnsupportedOp, "linear_before_reset"),
    ],
)
def test_recurrent_contradictions(attrs: dict, error: type[GateInferError], text: str) -> None:
    with pytest.raises(error, match=text):
        load(lstm(**attrs))


def test_hidden_size_may_be_left_to_the_weights() -> None:
    proto = lstm()
    del proto.graph.node[0].attribute[:]
    assert load(proto).nodes[0].attrs == {}


def test_a_graph_survives_the_way_to_onnx_and_back() -> None:
    graph = load(lstm())
    again = load(to_onnx(graph))
    assert ([n.op for n in again.nodes], again.inputs) == ([n.op for n in graph.nodes], graph.inputs)
