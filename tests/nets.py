"""Small ONNX networks with states, for tests of the public API."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent_net(
    kind="GRU", input_size=3, hidden=5, *, seq="T", batch="N", dense=2, seed=0, direction="forward"
) -> bytes:
    """x [T, N, I], h (and c) [1, N, H] -> y [T, N, dense] = Y W + b, hn (and cn). With dense = 0, y is Y itself."""
    rng = np.random.default_rng(seed)
    gates = GATES[kind]
    directions = 2 if direction == "bidirectional" else 1
    weights = {
        "W": rng.normal(size=(directions, gates * hidden, input_size)) * 0.5,
        "R": rng.normal(size=(directions, gates * hidden, hidden)) * 0.5 / hidden**0.5,
        "B": rng.normal(size=(directions, 2 * gates * hidden)) * 0.2,
        "Wd": rng.normal(size=(hidden, max(dense, 1))),
        "bd": rng.normal(size=max(dense, 1)),
    }
    initializers = [numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()]
    initializers.append(numpy_helper.from_array(np.array([1], np.int64), "axis1"))
    lstm = kind == "LSTM"
    attrs = {"linear_before_reset": 1} if kind == "GRU" else {}
    nodes = [
        helper.make_node(
            kind,
            ["x", "W", "R", "B", "", "h", *(["c"] if lstm else [])],
            ["Y", "hn", *(["cn"] if lstm else [])],
            name="cell",
            hidden_size=hidden,
            direction=direction,
            **attrs,
        )
    ]
    if dense:
        nodes += [
            helper.make_node("Squeeze", ["Y", "axis1"], ["Ys"]),
            helper.make_node("MatMul", ["Ys", "Wd"], ["M"]),
            helper.make_node("Add", ["M", "bd"], ["y"]),
        ]
        y_shape = [seq, batch, dense]
    else:
        nodes.append(helper.make_node("Identity", ["Y"], ["y"]))
        y_shape = [seq, directions, batch, hidden]
    state = [directions, batch, hidden]
    extra = [("c", "cn")] if lstm else []
    inputs = [_info("x", [seq, batch, input_size]), _info("h", state), *(_info(i, state) for i, _ in extra)]
    outputs = [_info("y", y_shape), _info("hn", state), *(_info(o, state) for _, o in extra)]
    return _model(nodes, inputs, outputs, initializers)


def stateless_net(hidden=4) -> bytes:
    """A GRU whose state never leaves the file."""
    rng = np.random.default_rng(1)
    arrays = {"W": rng.normal(size=(1, 3 * hidden, 2)), "R": rng.normal(size=(1, 3 * hidden, hidden))}
    initializers = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items()]
    node = helper.make_node("GRU", ["x", "W", "R"], ["", "y"], name="inner", hidden_size=hidden)
    return _model([node], [_info("x", ["T", 1, 2])], [_info("y", [1, 1, hidden])], initializers)


def gather_net() -> bytes:
    """ids [n] int64 -> rows of a table of 4."""
    table = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3), "table")
    node = helper.make_node("Gather", ["table", "ids"], ["y"])
    return _model([node], [_info("ids", ["n"], TensorProto.INT64)], [_info("y", ["n", 3])], [table])


def running_sum_net() -> bytes:
    """ids [2] int64, acc [3] -> y = acc_out = acc + the sum of those rows of a table of 4."""
    arrays = {"table": np.arange(12, dtype=np.float32).reshape(4, 3), "axis": np.array([0], np.int64)}
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("ReduceSum", ["rows", "axis"], ["sum"], keepdims=0),
        helper.make_node("Add", ["acc", "sum"], ["acc_out"]),
        helper.make_node("Identity", ["acc_out"], ["y"]),
    ]
    inputs = [_info("ids", [2], TensorProto.INT64), _info("acc", [3])]
    initializers = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    return _model(nodes, inputs, [_info("y", [3]), _info("acc_out", [3])], initializers)


def default_net() -> bytes:
    """a [2], which has a default (3, 4), and b [2] -> a + b."""
    default = numpy_helper.from_array(np.array([3, 4], np.float32), "a")
    node = helper.make_node("Add", ["a", "b"], ["y"])
    return _model([node], [_info("a", [2]), _info("b", [2])], [_info("y", [2])], [default])


def sum_and_difference_net(n=2) -> bytes:
    """a [n] and b [n] -> a + b and a - b."""
    nodes = [helper.make_node(op, ["a", "b"], [name]) for op, name in (("Add", "sum"), ("Sub", "difference"))]
    return _model(nodes, [_info(x, [n]) for x in "ab"], [_info(y, [n]) for y in ("sum", "difference")], [])


def window_net() -> bytes:
    """x [4] and the number of its first elements that are wanted, which is 2 by default."""
    arrays = {"zero": np.array([0], np.int64), "count": np.array([2], np.int64)}
    node = helper.make_node("Slice", ["x", "zero", "count"], ["y"])
    initializers = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    inputs = [_info("x", [4]), _info("count", [1], TensorProto.INT64)]
    return _model([node], inputs, [_info("y", ["n"])], initializers)


def cache_net() -> bytes:
    """x [1, 2, T] -> y, a Conv of width 3 over the frames behind `cache`, minus the frame before (`last` at first)."""
    arrays = {"W": np.ones((2, 2, 3), np.float32), "minus2": -2, "minus1": -1, "zero": 0, "end": 2**31, "axis": 2}
    constants = [numpy_helper.from_array(np.atleast_1d(a), name) for name, a in arrays.items()]
    nodes = [
        helper.make_node("Concat", ["cache", "x"], ["cached"], axis=2),
        helper.make_node("Slice", ["cached", "minus2", "end", "axis"], ["cache_out"]),
        helper.make_node("Conv", ["cached", "W"], ["filtered"]),
        helper.make_node("Concat", ["last", "x"], ["delayed"], axis=2),
        helper.make_node("Slice", ["delayed", "zero", "minus1", "axis"], ["before"]),
        helper.make_node("Slice", ["x", "minus1", "end", "axis"], ["last_out"]),
        helper.make_node("Sub", ["filtered", "before"], ["y"]),
    ]
    extents = {"x": "T", "cache": 2, "last": 1, "y": "T", "cache_out": 2, "last_out": 1}
    ports = [_info(name, [1, 2, extent]) for name, extent in extents.items()]
    return _model(nodes, ports[:3], ports[3:], constants)


def turned_state_net(direction: str, *, branch: bool) -> bytes:
    """A GRU, inside an If on `flag` or not, whose state `h` [1, D, 4] is turned to [D, 1, 4]. `hn` is the output."""
    rng = np.random.default_rng(2)
    directions = 2 if direction == "bidirectional" else 1
    shapes = {"W": (directions, 12, 2), "R": (directions, 12, 4)}
    initializers = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), n) for n, s in shapes.items()]
    inputs = ["x", "W", "R", "", "", "h0"]
    node = helper.make_node("GRU", inputs, ["", "final"], "inner", hidden_size=4, direction=direction)
    if branch:
        sides = [helper.make_graph([node], side, [], [_info("final", None)]) for side in ("then", "else")]
        node = helper.make_node("If", ["flag"], ["final"], then_branch=sides[0], else_branch=sides[1])
    nodes = [
        helper.make_node("Transpose", ["h"], ["h0"], perm=[1, 0, 2]),
        node,
        helper.make_node("Transpose", ["final"], ["hn"], perm=[1, 0, 2]),
    ]
    ports = [_info("x", ["T", 1, 2]), _info("h", [1, directions, 4]), _info("flag", [], TensorProto.BOOL)]
    return _model(nodes, ports[: 3 if branch else 2], [_info("hn", [1, directions, 4])], initializers)


def _info(name, shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def _model(nodes, inputs, outputs, initializers) -> bytes:
    graph = helper.make_graph(nodes, "net", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()
