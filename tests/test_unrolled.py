"""Steps written out one after another: they become one layer if they are one, and keep their figures in any case."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_models import node
from recognised import agrees, cells, specialised
from spellings import Shared, finished, gru_step, lstm_step, rnn_step

import gateinfer as gi
from gateinfer.graph.recognise import recognise

KINDS = ["LSTM", "GRU", "RNN"]
WIDTH, H = 5, 8
ACTIVATIONS = ("Tanh", "Sigmoid", "Relu", "HardSigmoid", "Softsign", "Exp", "Clip", "Max")


def frames(s: Shared, steps: int, how: str = "Gather") -> list[str]:
    """The steps of x [T, N, I], or of x [N, T, I]."""
    match how:
        case "Split":
            return [s.emit("Squeeze", part, s.ints(0)) for part in s.emit("Split", "x", outputs=steps, axis=0)]
        case "Slice":
            parts = [s.emit("Slice", "x", s.ints(t), s.ints(t + 1), s.ints(1)) for t in range(steps)]
            return [s.emit("Squeeze", part, s.ints(1)) for part in parts]
        case "Gather of one":
            return [s.emit("Squeeze", s.emit("Gather", "x", s.ints(t), axis=1), s.ints(1)) for t in range(steps)]
    return [s.emit("Gather", "x", s.const(t, np.int64), axis=0) for t in range(steps)]


class Steps:
    """Writes steps with the same weights and the same spelling."""

    def __init__(self, kind: str, seed: int = 0, rows: int = 2, *, zero: bool = False) -> None:
        self.s = Shared(np.random.default_rng(seed))
        self.kind, self.seed, self.rows = kind, seed, rows
        start = self.s.const(np.zeros((rows, H))) if zero else ""
        self.h, self.c = start or "h", start or "c"
        self.inputs = {} if zero else {"h": (rows, H)} | ({"c": (rows, H)} if kind == "LSTM" else {})
        self.results: list[tuple[str, str]] = []

    def step(self, x: str, seed: int | None = None) -> str:
        self.s.rng = np.random.default_rng(self.seed + 100 if seed is None else seed)
        sizes = (self.rows, WIDTH, H)
        if self.kind == "LSTM":
            self.h, self.c = lstm_step(self.s, x, self.h, self.c, sizes)
        else:
            self.h = (gru_step if self.kind == "GRU" else rnn_step)(self.s, x, self.h, sizes)
        return self.h

    def stack(self, seen: list[str], axis: int = 0) -> None:
        lifted = [self.s.emit("Unsqueeze", h, self.s.ints(axis)) for h in seen]
        self.results.append((self.s.emit("Concat", *lifted, axis=axis), "y"))

    def model(self, x: tuple[int, ...]) -> onnx.ModelProto:
        last = [(self.h, "last_h")] + ([(self.c, "last_c")] if self.kind == "LSTM" and self.inputs else [])
        return finished(self.s, [*self.results, *last], {"x": x, **self.inputs})


def unrolled(kind: str, seed: int = 0, rows: int = 2, steps: int = 4, *, zero: bool = False) -> onnx.ModelProto:
    net = Steps(kind, seed, rows, zero=zero)
    net.stack([net.step(x) for x in frames(net.s, steps)])
    return net.model((steps, rows, WIDTH))


def ops(proto: onnx.ModelProto) -> list[str]:
    return [cell.op for cell in cells(proto)]


def most_steps(proto: onnx.ModelProto) -> int:
    """Of the longest layer."""
    graph = recognise(specialised(proto))
    return max((graph.types[n.inputs[0]].extents[0] for n in graph.nodes if n.origin), default=0)


# ---- what becomes a layer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zero", [False, True], ids=["state", "zero"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(16))
def test_any_spelling_becomes_one_layer(kind, seed, zero):
    proto = unrolled(kind, seed, rows=1 + seed % 3, zero=zero)
    assert ops(proto) == [kind]
    agrees(proto, steps=4)


@pytest.mark.parametrize("how", ["Split", "Slice", "Gather of one"])
@pytest.mark.parametrize("kind", KINDS)
def test_frames_may_be_taken_in_any_way(kind, how):
    net = Steps(kind)
    net.stack([net.step(x) for x in frames(net.s, 3, how)], axis=1)
    proto = net.model((3, 2, WIDTH) if how == "Split" else (2, 3, WIDTH))
    (layer,) = cells(proto)
    assert layer.op == kind and "all" in layer.inputs[0]
    agrees(proto, steps=3)


def test_the_inputs_of_a_layer_are_a_view_of_the_frames():
    loaded = gi.load(unrolled("GRU").SerializeToString(), fallback=None)
    graph = loaded.plan({p.name: p.shape for p in loaded.inputs}, {}).graph
    assert not {"Gather", "Concat", "Slice"} & {n.op for n in graph.nodes}


@pytest.mark.parametrize("order", [[3, 2, 1, 0], [1, 2, 3, 4], [0, 0, 1, 1], [4, 1, 0, 3], [0, 2, 4, 6]], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_frames_in_any_order(kind, order):
    """Backward, off by one, repeated, every other one: the steps read just what they read before."""
    net = Steps(kind, zero=True)
    x = frames(net.s, 7)
    net.stack([net.step(x[t]) for t in order])
    proto = net.model((7, 2, WIDTH))
    assert ops(proto) == [kind]
    agrees(proto, steps=4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_that_runs_backward(kind):
    net = Steps(kind, zero=True)
    seen = [net.step(x) for x in frames(net.s, 4)[::-1]]
    net.stack(seen[::-1])
    proto = net.model((4, 2, WIDTH))
    (layer,) = cells(proto)
    assert layer.attrs["direction"] == "reverse"
    agrees(proto, steps=4)
    with pytest.raises(gi.StateMismatch, match="backward"):
        gi.load(proto.SerializeToString(), fallback=None).stream()


@pytest.mark.parametrize("picked", [[0, 1, 2], [2, 0], [1, 3], [3, 2, 1, 0], [1, 1]], ids=str)
def test_results_may_be_stacked_in_any_order(picked):
    net = Steps("LSTM", zero=True)
    seen = [net.step(x) for x in frames(net.s, 4)]
    net.stack([seen[t] for t in picked], axis=1)
    proto = net.model((4, 2, WIDTH))
    assert ops(proto) == ["LSTM"]
    agrees(proto, steps=4)


@pytest.mark.parametrize("kind", KINDS)
def test_frames_that_are_computed_one_by_one(kind):
    net = Steps(kind)
    net.stack([net.step(net.s.emit("Relu", x)) for x in frames(net.s, 4)])
    proto = net.model((4, 2, WIDTH))
    assert ops(proto) == [kind]
    agrees(proto, steps=4)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_on_layers(kind):
    """Both step in turn, so that neither comes after the other in the file."""
    s, step = Shared(np.random.default_rng(0)), {"LSTM": lstm_step, "GRU": gru_step, "RNN": rnn_step}[kind]
    zero = s.const(np.zeros((2, H)))
    states, seen = [(zero, zero), (zero, zero)], []
    for x in frames(s, 4):
        for layer, width in ((0, WIDTH), (1, H)):
            s.rng = np.random.default_rng(60 + layer)
            h, c = states[layer]
            made = step(s, x, h, c, (2, width, H)) if kind == "LSTM" else (step(s, x, h, (2, width, H)), c)
            states[layer], x = made, made[0]
        seen.append(s.emit("Unsqueeze", x, s.ints(0)))
    proto = finished(s, [(s.emit("Concat", *seen, axis=0), "y")], {"x": (4, 2, WIDTH)})
    assert ops(proto) == [kind, kind]
    agrees(proto, steps=8)


def test_the_state_of_a_layer_is_found():
    loaded = gi.load(unrolled("LSTM").SerializeToString(), fallback=None)
    assert {state.input: state.output for state in loaded.states} == {"h": "last_h", "c": "last_c"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_goes_on_where_a_window_ends(kind):
    """Two windows of four steps are one of eight."""
    short, long = (gi.load(unrolled(kind, steps=t, zero=True).SerializeToString(), fallback=None) for t in (4, 8))
    x = np.random.default_rng(1).uniform(-1, 1, (8, 2, WIDTH)).astype(np.float32)
    stream = short.stream()
    assert all(state.lifted for state in stream.states)
    got = np.concatenate([stream(x[:4])["y"], stream(x[4:])["y"]])
    np.testing.assert_array_equal(got, long.run(["y"], {"x": x})[0])


@pytest.mark.parametrize("kind", KINDS)
def test_summary_says_what_was_recognised(kind):
    text = str(gi.load(unrolled(kind).SerializeToString(), fallback=None).summary())
    assert f"{kind} recognised from" in text


# ---- what does not ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_steps_with_weights_of_their_own(kind):
    net = Steps(kind)
    net.stack([net.step(x, seed=107 + t) for t, x in enumerate(frames(net.s, 3))])
    proto = net.model((3, 2, WIDTH))
    assert len(ops(proto)) == (0 if kind == "RNN" else 3)
    agrees(proto, steps=3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [0, 1, 3])
def test_one_step_with_other_weights(kind, at):
    net = Steps(kind, zero=True)
    net.stack([net.step(x, seed=107 if t == at else None) for t, x in enumerate(frames(net.s, 5))])
    proto = net.model((5, 2, WIDTH))
    assert most_steps(proto) == max(at, 4 - at)
    agrees(proto, steps=5)


@pytest.mark.parametrize("kind", KINDS)
def test_frames_that_follow_from_results(kind):
    """A decoder that feeds on its own output."""
    net = Steps(kind, zero=True)
    x, weights = frames(net.s, 1)[0], net.s.const(net.s.weights(H, WIDTH))
    seen = []
    for _ in range(4):
        seen.append(net.step(x))
        x = net.s.emit("Tanh", net.s.emit("MatMul", seen[-1], weights))
    net.stack(seen)
    proto = net.model((1, 2, WIDTH))
    assert len(ops(proto)) == 4
    agrees(proto, steps=4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", ["leak", "noise", "swap"])
def test_state_that_changes_between_steps(kind, change):
    net = Steps(kind)
    seen = []
    for t, x in enumerate(frames(net.s, 4)):
        seen.append(net.step(x))
        if t == 1:
            match change:
                case "leak":
                    net.h = net.s.mul(net.h, net.s.const(0.5))
                case "noise":
                    net.h = net.s.add(net.h, net.s.const(net.s.weights(2, H)))
                case _:
                    net.h = seen[0]
    net.stack(seen)
    proto = net.model((4, 2, WIDTH))
    assert len(ops(proto)) != 1
    agrees(proto, steps=4)


def test_cell_states_that_something_else_reads():
    """Y of an LSTM has no c, so that the steps part where one is read."""
    net = Steps("LSTM", zero=True)
    seen = []
    for t, x in enumerate(frames(net.s, 5)):
        seen.append(net.step(x))
        if t == 2:
            net.results.append((net.c, "between"))
    net.stack(seen)
    proto = net.model((5, 2, WIDTH))
    assert ops(proto) == ["LSTM", "LSTM"]
    agrees(proto, steps=5)


def test_a_cell_state_of_an_earlier_step():
    net = Steps("LSTM", zero=True)
    seen, old = [], ""
    for t, x in enumerate(frames(net.s, 5)):
        old = net.c if t == 2 else old
        net.c = old if t == 4 else net.c
        seen.append(net.step(x))
    net.stack(seen)
    proto = net.model((5, 2, WIDTH))
    assert len(ops(proto)) > 1
    agrees(proto, steps=5)


@pytest.mark.parametrize("kind", KINDS)
def test_two_futures_of_one_state(kind):
    net = Steps(kind)
    x = frames(net.s, 5)
    seen = [net.step(v) for v in x[:2]]
    h, c = net.h, net.c
    seen += [net.step(v) for v in x[2:4]]
    net.h, net.c = h, c
    seen.append(net.step(x[4]))
    net.stack(seen)
    proto = net.model((5, 2, WIDTH))
    assert len(ops(proto)) > 1
    agrees(proto, steps=5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_a_learned_state_is_not_taken_for_zero(kind, seed):
    net = Steps(kind, seed)
    start = net.s.const(net.s.weights(2, H))
    net.h = net.c = start
    net.inputs = {}
    net.stack([net.step(x) for x in frames(net.s, 4)])
    agrees(net.model((4, 2, WIDTH)), steps=4)


@pytest.mark.parametrize("what", ["bias", "weights", "activation"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_a_first_step_that_differs(kind, what, seed):
    """Nearly the step on a zero state, but for one thing."""
    proto = unrolled(kind, seed, zero=True)
    index, first = next((k, n) for k, n in enumerate(proto.graph.node) if n.op_type in ACTIVATIONS)
    source = first.input[0]
    match what:
        case "activation":
            first.op_type = "Erf"
            del first.input[1:], first.attribute[:]
        case "bias":
            proto.graph.initializer.append(onnx.numpy_helper.from_array(np.float32([0.01]), "shift"))
            proto.graph.node.insert(index, node("Add", f"{source} shift", "moved"))
        case _:
            proto.graph.initializer.append(onnx.numpy_helper.from_array(np.float32([1.01]), "scale"))
            proto.graph.node.insert(index, node("Mul", f"{source} scale", "moved"))
    if what != "activation":
        proto.graph.node[index + 1].input[0] = "moved"
    agrees(proto, steps=4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(30))
def test_random_surgery_never_changes_figures(kind, seed):
    """One input of one node becomes some other value of the same shape."""
    rng = np.random.default_rng(seed)
    proto = unrolled(kind, seed, zero=bool(seed % 2))
    shapes = {p.name: p.type.tensor_type.shape for p in onnx.shape_inference.infer_shapes(proto).graph.value_info}
    like = {n for n, shape in shapes.items() if [d.dim_value for d in shape.dim] == [2, H]}
    places = [(k, i) for k, found in enumerate(proto.graph.node) for i, name in enumerate(found.input) if name in like]
    index, position = places[rng.integers(len(places))]
    made = {o for earlier in proto.graph.node[:index] for o in earlier.output}
    proto.graph.node[index].input[position] = sorted(like & made)[rng.integers(len(like & made))]
    agrees(proto, steps=4)


def test_a_dense_layer_of_two_values_is_no_step():
    """tanh(a A + b B), with more layers behind it."""
    s = Shared(np.random.default_rng(0))
    total = s.add(*(s.emit("MatMul", v, s.const(s.weights(H, H))) for v in ("a", "b")))
    y = s.emit("Softplus", s.emit("MatMul", s.emit("Tanh", total), s.const(s.weights(H, H))))
    proto = finished(s, [(y, "y")], {"a": (2, H), "b": (2, H)})
    assert not ops(proto)
    agrees(proto)
