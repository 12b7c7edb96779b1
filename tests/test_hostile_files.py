"""Files made to hurt: each must end in a GateInferError, within two seconds, without a large allocation."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from hostile import SECONDS, assert_refused, ingest
from onnx import TensorProto, helper
from onnx_models import FLOAT, lstm, model, node, subgraph

from gateinfer.errors import GateInferError, ModelError
from gateinfer.graph import checks
from gateinfer.graph.checks import definitions
from gateinfer.graph.fold import fold_constants
from gateinfer.graph.ir import Graph
from gateinfer.loaders import load_graph, onnx_graph, saved
from gateinfer.loaders.onnx import load_onnx

# ---- bytes that are no model ----------------------------------------------------------------------------------------

_WHOLE = lstm().SerializeToString()

_BYTES = {
    "empty": b"",
    "zeros": bytes(1000),
    "text": b"this is not a model, it only says so at length " * 50,
    "json": b'{"graph": {"node": []}}',
    "html": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "png": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "zip": b"PK\x03\x04" + bytes(200),
    "pickle": b"\x80\x04\x95\x0f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.",
    "git-lfs-pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "ff": b"\xff" * 500,
    "huge-length-prefix": b"\x3a\xff\xff\xff\xff\x07" + bytes(10),
    "group-nesting": b"\x0b" * 5000,
    "only-ir-version": b"\x08\x08",
    "double": _WHOLE + b"\x3a\x05abcde",
    "shifted": _WHOLE[1:],
}


@pytest.mark.parametrize("content", _BYTES.values(), ids=_BYTES.keys())
def test_bytes_that_are_no_model(content: bytes) -> None:
    assert_refused(content)


@pytest.mark.parametrize("part", range(1, 20))
def test_truncated(part: int) -> None:
    assert_refused(_WHOLE[: len(_WHOLE) * part // 20])


# ---- fields that lie ------------------------------------------------------------------------------------------------

Edit = Callable[[onnx.ModelProto], object]


def _w(proto: onnx.ModelProto) -> onnx.TensorProto:
    return proto.graph.initializer[0]


def _set(target: Callable[[onnx.ModelProto], Any], **fields: Any) -> Edit:
    def edit(proto: onnx.ModelProto) -> None:
        for name, value in fields.items():
            if isinstance(value, list):
                del getattr(target(proto), name)[:]
                getattr(target(proto), name).extend(value)
            else:
                setattr(target(proto), name, value)

    return edit


def _attribute(**fields: Any) -> Edit:
    return lambda proto: proto.graph.node[0].attribute.add(**fields)


def _graph(proto: onnx.ModelProto) -> onnx.GraphProto:
    return proto.graph


def _lstm_node(proto: onnx.ModelProto) -> onnx.NodeProto:
    return proto.graph.node[0]


def _x_dim(proto: onnx.ModelProto) -> Any:
    return proto.graph.input[0].type.tensor_type.shape.dim[2]


_EDITS: dict[str, Edit] = {
    "dims-shorter": _set(_w, dims=[1, 16, 1]),
    "dims-longer": _set(_w, dims=[1, 16, 3]),
    "dims-negative": _set(_w, dims=[1, -16, -2]),
    "dims-terabytes": _set(_w, dims=[1, 2**40, 2]),
    "dims-overflow-to-zero": _set(_w, dims=[2**32, 2**32]),
    "dims-overflow-to-size": _set(_w, dims=[2**62 + 8, 4]),
    "dims-zero-times-terabytes": _set(_w, dims=[0, 2**62]),
    "dims-of-rank-1000": _set(_w, dims=[1] * 1000),
    "dims-none": _set(_w, dims=[]),
    "raw-and-typed-data": _set(_w, float_data=[0.0] * 32),
    "typed-data-only-too-short": _set(_w, raw_data=b"", float_data=[0.0] * 31),
    "data-in-a-field-of-another-type": _set(_w, raw_data=b"", int64_data=[0] * 32),
    "two-typed-fields": _set(_w, raw_data=b"", float_data=[0.0] * 32, int32_data=[0] * 32),
    "no-data": _set(_w, raw_data=b""),
    "raw-data-one-byte-short": lambda p: _set(_w, raw_data=_w(p).raw_data[:-1])(p),
    "element-type-0": _set(_w, data_type=0),
    "element-type-99": _set(_w, data_type=99),
    "element-type-complex": _set(_w, data_type=14),
    "element-type-string": _set(_w, data_type=8),
    "element-type-double": _set(_w, data_type=11),
    "element-type-float16": lambda p: _set(_w, data_type=10, raw_data=bytes(64))(p),
    "segmented": lambda p: setattr(_w(p).segment, "end", 5),
    "external-without-location": _set(_w, raw_data=b"", data_location=1),
    "name-of-bytes": lambda p: p.ParseFromString(p.SerializeToString().replace(b"LSTM", b"LS\xffM")),
    "initializer-twice": lambda p: p.graph.initializer.append(_w(p)),
    "initializer-nameless": _set(_w, name=""),
    "sparse-initializer": lambda p: p.graph.sparse_initializer.add(dims=[4]),
    "no-outputs": _set(_graph, output=[]),
    "no-nodes": _set(_graph, node=[]),
    "output-undefined": lambda p: setattr(p.graph.output[0], "name", "nothing"),
    "output-twice": lambda p: p.graph.output.append(p.graph.output[0]),
    "input-twice": lambda p: p.graph.input.append(p.graph.input[0]),
    "input-nameless": lambda p: setattr(p.graph.input[0], "name", ""),
    "input-typeless": lambda p: p.graph.input[0].ClearField("type"),
    "input-element-type-77": lambda p: setattr(p.graph.input[0].type.tensor_type, "elem_type", 77),
    "input-is-a-sequence": lambda p: p.graph.input[0].type.sequence_type.elem_type.tensor_type.ClearField("shape"),
    "input-extent-negative": lambda p: setattr(_x_dim(p), "dim_value", -2),
    "input-extent-huge": lambda p: setattr(_x_dim(p), "dim_value", 2**62),
    "value-defined-twice": lambda p: p.graph.node.append(p.graph.node[0]),
    "node-overwrites-an-input": _set(_lstm_node, output=["x"]),
    "node-overwrites-a-weight": _set(_lstm_node, output=["y", "W"]),
    "node-uses-nothing-known": _set(_lstm_node, input=["x", "W", "Q"]),
    "node-feeds-itself": _set(_lstm_node, input=["x", "W", "R", "B", "", "yh"]),
    "node-without-inputs": _set(_lstm_node, input=[]),
    "node-with-too-few-inputs": _set(_lstm_node, input=["x", "W"]),
    "node-with-too-many-inputs": _set(_lstm_node, input=["x", "W", "R", "B", "", "", "", "", "B"]),
    "node-with-too-many-outputs": _set(_lstm_node, output=["y", "yh", "yc", "q"]),
    "node-without-operator": _set(_lstm_node, op_type=""),
    "node-of-unknown-operator": _set(_lstm_node, op_type="LongTimeMemory"),
    "node-of-unknown-domain": _set(_lstm_node, domain="com.example"),
    "weights-swapped": _set(_lstm_node, input=["x", "R", "W", "B"]),
    "bias-missing-a-half": lambda p: _set(lambda q: q.graph.initializer[2], dims=[1, 16], raw_data=bytes(64))(p),
    "opset-0": lambda p: setattr(p.opset_import[0], "version", 0),
    "opset-negative": lambda p: setattr(p.opset_import[0], "version", -1),
    "opset-of-the-future": lambda p: setattr(p.opset_import[0], "version", 10**6),
    "opset-missing": lambda p: p.ClearField("opset_import"),
    "opset-contradicts-itself": lambda p: p.opset_import.append(helper.make_opsetid("", 9)),
    "ir-version-0": _set(lambda p: p, ir_version=0),
    "attribute-twice": _attribute(name="hidden_size", type=2, i=4),
    "attribute-nameless": _attribute(name="", type=2, i=4),
    "attribute-typeless": _attribute(name="clip", f=1.0),
    "attribute-of-type-99": lambda p: p.ParseFromString(_retyped(p, 99)),
    "attribute-type-without-value": _attribute(name="clip", type=1),
    "attribute-graph-without-value": _attribute(name="body", type=5),
    "attribute-sparse": _attribute(name="sparse", type=11),
    "attribute-of-a-type": _attribute(name="type", type=13),
    "attribute-refers-to-a-function": _attribute(name="clip", type=1, ref_attr_name="c"),
    "attribute-clip-nan": _attribute(name="clip", type=1, f=float("nan")),
    "attribute-alpha-nan": _attribute(name="activation_alpha", type=6, floats=[float("nan")]),
    "weight-nan": lambda p: setattr(_w(p), "raw_data", np.full(32, np.nan, "f4").tobytes()),
    "weight-infinite": lambda p: setattr(_w(p), "raw_data", np.full(32, np.inf, "f4").tobytes()),
}


def _retyped(proto: onnx.ModelProto, kind: int) -> bytes:
    """The model with an attribute type no enumeration has."""
    proto.graph.node[0].attribute[0].type = 2
    content = proto.SerializeToString()
    assert content.count(b"\xa0\x01\x02") == 1
    return content.replace(b"\xa0\x01\x02", b"\xa0\x01" + bytes([kind]))


@pytest.mark.parametrize("edit", _EDITS.values(), ids=_EDITS.keys())
def test_fields_that_lie(edit: Edit) -> None:
    proto = lstm()
    edit(proto)
    assert_refused(proto.SerializeToString())


# ---- graphs that lead nowhere, or too far ---------------------------------------------------------------------------


def _chain(*nodes: onnx.NodeProto, **constants: Any) -> onnx.ModelProto:
    return model(nodes, {"x": (2, 3), "c": (TensorProto.BOOL, ())}, "y", constants)


def _nested(depth: int) -> onnx.ModelProto:
    inner = subgraph([node("Relu", "x", "b0")], "b0")
    for level in range(1, depth):
        step = node("If", "c", f"b{level}", then_branch=inner, else_branch=subgraph([node("Neg", "x", "e")], "e"))
        inner = subgraph([step], f"b{level}")
    return _chain(node("If", "c", "y", then_branch=inner, else_branch=inner))


def _functions(*bodies: tuple[str, list[str]], calls: str) -> onnx.ModelProto:
    """Local functions, each a chain of calls by name."""
    proto = _chain(helper.make_node(calls, ["x"], ["y"], domain="f"))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    for name, called in bodies:
        steps = [
            helper.make_node(c, [f"v{i}"], [f"v{i + 1}"], domain="" if c == "Relu" else "f")
            for i, c in enumerate(called)
        ]
        proto.functions.append(helper.make_function("f", name, ["v0"], [f"v{len(called)}"], steps, opsets))
    proto.opset_import.append(helper.make_opsetid("f", 1))
    return proto


def _i64(*values: int) -> np.ndarray:
    return np.array(values, "i8")


def _branching(then: onnx.GraphProto, condition: str = "c", **constants: Any) -> onnx.ModelProto:
    other = subgraph([node("Neg", "x", "e")], "e")
    return _chain(node("If", condition, "y", then_branch=then, else_branch=other), **constants)


_GRAPHS: dict[str, Callable[[], onnx.ModelProto]] = {
    "cycle-of-2": lambda: _chain(node("Add", "x b", "a"), node("Relu", "a", "b"), node("Neg", "b", "y")),
    "cycle-of-1000": lambda: _chain(
        *[node("Relu", f"v{i}", f"v{(i + 1) % 1000}") for i in range(1000)], node("Neg", "v0", "y")
    ),
    "cycle-through-a-capture": lambda: _chain(
        node(
            "If",
            "c",
            "y",
            then_branch=subgraph([node("Relu", "a", "b")], "b"),
            else_branch=subgraph([node("Neg", "x", "e")], "e"),
        ),
        node("Neg", "y", "a"),
    ),
    "cycle-inside-a-branch": lambda: _branching(subgraph([node("Relu", "q", "p"), node("Neg", "p", "q")], "q")),
    "capture-of-nothing": lambda: _branching(subgraph([node("Relu", "nothing", "b")], "b")),
    "capture-from-a-sibling": lambda: _branching(subgraph([node("Relu", "e", "b")], "b")),
    "branch-output-undefined": lambda: _branching(subgraph([node("Relu", "x", "b")], "q")),
    "branch-with-inputs": lambda: _branching(
        subgraph([node("Relu", "q", "b")], "b", inputs="q"), "t", t=np.array(True)
    ),
    "split-into-2-to-the-62": lambda: model(
        [node("Split", "x", "y z", axis=1, num_outputs=2**62)], {"x": (2, 3)}, "y z", opset=18
    ),
    "branch-missing": lambda: _chain(node("If", "c", "y"), c2=np.array(True)),
    "branch-is-a-number": lambda: _chain(node("If", "t", "y", then_branch=1, else_branch=1), t=np.array(True)),
    "branch-without-outputs": lambda: _branching(subgraph([node("Relu", "x", "b")], ""), "t", t=np.array(True)),
    "condition-of-two": lambda: _branching(subgraph([node("Relu", "x", "b")], "b"), "t", t=np.array([True, False])),
    "condition-a-float": lambda: _branching(subgraph([node("Relu", "x", "b")], "b"), "t", t=np.float32(1)),
    "condition-at-run-time": lambda: _branching(subgraph([node("Relu", "x", "b")], "b")),
    "nested-20": lambda: _nested(20),
    "nested-30": lambda: _nested(30),
    "function-calls-itself": lambda: _functions(("A", ["A"]), calls="A"),
    "functions-call-each-other": lambda: _functions(("A", ["B"]), ("B", ["A"]), calls="A"),
    "functions-explode": lambda: _functions(
        *((f"F{i}", [f"F{i + 1}"] * 10) for i in range(20)), ("F20", ["Relu"]), calls="F0"
    ),
    "functions-nest-deeply": lambda: _functions(
        *((f"F{i}", [f"F{i + 1}"]) for i in range(500)), ("F500", ["Relu"]), calls="F0"
    ),
    "function-twice": lambda: _functions(("A", ["Relu"]), ("A", ["Relu"]), calls="A"),
    "constant-node-empty": lambda: _chain(node("Constant", "", "k"), node("Add", "x k", "y")),
    "constant-node-two-values": lambda: _chain(
        node("Constant", "", "k", value_int=1, value_float=1.0), node("Add", "x k", "y")
    ),
    "constant-node-odd-value": lambda: _chain(node("Constant", "", "k", value_int="a"), node("Add", "x k", "y")),
    "loop-without-end": lambda: _chain(
        node(
            "Loop",
            "n t x",
            "y",
            body=subgraph([node("Identity", "u", "v"), node("Identity", "w", "z")], "v z", "i u w"),
        ),
        n=np.array(2**62),
        t=np.array(True),
    ),
    "unknown-operators": lambda: _chain(node("Foo", "x", "a"), node("Bar", "a", "y")),
    "expand-to-terabytes": lambda: _chain(node("Expand", "x s", "y"), s=_i64(2**20, 2**20, 2, 3)),
    "constant-expand-to-terabytes": lambda: _chain(
        node("Expand", "k s", "a"), node("Add", "a x", "y"), k=np.float32(1), s=_i64(2**40)
    ),
    "constant-of-terabytes": lambda: _chain(
        node("ConstantOfShape", "s", "a"), node("Add", "a x", "y"), s=_i64(2**30, 2**12)
    ),
    "constant-of-a-gigabyte": lambda: _chain(node("ConstantOfShape", "s", "a"), node("Add", "a x", "y"), s=_i64(2**28)),
    "constant-of-negative-shape": lambda: _chain(
        node("ConstantOfShape", "s", "a"), node("Add", "a x", "y"), s=_i64(-1)
    ),
    "constant-of-shape-of-rank-100": lambda: _chain(
        node("ConstantOfShape", "s", "a"), node("Add", "a x", "y"), s=np.full(100, 1)
    ),
    "many-constants-of-64-million": lambda: _chain(
        *[node("ConstantOfShape", "s", f"k{i}") for i in range(9)],
        node("Sum", " ".join(f"k{i}" for i in range(9)), "y"),
        s=_i64(2**28 + 1),
    ),
    "range-without-end": lambda: _chain(
        node("Range", "a b d", "r"), node("Cast", "r", "y", to=FLOAT), a=np.array(0), b=np.array(2**60), d=np.array(1)
    ),
    "range-without-step": lambda: _chain(
        node("Range", "a b d", "r"), node("Cast", "r", "y", to=FLOAT), a=np.array(0), b=np.array(5), d=np.array(0)
    ),
    "range-to-infinity": lambda: _chain(
        node("Range", "a b d", "y"), a=np.float32(0), b=np.float32(np.inf), d=np.float32(1)
    ),
    "tile-a-billion-times": lambda: _chain(node("Tile", "x n", "y"), n=_i64(2**31, 2**31)),
    "tile-negative": lambda: _chain(node("Tile", "x n", "y"), n=_i64(-1, 1)),
    "pad-terabytes": lambda: _chain(node("Pad", "x n", "y"), n=_i64(2**40, 0, 0, 0)),
    "pad-away-everything": lambda: _chain(node("Pad", "x n", "y"), n=_i64(-5, 0, 0, 0)),
    "one-hot-of-terabytes": lambda: _chain(
        node("OneHot", "i d v", "y"), i=_i64(0), d=np.array(2**50), v=np.zeros(2, "f4")
    ),
    "product-of-terabytes": lambda: _chain(
        node("MatMul", "a b", "y"), a=np.zeros((2**17, 1), "f4"), b=np.zeros((1, 2**17), "f4")
    ),
    "broadcast-of-terabytes": lambda: _chain(
        node("Add", "a b", "y"), a=np.zeros((2**18, 1), "f4"), b=np.zeros((1, 2**18), "f4")
    ),
    "reshape-impossible": lambda: _chain(node("Reshape", "x s", "y"), s=_i64(4, -1)),
    "reshape-two-unknowns": lambda: _chain(node("Reshape", "x s", "y"), s=_i64(-1, -1)),
    "reshape-overflow": lambda: _chain(node("Reshape", "x s", "y"), s=_i64(2**62, 4, 3, 2**62)),
    "concat-misfit": lambda: _chain(node("Concat", "x k", "y", axis=0), k=np.zeros((1, 4), "f4")),
    "split-misfit": lambda: _chain(node("Split", "x s", "y z", axis=1), s=_i64(2, 2)),
    "split-negative": lambda: _chain(node("Split", "x s", "y z", axis=1), s=_i64(4, -1)),
    "squeeze-of-two": lambda: _chain(node("Squeeze", "x s", "y"), s=_i64(0)),
    "axis-out-of-range": lambda: _chain(node("Softmax", "x", "y", axis=5)),
    "axis-twice": lambda: _chain(node("Unsqueeze", "x s", "y"), s=_i64(0, 0)),
    "transpose-by-no-permutation": lambda: _chain(node("Transpose", "x", "y", perm=[0, 0])),
    "gather-out-of-range": lambda: _chain(node("Gather", "x i", "y"), i=_i64(7)),
    "gather-with-float-indices": lambda: _chain(node("Gather", "x i", "y"), i=np.zeros(1, "f4")),
    "add-of-two-types": lambda: _chain(node("Add", "x k", "y"), k=np.zeros(3, "f8")),
    "matmul-misfit": lambda: _chain(node("MatMul", "x k", "y"), k=np.zeros((2, 2), "f4")),
    "conv-of-rank-2": lambda: _chain(node("Conv", "x k", "y"), k=np.zeros((2, 2), "f4")),
    "slice-with-step-0": lambda: _chain(node("Slice", "x a b d e", "y"), a=_i64(0), b=_i64(1), d=_i64(0), e=_i64(0)),
    "cast-to-nothing": lambda: _chain(node("Cast", "x", "y", to=99)),
    "cast-to-a-list": lambda: _chain(node("Cast", "x", "y", to=[1])),
    "top-k-of-too-many": lambda: _chain(node("TopK", "x k", "y z"), k=_i64(9)),
    "cumsum-over-two-axes": lambda: _chain(node("CumSum", "x k", "y"), k=_i64(0, 1)),
    "training-dropout": lambda: _chain(node("Dropout", "x r t", "y"), r=np.float32(0.5), t=np.array(True)),
    "shape-from-run-time-values": lambda: _chain(node("Cast", "x", "s", to=7), node("Reshape", "x s", "y")),
}


@pytest.mark.parametrize("build", _GRAPHS.values(), ids=_GRAPHS.keys())
def test_graphs_that_lead_nowhere(build: Callable[[], onnx.ModelProto]) -> None:
    assert_refused(build().SerializeToString())


def _field(number: int, payload: bytes) -> bytes:
    """One length-delimited protobuf field."""
    prefix, size = bytearray([number << 3 | 2]), len(payload)
    while size > 127:
        prefix.append(size & 127 | 128)
        size >>= 7
    return bytes(prefix) + bytes([size]) + payload


def test_nesting_beyond_what_protobuf_writes() -> None:
    """model.graph.node.attribute.g.node.attribute.g ...: type GRAPH is 5 in field 20."""
    graph = b""
    for _ in range(2000):
        graph = _field(1, _field(4, b"If") + _field(5, _field(1, b"then_branch") + _field(6, graph) + b"\xa0\x01\x05"))
    assert_refused(b"\x08\x08" + _field(7, graph) + _field(8, b"\x10\x11"))


def test_a_cycle_is_named() -> None:
    with pytest.raises(ModelError, match=r'cycle: (Add node "add_of_a", Relu node "relu_of_b"|Relu.*Add)'):
        ingest(_GRAPHS["cycle-of-2"]().SerializeToString())


def test_branches_in_branches_are_read_once() -> None:
    """8,191 nodes, each in up to 12 branches: nothing may start over at every level or for every repeated name."""
    inner = subgraph([node("Relu", "x", "b")], "b")
    for level in range(12):
        inner = subgraph([node("If", "c", f"d{level}", then_branch=inner, else_branch=inner)], f"d{level}")
    content = _chain(node("If", "c", "y", then_branch=inner, else_branch=inner)).SerializeToString()
    started = time.process_time()
    fold_constants(load_onnx(content))
    assert time.process_time() - started < 5 * SECONDS


def test_too_many_sub_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    proto = _nested(5)  # a main graph with two branches of 9 graphs each
    content = proto.SerializeToString()
    for module in (onnx_graph, saved):
        monkeypatch.setattr(module, "MAX_GRAPHS", 18)
    archive = saved.dump_graph(load_onnx(content))
    for module in (onnx_graph, saved):
        monkeypatch.setattr(module, "MAX_GRAPHS", 17)
    for source in (content, archive):
        with pytest.raises(ModelError, match="17 sub-graphs"):
            load_graph(source)


def test_what_nested_graphs_capture_is_asked_once_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain of branches: asking anew at every level would take depth^2 / 2 questions."""
    depth, asked = 30, 0

    def counted(graph: Graph) -> Iterator[str]:
        nonlocal asked
        asked += 1
        return definitions(graph)

    graph = load_onnx(_nested(depth).SerializeToString())
    monkeypatch.setattr(checks, "definitions", counted)
    fold_constants(graph)
    assert 0 < asked <= 4 * depth + 2  # at most once for each of the graphs in both branches


def test_too_many_nodes() -> None:
    one = model([node("Relu", "x", "v0")], {"x": (1,)}, "v0").graph.node[0].SerializeToString()
    content = b"\x08\x08" + _field(7, _field(1, one) * 250_000) + _field(8, b"\x10\x11")
    with pytest.raises(ModelError, match="nodes"):
        ingest(content)
    assert_refused(content)


# ---- noise ----------------------------------------------------------------------------------------------------------


def _noisy(content: bytes, seed: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    for _ in range(100):
        mutated = bytearray(content)
        for _ in range(rng.choice([1, 1, 2, 8])):
            mutated[rng.randrange(len(mutated))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        yield bytes(mutated)


@pytest.mark.parametrize("seed", range(6))
def test_noise_ends_in_a_graph_or_a_typed_error(seed: int) -> None:
    sources = [
        lstm(),
        _nested(3),
        _chain(node("Shape", "x", "s"), node("Expand", "k s", "e"), node("Add", "e x", "y"), k=np.float32(1)),
    ]
    started = time.process_time()
    for content in _noisy(sources[seed % 3].SerializeToString(), seed):
        try:
            ingest(content)
        except GateInferError as error:
            assert str(error)
    assert time.process_time() - started < 20 * SECONDS
