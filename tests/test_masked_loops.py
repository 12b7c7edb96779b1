"""Loops that keep the state of a cell where a mask says so: the steps that count become a layer, figures unchanged."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx_models import model, node, subgraph
from recognised import specialised
from spellings import Speller, gru_step, lstm_step
from tolerance import recurrent

import gateinfer as gi
from gateinfer.graph.recognise import compacted, recognise

WIDTH, H, T = 5, 8, 7
KINDS = ["LSTM", "GRU"]


class Masked:
    """Writes the loop; every way to select may be spelled in several ways."""

    def __init__(self, kind: str, rows: int, spelling: str = "where", seed: int = 0) -> None:
        self.s = Speller(np.random.default_rng(seed))
        self.kind, self.rows, self.spelling = kind, rows, spelling
        self.x = self.s.emit("Gather", "x", "t", axis=0)
        self.mask = self.s.emit("Gather", "mask", "t", axis=0)
        sizes = (rows, WIDTH, H)
        if kind == "LSTM":
            self.h, self.c = lstm_step(self.s, self.x, "h", "c", sizes)
        else:
            self.h, self.c = gru_step(self.s, self.x, "h", sizes), ""

    def select(self, new: str, old: str, mask: str = "") -> str:
        s, mask = self.s, mask or self.mask
        match self.spelling:
            case "inverted":
                return s.emit("Where", s.emit("Not", mask), old, new)
            case "product":
                yes, no = s.emit("Cast", mask, to=1), s.emit("Cast", s.emit("Not", mask), to=1)
                return s.add(s.mul(yes, new), s.mul(no, old))
        return s.emit("Where", mask, new, old)

    def model(self, behind: dict[str, str], shown: list[str], columns: int = 1) -> onnx.ModelProto:
        """`behind`: by carried value what follows it; `shown`: what is stacked."""
        s = self.s
        names = {"still": "going", **{f"{name}_out": value for name, value in behind.items()}}
        names |= {f"y{i}": value for i, value in enumerate(shown)}
        s.nodes += [node("Identity", value, name) for name, value in names.items()]
        body = subgraph(s.nodes, " ".join(names), " ".join(["t", "going", *behind]), **s.constants)
        carried = [onnx.TensorProto.FLOAT] * len(behind)
        kinds = ([7, 9, *carried], [9, *carried, *[onnx.TensorProto.FLOAT] * len(shown)])
        for ports, types in zip((body.input, body.output), kinds, strict=True):
            for port, kind in zip(ports, types, strict=True):
                shape = (self.rows, H) if kind == onnx.TensorProto.FLOAT else ()
                port.CopyFrom(onnx.helper.make_tensor_value_info(port.name, kind, shape))
        starts, ends = [f"{name}0" for name in behind], [f"{name}n" for name in behind]
        stacks = [f"stack{i}" for i in range(len(shown))]
        loop = node("Loop", " ".join(["trips", "yes", *starts]), " ".join([*ends, *stacks]), body=body)
        start = {name: (self.rows, H) for name in starts}
        cast = node("Greater", "m zero", "mask")
        inputs = {"x": (T, self.rows, WIDTH), "m": (T, self.rows, columns), **start}
        constants = {"trips": np.array(T), "yes": np.array(True), "zero": np.float32(0)}
        return model([cast, loop], inputs, " ".join([*ends, *stacks]), constants, opset=17)


def plain(kind: str, rows: int, spelling: str = "where", seed: int = 0) -> onnx.ModelProto:
    """State and previous output are kept; shown are the output, the state and zeros where it is masked."""
    m = Masked(kind, rows, spelling, seed)
    behind = {"h": m.select(m.h, "h"), "o": m.select(m.h, "o")}
    if kind == "LSTM":
        behind["c"] = m.select(m.c, "c")
    zeros = m.s.const(np.zeros((rows, H)))
    return m.model(behind, [behind["o"], behind["h"], m.select(m.h, zeros)])


def layers(proto: onnx.ModelProto) -> list[str]:
    """What the main graph runs."""
    return [n.op for n in compacted(recognise(specialised(proto))).nodes if n.op in ("Loop", "LSTM", "GRU")]


def agrees(proto: onnx.ModelProto, mask: np.ndarray | None = None) -> None:
    rng = np.random.default_rng(3)
    shapes = {p.name: [d.dim_value for d in p.type.tensor_type.shape.dim] for p in proto.graph.input}
    feeds = {name: rng.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    if mask is not None:
        feeds["m"] = np.broadcast_to(mask.astype(np.float32), feeds["m"].shape).copy()
    loaded = gi.load(proto.SerializeToString(), fallback=None)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for got, expected in zip(loaded.run(None, feeds), session.run(None, feeds), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=2 * recurrent(64, T, 4.0))


def column(*bits: int) -> np.ndarray:
    return np.array(bits).reshape(T, 1, 1)


MASKS = {
    "all": column(1, 1, 1, 1, 1, 1, 1),
    "none": column(0, 0, 0, 0, 0, 0, 0),
    "length": column(1, 1, 1, 1, 0, 0, 0),
    "late": column(0, 0, 0, 1, 1, 1, 1),
    "holes": column(0, 1, 0, 0, 1, 0, 1),
    "ends": column(1, 0, 0, 0, 0, 0, 1),
    "last": column(0, 0, 0, 0, 0, 0, 1),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("spelling", ["where", "inverted", "product"])
@pytest.mark.parametrize("kind", KINDS)
def test_any_mask(kind, spelling, mask):
    proto = plain(kind, 1, spelling)
    assert layers(proto) == [kind]
    agrees(proto, MASKS[mask])


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_rows_with_masks_of_their_own(kind, rows, seed):
    proto = plain(kind, rows, ["where", "inverted", "product"][seed % 3], seed)
    assert layers(proto) == [kind]
    agrees(proto)


@pytest.mark.parametrize("kind", KINDS)
def test_many_rows_step_together(kind):
    proto = plain(kind, 4)
    assert layers(proto) == ["Loop"]
    agrees(proto)


def test_the_bits_are_those_of_the_loop():
    """Every row of a batch that stays a loop, alone."""
    many, one = (gi.load(plain("LSTM", rows).SerializeToString(), fallback=None) for rows in (4, 1))
    rng = np.random.default_rng(0)
    feeds = {p.name: rng.uniform(-1, 1, p.shape).astype(np.float32) for p in many.inputs}
    together = many.run(None, feeds)
    for row in range(4):
        alone = one.run(None, {name: a[..., row : row + 1, :].copy() for name, a in feeds.items()})
        for got, expected in zip(alone, together, strict=True):
            np.testing.assert_array_equal(got, expected[..., row : row + 1, :])


def near(change: str) -> onnx.ModelProto:
    m = Masked("LSTM", 2)
    s = m.s
    behind = {"h": m.select(m.h, "h"), "c": m.select(m.c, "c")}
    shown, columns = [behind["h"]], 1
    match change:
        case "c is not masked":
            behind["c"] = m.c
        case "h is not masked":
            behind["h"], shown = m.h, [m.h]
        case "two masks":
            behind["c"] = m.select(m.c, "c", s.emit("Not", m.mask))
        case "decay":
            behind["h"] = m.select(m.h, s.mul("h", s.const(0.5)))
            shown = [behind["h"]]
        case "states change places":
            behind = {"h": m.select(m.h, "c"), "c": m.select(m.c, "h")}
            shown = [behind["h"]]
        case "the raw result is shown":
            shown = [m.h]
        case "the state before is shown":
            shown = [s.emit("Identity", "h")]
        case "the cell state is shown":
            shown = [behind["c"]]
        case "shown elsewhere":
            shown = [m.select(m.h, s.const(s.weights(2, H)))]
        case "a mask per unit":
            columns = H
        case "a mask that the state decides":
            column = s.emit("ReduceMax", "h", axes=[1], keepdims=1)
            mask = s.emit("Greater", column, s.const(0.1))
            behind = {"h": m.select(m.h, "h", mask), "c": m.select(m.c, "c", mask)}
            shown = [behind["h"]]
    return m.model(behind, shown, columns)


NEAR = ["c is not masked", "h is not masked", "two masks", "decay", "states change places", "the raw result is shown",
        "the state before is shown", "the cell state is shown", "shown elsewhere", "a mask per unit",
        "a mask that the state decides"]  # fmt: skip


@pytest.mark.parametrize("change", NEAR)
def test_near_misses_stay_loops(change):
    proto = near(change)
    assert layers(proto) == ["Loop"]
    agrees(proto)


def test_a_mask_that_is_turned_on_its_side():
    """As many units as rows: [1, N] chooses units, not rows."""
    s = Speller(np.random.default_rng(0))
    x, mask = s.emit("Gather", "x", "t", axis=0), s.emit("Gather", "mask", "t", axis=0)
    h, c = lstm_step(s, x, "h", "c", (2, WIDTH, 2))
    side = s.emit("Reshape", mask, s.ints(1, 2))
    for value, name in ((s.emit("Where", side, h, "h"), "h"), (s.emit("Where", side, c, "c"), "c")):
        s.nodes.append(node("Identity", value, f"{name}_out"))
    s.nodes.append(node("Identity", "going", "still"))
    body = subgraph(s.nodes, "still h_out c_out", "t going h c", **s.constants)
    for ports, kinds in ((body.input, (7, 9, 1, 1)), (body.output, (9, 1, 1))):
        for port, kind in zip(ports, kinds, strict=True):
            shape = (2, 2) if kind == 1 else ()
            port.CopyFrom(onnx.helper.make_tensor_value_info(port.name, kind, shape))
    nodes = [node("Greater", "m zero", "mask"), node("Loop", "trips yes h0 c0", "hn cn", body=body)]
    inputs = {"x": (T, 2, WIDTH), "m": (T, 2, 1), "h0": (2, 2), "c0": (2, 2)}
    proto = model(
        nodes, inputs, "hn cn", {"trips": np.array(T), "yes": np.array(True), "zero": np.float32(0)}, opset=17
    )
    assert layers(proto) == ["Loop"]
    agrees(proto)


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_of_a_stream_go_on(kind):
    """The loop's states belong to the file; a chunk may be all masked."""
    loaded = gi.load(plain(kind, 1).SerializeToString(), fallback=None)
    states = {f"{name}0": f"{name}n" for name in ("hoc" if kind == "LSTM" else "ho")}
    stream = loaded.stream(states=states)
    rng = np.random.default_rng(0)
    state = {name: np.zeros((1, H), np.float32) for name in states}
    for mask in ("holes", "none", "late"):
        feeds = {"x": rng.uniform(-1, 1, (T, 1, WIDTH)).astype(np.float32), "m": MASKS[mask].astype(np.float32)}
        expected = dict(zip((p.name for p in loaded.outputs), loaded.run(None, feeds | state), strict=True))
        got = stream(**feeds)
        np.testing.assert_array_equal(got["stack0"], expected["stack0"])
        state = {i: expected[o] for i, o in states.items()}


@pytest.mark.parametrize("island", [False, True])
def test_a_summary_is_of_the_layer(island):
    """What stands for the loop is what costs, in a program of its own as well."""
    proto = plain("LSTM", 1)
    if island:
        proto.graph.node.append(node("Asinh", "stack0", "inverse"))
        proto.graph.output.append(onnx.helper.make_tensor_value_info("inverse", onnx.TensorProto.FLOAT, None))
    summary = gi.load(proto.SerializeToString()).summary()
    assert len(summary.parts) == 1 + island
    assert [(layer.op, layer.loop) for layer in summary.layers] == [("LSTM", "")]
    assert sum(row.macs or 0 for row in summary.rows if row.op == "LSTM") == summary.macs > 0
