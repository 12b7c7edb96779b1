"""Layers on rows of a constant table: the bits of the layer that is given those rows."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import gateinfer as gi
from gateinfer.lower import embedding

V, E, H, T, N = 7, 5, 19, 6, 3
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}

PATHS = {
    "as it is": ((T, N), []),
    "unsqueezed": ((T,), [("Unsqueeze", [1], {})]),
    "by sequence": ((N, T), [("Transpose", None, {"perm": [1, 0, 2]})]),
    "one list": ((T * N,), [("Reshape", [T, N, E], {})]),
    "several": (
        (N, T),
        [("Transpose", None, {"perm": [1, 0, 2]}), ("Reshape", [T * N, E], {}), ("Reshape", [T, N, E], {})],
    ),
}


def weights_of(op: str, directions: int, seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    G = GATES[op]
    shapes = {"W": (directions, G * H, E), "R": (directions, G * H, H), "B": (directions, 2 * G * H)}
    return {name: rng.uniform(-0.5, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


TABLE = np.random.default_rng(2).uniform(-1, 1, (V, E)).astype(np.float32)


def port(name: str, kind: int, shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model_bytes(op: str, path: str | None, directions: int = 1, ids=TensorProto.INT64, **attrs) -> bytes:
    """The layer behind the look-up `path`, or on X itself."""
    shape, steps = PATHS[path] if path else ((), [])
    constants = weights_of(op, directions) | {"table": TABLE}
    nodes, name = [], "X"
    if path:
        nodes.append(helper.make_node("Gather", ["table", "ids"], ["x0"]))
        name = "x0"
    for i, (step, argument, step_attrs) in enumerate(steps):
        inputs = [name] if argument is None else [name, f"a{i}"]
        if argument is not None:
            constants[f"a{i}"] = np.array(argument, np.int64)
        name = f"x{i + 1}"
        nodes.append(helper.make_node(step, inputs, [name], **step_attrs))
    if directions == 2:
        attrs["direction"] = "bidirectional"
    nodes.append(helper.make_node(op, [name, "W", "R", "B"], ["y", "hn"], hidden_size=H, **attrs))
    inputs = [port("ids", ids, shape)] if path else [port("X", TensorProto.FLOAT, (None, None, E))]
    outputs = [port(n, TensorProto.FLOAT, None) for n in ("y", "hn")]
    initializers = [numpy_helper.from_array(a, n) for n, a in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


def rows_of(ids: np.ndarray, path: str) -> np.ndarray:
    """X [T, N, I] as the nodes of `path` make it."""
    x = TABLE[ids]
    for step, argument, attrs in PATHS[path][1]:
        if step == "Unsqueeze":
            x = np.expand_dims(x, tuple(argument))
        else:
            x = x.reshape(argument) if step == "Reshape" else x.transpose(attrs["perm"])
    return x


def tokens(path: str) -> np.ndarray:
    return np.random.default_rng(3).integers(-V, V, PATHS[path][0])


def macs(model: gi.Model) -> int:
    (plan,) = model.plans._plans.values()
    return plan.lowered.program.macs


def assert_same(found, wanted) -> None:
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("op", GATES)
def test_bits_of_the_rows_themselves(op, path, directions):
    """Row numbers may be negative. W is not multiplied with anything any more."""
    given = gi.load(model_bytes(op, None, directions))
    looked_up = gi.load(model_bytes(op, path, directions))
    ids = tokens(path)
    x = rows_of(ids, path)
    assert_same(looked_up.run(None, {"ids": ids}), given.run(None, {"X": x}))
    assert macs(looked_up) == directions * x.shape[0] * x.shape[1] * GATES[op] * H * H


@pytest.mark.parametrize("reset", [0, 1])
def test_both_places_of_the_reset_gate(reset):
    ids = tokens("as it is")
    given, looked_up = (gi.load(model_bytes("GRU", p, linear_before_reset=reset)) for p in (None, "as it is"))
    assert_same(looked_up.run(None, {"ids": ids}), given.run(None, {"X": TABLE[ids]}))


@pytest.mark.parametrize("precision", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("isa", gi._core.isa_names())
def test_every_target(isa, precision, monkeypatch):
    monkeypatch.setattr("gateinfer.lower.target.SMALL_WEIGHTS", 0)
    ids = tokens("by sequence")
    try:
        given, looked_up = (
            gi.load(model_bytes("LSTM", p), isa=isa, precision=precision) for p in (None, "by sequence")
        )
    except gi.GateInferError as error:
        pytest.skip(str(error))
    assert_same(looked_up.run(None, {"ids": ids}), given.run(None, {"X": rows_of(ids, "by sequence")}))


def test_sequences_first():
    model = gi.load(model_bytes("LSTM", "as it is", layout=1))
    ids = tokens("as it is")
    (y, _), (wanted, _) = (
        model.run(None, {"ids": ids}),
        gi.load(model_bytes("LSTM", None)).run(None, {"X": TABLE[ids].transpose(1, 0, 2)}),
    )
    np.testing.assert_array_equal(y[:, :, 0].transpose(1, 0, 2), wanted[:, 0])


def test_other_row_numbers():
    model = gi.load(model_bytes("GRU", "as it is", ids=TensorProto.INT32))
    ids = np.abs(tokens("as it is")).astype(np.int32) % V
    assert_same(model.run(None, {"ids": ids}), gi.load(model_bytes("GRU", None)).run(None, {"X": TABLE[ids]}))


@pytest.mark.parametrize("place", [V, -V - 1])
def test_no_such_row(place):
    with pytest.raises(gi.GateInferError, match=f"{place}"):
        gi.load(model_bytes("LSTM", "as it is")).run(None, {"ids": np.full((T, N), place)})


@pytest.mark.parametrize("limit", ["MAX_MACS", "MAX_BYTES", "MAX_ROW_BYTES"])
def test_large_tables_stay_as_they_are(limit, monkeypatch):
    monkeypatch.setattr(embedding, limit, 8)
    model = gi.load(model_bytes("LSTM", "as it is"))
    ids = tokens("as it is")
    assert_same(model.run(None, {"ids": ids}), gi.load(model_bytes("LSTM", None)).run(None, {"X": TABLE[ids]}))
    assert macs(model) == T * N * 4 * H * (H + E)


def test_a_stream_of_tokens():
    """States from step to step, each step a look-up."""
    raw = onnx.load_from_string(model_bytes("LSTM", "unsqueezed"))
    raw.graph.input[0].CopyFrom(port("ids", TensorProto.INT64, (None,)))
    model = gi.load(raw.SerializeToString())
    ids = tokens("unsqueezed")
    whole, _ = model.run(None, {"ids": ids})
    stream = model.stream()
    steps = [stream(ids[t : t + 1])["y"] for t in range(T)]
    np.testing.assert_array_equal(np.concatenate(steps), whole)


def test_a_look_up_with_another_reader():
    raw = onnx.load_from_string(model_bytes("GRU", "as it is"))
    raw.graph.output.append(port("x0", TensorProto.FLOAT, None))
    ids = tokens("as it is")
    *found, x = gi.load(raw.SerializeToString()).run(None, {"ids": ids})
    np.testing.assert_array_equal(x, TABLE[ids])
    assert_same(found, gi.load(model_bytes("GRU", None)).run(None, {"X": TABLE[ids]}))
