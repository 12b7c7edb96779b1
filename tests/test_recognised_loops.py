"""Loops over time with a hand-written cell inside: what becomes a layer, what stays a loop, and the figures of both."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_models import model, node, subgraph
from recognised import agrees, all_nodes, specialised
from spellings import Speller, gru_step, lstm_step, rnn_step

import gateinfer as gi
from gateinfer.graph.recognise import recognise

WIDTH, H, T, ROWS = 5, 8, 6, 2
KINDS = ["LSTM", "GRU", "RNN"]


class Stepped:
    """A loop as converters write it: a counter, one step, stacked results."""

    def __init__(self, kind: str, seed: int = 2) -> None:
        self.s = Speller(np.random.default_rng(seed))
        self.kind = kind
        self.start, self.count, self.type = 0, T, np.int64
        self.next = self.add_one

    def add_one(self) -> str:
        return self.s.emit("Add", "t", self.s.const(1, self.type))

    def frame(self, place: str = "t") -> str:
        return self.s.emit("Gather", "x", place, axis=0)

    def step(self, x: str, h: str = "h", c: str = "c") -> dict[str, str]:
        if self.kind == "LSTM":
            return dict(zip("hc", lstm_step(self.s, x, h, c, (ROWS, WIDTH, H)), strict=True))
        return {"h": (gru_step if self.kind == "GRU" else rnn_step)(self.s, x, h, (ROWS, WIDTH, H))}

    def model(self, behind: dict[str, str], shown: str) -> onnx.ModelProto:
        s = self.s
        names = {"still": "going", "t_out": self.next(), **{f"{k}_out": v for k, v in behind.items()}, "row": shown}
        s.nodes += [node("Identity", value, name) for name, value in names.items()]
        body = subgraph(s.nodes, " ".join(names), " ".join(["i", "going", "t", *behind]), **s.constants)
        number = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(self.type))
        floats = [onnx.TensorProto.FLOAT] * len(behind)
        for ports, kinds in ((body.input, [7, 9, number, *floats]), (body.output, [9, number, *floats, 1])):
            for at, (port, kind) in enumerate(zip(ports, kinds, strict=True)):
                shape = (ROWS, H) if at >= 3 or (kind == 1 and ports is body.output and at >= 2) else ()
                port.CopyFrom(onnx.helper.make_tensor_value_info(port.name, kind, shape))
        starts, ends = [f"{k}0" for k in behind], [f"{k}n" for k in behind]
        loop = node("Loop", " ".join(["trips", "yes", "first", *starts]), " ".join(["tn", *ends, "ys"]), body=body)
        inputs = {"x": (T, ROWS, WIDTH), **dict.fromkeys(starts, (ROWS, H))}
        constants = {"trips": np.array(self.count), "yes": np.array(True), "first": np.array(self.start, self.type)}
        return model([loop], inputs, " ".join([*ends, "ys"]), constants, opset=17)


def recurrent(proto: onnx.ModelProto) -> list[str]:
    """Loops and recurrent nodes of the main graph."""
    kinds = ("Loop", "LSTM", "GRU", "RNN")
    return [n.op for n in recognise(specialised(proto)).nodes if n.op in kinds]


def inside(proto: onnx.ModelProto) -> list[str]:
    """Recognised nodes, those inside loops as well."""
    return [n.op for n in all_nodes(recognise(specialised(proto))) if n.origin is not None]


# ---- what becomes a layer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(12))
def test_a_loop_that_steps_a_cell_is_a_layer(kind, seed):
    loop = Stepped(kind, seed)
    behind = loop.step(loop.frame())
    proto = loop.model(behind, behind["h"])
    assert recurrent(proto) == [kind]
    agrees(proto, steps=T)


def counters(how: str, kind: str) -> onnx.ModelProto:
    loop = Stepped(kind)
    s = loop.s
    place = "t"
    match how:
        case "from one":
            loop.start = 1
            place = s.emit("Sub", "t", s.const(1, np.int64))
        case "a step late":
            loop.start, loop.count = 1, T - 1
        case "backward":
            place = s.emit("Sub", s.const(T - 1, np.int64), "t")
        case "down":
            loop.start = T - 1
            loop.next = lambda: s.emit("Sub", "t", s.const(1, np.int64))
        case "float":
            loop.type = np.float32
            place = s.emit("Cast", "t", to=7)
        case "halves":
            loop.type = np.float32
            loop.next = lambda: s.emit("Add", "t", s.const(0.5))
            place = s.emit("Cast", "t", to=7)
        case "every other":
            loop.count = T // 2
            place = s.emit("Mul", "t", s.const(2, np.int64))
        case "the turn":
            place = "i"
        case "the same":
            place = s.const(3, np.int64)
    behind = loop.step(loop.frame(place))
    return loop.model(behind, behind["h"])


COUNTERS = ["from one", "a step late", "backward", "down", "float", "halves", "every other", "the turn", "the same"]


@pytest.mark.parametrize("how", COUNTERS)
@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_picked_by_any_counter(kind, how):
    proto = counters(how, kind)
    assert recurrent(proto) in ([kind], ["Loop"]) and inside(proto) == [kind]
    agrees(proto, steps=T)


def test_plain_counters_leave_no_loop():
    assert [how for how in COUNTERS if recurrent(counters(how, "RNN")) == ["Loop"]] == ["halves"]


@pytest.mark.parametrize("kind", KINDS)
def test_summary_says_what_was_recognised(kind):
    loop = Stepped(kind)
    behind = loop.step(loop.frame())
    text = str(gi.load(loop.model(behind, behind["h"]).SerializeToString(), fallback=None).summary())
    assert f"{kind} recognised from" in text and "Loop" in text


# ---- what stays a loop -----------------------------------------------------------------------------------------------


def near(change: str, kind: str) -> onnx.ModelProto:
    loop = Stepped(kind)
    s = loop.s
    x = loop.frame()
    if change == "a frame that hears the state":
        x = s.add(x, s.emit("MatMul", "h", s.const(s.weights(H, WIDTH))))
    h = s.emit("Mul", "h", s.const(0.5)) if change == "half the state comes in" else "h"
    behind = loop.step(x, h)
    shown = behind["h"]
    match change:
        case "half the state goes on":
            behind["h"] = s.mul(behind["h"], s.const(0.5))
        case "the state is added":
            behind["h"] = s.add(behind["h"], "h")
        case "the state before is shown":
            shown = s.emit("Identity", "h")
        case "the frame is counted":
            shown = s.add(shown, s.emit("Cast", "t", to=1))
        case "two steps in a turn":
            behind = loop.step(loop.frame(), behind["h"], behind.get("c", ""))
            shown = behind["h"]
        case "another state beside it":
            behind["z"] = s.add("z", behind["h"])
    return loop.model(behind, shown)


NEAR = [
    "a frame that hears the state",
    "half the state comes in",
    "half the state goes on",
    "the state is added",
    "the state before is shown",
    "the frame is counted",
    "two steps in a turn",
    "another state beside it",
]


@pytest.mark.parametrize("change", NEAR)
@pytest.mark.parametrize("kind", KINDS)
def test_near_misses_stay_loops(kind, change):
    proto = near(change, kind)
    assert recurrent(proto) == ["Loop"]
    agrees(proto, terms=256, steps=2 * T)


@pytest.mark.parametrize("change", ["half the state goes on", "the state is added", "half the state comes in"])
def test_a_sum_whose_result_does_not_come_back_is_no_step_of_an_rnn(change):
    assert not inside(near(change, "RNN"))
