"""Operators on shapes: what they show, what they copy, and where values live."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from pipeline import (
    ULP,
    against_onnxruntime,
    chain,
    check,
    compare,
    compile_model,
    integers,
    make_model,
    node,
    random,
    run_lowered,
    run_model,
)

from gateinfer.errors import ShapeError


def test_views_emit_no_op():
    nodes = [
        node("Transpose", "X", "a", perm=[0, 2, 1]),
        node("Slice", "a s e", "b"),
        node("Unsqueeze", "b zero", "c"),
        node("Squeeze", "c zero", "d"),
        node("Split", "d", "p q", axis=0, num_outputs=2),
        node("Expand", "p shape", "f"),
        node("Relu", "f"),
    ]
    constants = {"s": integers(0, 1), "e": integers(2, 3), "zero": integers(0), "shape": integers(4, 1, 2, 3)}
    lowered = check(nodes, {"X": random(2, 3, 4)}, constants)
    assert lowered.program.op_names == ["unary"]


def test_outputs_are_written_in_place():
    """A producer writes through Reshape, Transpose of equal last axes, and Concat into the output."""
    nodes = [
        node("Relu", "X", "a"),
        node("Tanh", "X", "b"),
        node("Unsqueeze", "a zero", "c"),
        node("Reshape", "b shape", "d"),
        node("Concat", "c d", "e", axis=0),
        node("Transpose", "e", perm=[1, 0, 2]),
    ]
    lowered = check(nodes, {"X": random(3, 4)}, {"zero": integers(0), "shape": integers(1, 3, 4)}, rtol=2 * ULP)
    assert lowered.program.op_names == ["unary", "unary"]


def test_directions_are_written_side_by_side():
    """[T, D, N, H] to [T, N, D H] behind a bidirectional layer: the layer writes there, nothing is copied."""
    nodes = [
        node("GRU", "X W R", "a", hidden_size=2, direction="bidirectional"),
        node("Transpose", "a", "b", perm=[0, 2, 1, 3]),
        node("Reshape", "b s", "c"),
        node("Relu", "c"),
    ]
    constants = {"W": random(2, 6, 3), "R": random(2, 6, 2), "s": integers(0, 0, -1)}
    feeds = {"X": random(5, 4, 3)}
    model = make_model(nodes, feeds, constants, ["Y"], 14, np.float32)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    lowered = compile_model(model, feeds)
    assert lowered.program.op_names.count("copy") == 0
    compare(run_lowered(lowered, feeds)["Y"], session.run(None, feeds)[0].astype(np.float64), 0, 1e-6)


def test_outputs_that_are_inputs_constants_or_views():
    nodes = [node("Identity", "X", "same"), node("Transpose", "X", "turned"), node("Identity", "K", "known")]
    check(nodes, {"X": random(3, 4)}, {"K": random(2)}, outputs=("same", "turned", "known"))


def test_one_value_in_two_outputs_and_joined_with_itself():
    nodes = [
        node("Relu", "X", "a"),
        node("Concat", "a a", "Y", axis=1),
        node("Reshape", "a flat", "Z"),
        node("Neg", "a", "b"),
        node("Concat", "a b", "W", axis=0),
    ]
    check(nodes, {"X": random(3, 4)}, {"flat": integers(-1)}, outputs=("Y", "Z", "W", "a"))


@pytest.mark.parametrize("perm", [None, [0, 1, 2], [2, 0, 1], [1, 0, 2]])
@pytest.mark.parametrize("shape", [[-1], [6, 4], [0, -1], [2, 2, 3, 2], [4, 3, 2, 1]])
def test_reshape_of_transposed(perm, shape):
    turned = np.transpose(np.empty((2, 3, 4)), perm).shape
    if shape == [0, -1]:
        shape = [turned[0], -1]
    nodes = [node("Transpose", "X", "a", **({"perm": perm} if perm else {})), node("Reshape", "a s")]
    check(nodes, {"X": random(2, 3, 4)}, {"s": integers(*shape)})


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_flatten(axis):
    check(node("Flatten", "X", axis=axis), {"X": random(2, 3, 4)}, opset=13)


@pytest.mark.parametrize(
    "start, end, axis, step",
    [(0, 2, 0, 1), (1, 2**62, 1, 1), (-2, -1, -1, 1), (-1, -(2**62), 2, -1), (4, 0, -1, -2), (9, 1, 1, -1)],
)
def test_slice(start, end, axis, step):
    constants = {"s": integers(start), "e": integers(end), "a": integers(axis), "t": integers(step)}
    check(node("Slice", "X s e a t"), {"X": random(3, 4, 5)}, constants, opset=13)


def test_slice_by_attributes():
    model = make_model([node("Relu", "X")], {"X": random(3, 4)}, {}, ["Y"], 9)
    model.graph.node[0].CopyFrom(node("Slice", "X", starts=[1, -2], ends=[3, 9], axes=[0, 1]))
    x = random(3, 4)
    np.testing.assert_array_equal(run_model(model, {"X": x})["Y"], x[1:3, -2:])


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("opset", [13, 22])
def test_split(axis, opset):
    sizes = {0: (1, 5), 1: (2, 3), -1: (4, 3)}[axis]
    nodes = node("Split", "X s", "A B", axis=axis)
    check(nodes, {"X": random(6, 5, 7)}, {"s": integers(*sizes)}, opset=opset, outputs=("A", "B"))


def test_split_in_uneven_parts():
    check(node("Split", "X", "A B C", axis=1, num_outputs=3), {"X": random(2, 7)}, opset=18, outputs=("A", "B", "C"))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concat(axis):
    shapes = [[2, 3, 4] for _ in range(4)]
    for shape, extent in zip(shapes, (1, 0, 3, 2), strict=True):
        shape[axis] = extent
    feeds = {f"X{i}": random(*shape, seed=i) for i, shape in enumerate(shapes)}
    check(node("Concat", " ".join(feeds), axis=axis), feeds, opset=13)


def test_dense_growth():
    """Each layer reads what it is joined with: no op may write to a tensor it reads."""
    weights = {"W1": random(4, 3), "W2": random(7, 5)}
    nodes = [
        node("Relu", "X", "x"),
        node("MatMul", "x W1", "a"),
        node("Concat", "x a", "b", axis=1),
        node("MatMul", "b W2", "c"),
        node("Concat", "b c", axis=1),
    ]
    check(nodes, {"X": random(2, 4)}, weights, atol=chain(40))


PADS = [[0, 1, 2, 1], [2, 0, 0, 3], [-1, 1, 0, -2], [0, -1, 0, -1]]


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("pads", PADS)
def test_pad(mode, pads):
    """Negative padding crops before anything is repeated."""
    x = random(4, 5)
    model = make_model([node("Pad", "X p", mode=mode)], {"X": x}, {"p": integers(0, 0, 0, 0)}, ["Y"], 19)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(integers(*pads), "p"))
    crop = tuple(slice(-min(0, b), n + min(0, e)) for n, b, e in zip(x.shape, pads[:2], pads[2:], strict=True))
    grow = [(max(0, b), max(0, e)) for b, e in zip(pads[:2], pads[2:], strict=True)]
    np.testing.assert_array_equal(run_model(model, {"X": x})["Y"], np.pad(x[crop], grow, mode=mode))


def test_pad_with_value_axes_and_attributes():
    known = {"p": integers(1, 2), "a": integers(-1)}
    feeds, value = {"X": random(2, 3)}, {"v": np.float32(3.5)}
    check(node("Pad", "X p v a"), feeds, {**known, **value}, opset=18)
    check(node("Pad", "X p v a"), {**feeds, **value}, known, opset=18)
    check(node("Pad", "X", mode="constant", pads=[1, 0, 0, 2], value=2.0), {"X": random(2, 3)}, opset=2)


@pytest.mark.parametrize("repeats", [[1, 1, 1], [2, 1, 3], [1, 4, 1], [3, 2, 2]])
def test_tile(repeats):
    check(node("Tile", "X r"), {"X": random(2, 3, 4)}, {"r": integers(*repeats)}, opset=13)


def test_expand():
    check(node("Expand", "X s"), {"X": random(3, 1)}, {"s": integers(2, 1, 4)}, opset=13)


TABLES = [[[0, 1], [2, 0]], [[0], [1]], [[0, 1], [1, 2]], [[2, 0], [1, -2]], [[0, 1], [1, 3]]]


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("index", [2, -1, [0], [0, 2], [2, 1, 0], [1, 1], [0, 2, 1], *TABLES])
@pytest.mark.parametrize("constant", [True, False])
def test_gather(axis, index, constant):
    index = {"i": np.array(index, np.int64)}
    feeds = {"X": random(4, 5, 4)}
    check(
        node("Gather", "X i", axis=axis), feeds if constant else {**feeds, **index}, index if constant else {}, opset=13
    )


def test_unfolding_by_a_constant_index_is_a_view():
    index = np.arange(3)[:, None] + np.arange(6)
    lowered = check([node("Gather", "X i", "a", axis=2), node("Relu", "a")], {"X": random(2, 3, 8)}, {"i": index})
    assert lowered.program.op_names == ["unary"]


def test_embedding():
    check(node("Gather", "T i"), {"i": np.array([[1, 9, -1]], np.int32)}, {"T": random(10, 6)}, opset=13)


def test_gather_out_of_range():
    model = make_model([node("Gather", "T i")], {"i": integers(3)}, {"T": random(4, 6)}, ["Y"], 13)
    with pytest.raises(ShapeError, match="range"):
        run_model(model, {"i": integers(4)})


GRID = np.stack(np.meshgrid([1, 3], [4, 2, 0], indexing="ij"), axis=-1)


@pytest.mark.parametrize("index", [[[1]], [[0], [3]], [[3], [1], [0]], [[[1, 2], [1, 3]], [[2, 0], [-1, -1]]], GRID])
def test_scatter(index):
    index = np.array(index, np.int64)
    updates = random(*index.shape[:-1], *(4, 5, 3)[index.shape[-1] :], seed=5)
    check(node("ScatterND", "X i U"), {"X": random(4, 5, 3), "U": updates}, {"i": index}, opset=16)


ROW_0, ROW_2 = {"i": np.array([[0]], np.int64)}, {"j": np.array([[2]], np.int64)}


def test_scatters_over_memory_that_nothing_needs_copy_nothing_but_the_updates():
    nodes = [
        node("Relu", "X", "a"),
        node("ScatterND", "a i U", "b"),
        node("ScatterND", "b j U"),
    ]
    lowered = check(nodes, {"X": random(4, 3), "U": random(1, 3, seed=1)}, {**ROW_0, **ROW_2})
    assert lowered.program.op_names == ["unary", "copy", "copy"]


@pytest.mark.parametrize("reader", ["a", "view", "b"])
def test_scatters_spare_what_is_read_later(reader):
    """The old value, a window on it and a scattered value, each read after the next scatter."""
    nodes = [
        node("Relu", "X", "a"),
        node("Transpose", "a", "view", perm=[1, 0]),
        node("ScatterND", "a i U", "b"),
        node("ScatterND", "b j U", "Y"),
        node("Neg", reader, "Z"),
    ]
    check(nodes, {"X": random(4, 3), "U": random(1, 3, seed=1)}, {**ROW_0, **ROW_2}, outputs=("Y", "Z"))


def test_a_scatter_of_a_window_on_its_own_memory():
    """Rows of `a` go to other rows of `a`: the updates are read while the output is written."""
    nodes = [
        node("Relu", "X", "a"),
        node("Slice", "a start end", "u"),
        node("ScatterND", "a i u"),
    ]
    constants = {"start": integers(1), "end": integers(3), "i": np.array([[0], [1]], np.int64)}
    check(nodes, {"X": random(4, 3)}, constants)


def test_dropout():
    check(node("Dropout", "X", "Y M"), {"X": random(3, 4)}, opset=13, outputs=("Y", "M"))


@pytest.mark.parametrize("opset, dtype", [(9, np.float32), (10, np.bool_)])
def test_dropout_mask_before_opset_12_is_what_onnxruntime_says(opset, dtype):
    against_onnxruntime([node("Dropout", "X", "Z Y")], {"X": random(3, 4)}, {}, opset=opset, atol=0, dtype=dtype)


def test_rank_nine_collapses():
    shape = (1, 2, 1, 2, 1, 1, 2, 1, 3)
    nodes = [node("Reshape", "X s", "a"), node("Relu", "a", "b"), node("Concat", "b b", axis=8)]
    check(nodes, {"X": random(24)}, {"s": integers(*shape)})
