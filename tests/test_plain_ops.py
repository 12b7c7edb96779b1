"""Operators folded without `onnx.reference`, against it."""

from __future__ import annotations

import numpy as np
import pytest

from gateinfer.graph.evaluate import FOLDABLE, _by_reference, evaluate
from gateinfer.graph.infer import infer
from gateinfer.graph.ir import Node, TensorType
from gateinfer.graph.plain_ops import _OTHERS as OTHERS
from gateinfer.graph.plain_ops import ELEMENTWISE, is_plain
from gateinfer.reference_graph import _operator as reference_operator

OPSET = 17
INTS = np.array([[-7, -3, 5], [9, 2, -8]])
STEPS = np.array([2, -2, 3])
FLOATS = np.array([[-1.5, 0.25, 3.0], [2.5, -0.75, 8.0]], "f4")
BOOLS = np.array([[True, False, True], [False, False, True]])


def i8(*values: int) -> np.ndarray:
    return np.array(values, "i8")


def operands(op: str) -> list[list[np.ndarray]]:
    """What an elementwise operator takes, broadcasting included."""
    if op in ("And", "Or", "Xor"):
        return [[BOOLS, BOOLS[0]]]
    if op == "Not":
        return [[BOOLS]]
    if op == "Where":
        return [[BOOLS, INTS, STEPS], [BOOLS[0], FLOATS, np.float32(1).reshape(())]]
    if op in ("Floor", "Ceil", "Sqrt"):
        return [[FLOATS], [abs(FLOATS[:0])]]
    if op in ("Neg", "Abs"):
        return [[FLOATS], [INTS], [INTS.astype("i4")]]
    if op == "Pow":
        return [[abs(FLOATS), FLOATS[0]], [INTS, i8(2)], [FLOATS, np.float64(2).reshape(1)]]
    if op == "Mod":
        return [[INTS, STEPS], [INTS.astype("i4"), STEPS.astype("i4")]]
    return [[FLOATS, FLOATS[0]], [INTS, STEPS], [INTS.astype("i4"), STEPS[:1].astype("i4")], [INTS[0, 0], STEPS[0]]]


CASES = [(op, values, {}, 1) for op in ELEMENTWISE for values in operands(op)]
CASES += [
    ("Max", [INTS, STEPS, i8(1)], {}, 1),
    ("Min", [FLOATS], {}, 1),
    ("Reshape", [INTS, i8(0, -1)], {}, 1),
    ("Reshape", [INTS, i8(-1)], {}, 1),
    ("Squeeze", [INTS[None], i8(0)], {}, 1),
    ("Squeeze", [INTS[None, :, :1]], {}, 1),
    ("Unsqueeze", [INTS, i8(0, -1)], {}, 1),
    ("Flatten", [INTS[None]], {"axis": 2}, 1),
    ("GatherElements", [INTS, np.array([[0, -1], [2, 1]])], {"axis": 1}, 1),
    ("GatherElements", [FLOATS, np.array([[1, 0, -1], [0, 1, 0]], "i4")], {}, 1),
    ("Cast", [FLOATS], {"to": 7}, 1),
    ("Cast", [INTS], {"to": 9}, 1),
    ("Cast", [BOOLS], {"to": 10}, 1),
    ("CastLike", [FLOATS, INTS], {}, 1),
    ("Expand", [STEPS, i8(2, 1)], {}, 1),
    ("ConstantOfShape", [i8(2, 0, 3)], {}, 1),
    ("ConstantOfShape", [i8(2, 3)], {"value": np.array([7], "i4")}, 1),
    ("Range", [np.array(7), np.array(-4), np.array(-3)], {}, 1),
    ("Range", [np.float32(0.5).reshape(()), np.float32(3).reshape(()), np.float32(0.25).reshape(())], {}, 1),
    ("Gather", [FLOATS, np.array([[1, -1], [0, 0]])], {"axis": 1}, 1),
    ("Gather", [STEPS, np.array(1)], {}, 1),
    ("Concat", [INTS, INTS[:, :1]], {"axis": -1}, 1),
    ("Transpose", [INTS[None]], {}, 1),
    ("Transpose", [INTS[None]], {"perm": [1, 0, 2]}, 1),
    ("Slice", [INTS, i8(-2), i8(2**62), i8(1)], {}, 1),
    ("Slice", [INTS, i8(-1), i8(-(2**62)), i8(1), i8(-2)], {}, 1),
    ("Slice", [INTS, i8(1, 0), i8(2, 2)], {}, 1),
    ("Split", [INTS], {"axis": 1}, 3),
    ("Split", [INTS, i8(1, 2)], {"axis": -1}, 2),
    ("MatMul", [FLOATS, FLOATS.T], {}, 1),
    ("MatMul", [INTS, STEPS], {}, 1),
    ("ReduceProd", [INTS], {"axes": [-1]}, 1),
    ("ReduceProd", [FLOATS[None]], {"axes": [2, 0], "keepdims": 0}, 1),
    ("ReduceProd", [INTS[:0].astype("i4")], {"keepdims": 0}, 1),
    ("ReduceSum", [INTS.astype("i4")], {"keepdims": 0}, 1),
    ("ReduceSum", [INTS[:0], i8(0)], {}, 1),
    ("ReduceSum", [INTS, i8(0)], {}, 1),
    ("ReduceSum", [FLOATS, i8(1, 0)], {"keepdims": 0}, 1),
    ("ReduceSum", [FLOATS], {"noop_with_empty_axes": 1}, 1),
]  # fmt: skip


def test_every_plain_operator_has_a_case():
    assert {op for op, *_ in CASES} == ELEMENTWISE.keys() | OTHERS.keys()
    assert {op for op, *_ in CASES} <= FOLDABLE


@pytest.mark.parametrize(("op", "values", "attrs", "count"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
def test_same_bits_as_the_reference_operators(op, values, attrs, count):
    node = Node(op, tuple(f"x{i}" for i in range(len(values))), tuple(f"y{i}" for i in range(count)), attrs)
    types = infer(node, [TensorType(v.dtype, v.shape) for v in values], values, OPSET)
    assert is_plain(node)
    found = evaluate(node, types, values, OPSET)
    wanted = _by_reference(node, values, OPSET)
    assert len(found) == len(wanted) == count
    for y, expected, declared in zip(found, wanted, types, strict=True):
        assert (y.dtype, y.shape) == (declared.dtype, declared.shape)
        np.testing.assert_array_equal(y, expected)


def test_a_slice_with_an_omitted_axis_list():
    node = Node("Slice", ("x", "s", "e", "", "t"), ("y",))
    values = [INTS, i8(1), i8(-9), None, i8(-1)]
    types = infer(node, [v if v is None else TensorType(v.dtype, v.shape) for v in values], values, OPSET)
    np.testing.assert_array_equal(evaluate(node, types, values, OPSET)[0], INTS[::-1])


@pytest.mark.parametrize("axis", [0, 1])
def test_elements_of_a_long_axis_and_of_a_part_of_the_others(axis):
    """More than `onnx.reference` takes, in folding and in the float64 reference: there an axis has at most 64."""
    data = np.arange(600, dtype="f4").reshape(2, 300) if axis else np.arange(600, dtype="f4").reshape(300, 2)
    index = np.array([[299, 3, -1]]).reshape((1, 3) if axis else (3, 1))
    wanted = np.array([data[0, i] if axis else data[i, 0] for i in (299, 3, -1)]).reshape(index.shape)
    node = Node("GatherElements", ("x", "i"), ("y",), {"axis": axis})
    types = infer(node, [TensorType(v.dtype, v.shape) for v in (data, index)], [data, index], OPSET)
    np.testing.assert_array_equal(evaluate(node, types, [data, index], OPSET)[0], wanted)
    np.testing.assert_array_equal(reference_operator(node, OPSET)([data, index])[0], wanted)


def test_a_split_into_more_parts_than_have_names():
    node = Node("Split", ("x",), ("y",), {"axis": 1, "num_outputs": 3})
    types = infer(node, [TensorType(INTS.dtype, INTS.shape)], [INTS], 18)
    np.testing.assert_array_equal(evaluate(node, types, [INTS], 18)[0], INTS[:, :1])


def test_the_remainder_with_the_sign_of_the_dividend_is_left_to_the_reference():
    node = Node("Mod", ("a", "b"), ("y",), {"fmod": 1})
    assert not is_plain(node)
    types = [TensorType(INTS.dtype, INTS.shape)]
    np.testing.assert_array_equal(evaluate(node, types, [INTS, STEPS], OPSET)[0], np.fmod(INTS, STEPS))
