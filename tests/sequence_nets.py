"""Whole-sequence networks at random: recurrent layers of all kinds with what exporters put between them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx_models import model as make_model
from onnx_models import node

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


class Net:
    """Nodes one after another on a sequence [T, N, width], from an input x that is [T, N, I] ("TN") or [N, T, I]."""

    def __init__(self, rng, order, width=5, rows="N", steps="T"):
        self.rng, self.width_in, self.width, self.states = rng, width, width, 0
        self.axis = order.index("T")
        self.out_axis = 0
        self.nodes, self.constants = [], {}
        self.shape_in = (steps, rows, width) if self.axis == 0 else (rows, steps, width)
        self.rows = rows
        self.current = "x" if self.axis == 0 else self.op("Transpose", "x", perm=[1, 0, 2])

    def const(self, value):
        name = f"k{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def weight(self, *shape, scale=0.5):
        return self.const((self.rng.normal(size=shape) * scale).astype("f4"))

    def op(self, op, *inputs, outputs="", **attrs):
        outputs = outputs or f"v{len(self.nodes)}"
        self.nodes.append(node(op, " ".join(inputs), outputs, **attrs))
        return outputs.split()[0]

    def model(self) -> onnx.ModelProto:
        last = self.op("Identity", self.current, outputs="y")
        return make_model(self.nodes, {"x": self.shape_in}, last, self.constants)

    # ---- recurrent layers ----

    def recurrent(self, kind, hidden, *, name="", layout=0, initial="", bias=True, **attrs):
        """Appends a layer; returns its initial h, None when the file has none."""
        gates, x = GATES[kind], self.current
        if layout:
            x = self.op("Transpose", x, perm=[1, 0, 2])
        w, r = self.weight(1, gates * hidden, self.width), self.weight(1, gates * hidden, hidden)
        b = self.weight(1, 2 * gates * hidden) if bias else "_"
        starts = [self._initial(initial, hidden, layout) for _ in range(2 if kind == "LSTM" else 1)]
        peepholes = [self.weight(1, 3 * hidden)] if kind == "LSTM" and attrs.pop("peepholes", False) else []
        operands = [x, w, r, b, "_", *(name for name, _ in starts), *(["_"] * (not starts)), *peepholes]
        outputs = f"Y{len(self.nodes)}"
        self.op(kind, *operands, outputs=outputs, layout=layout, hidden_size=hidden, **attrs)
        self.nodes[-1].name = name
        self.current = self._leave(outputs, layout)
        self.width = hidden
        self.states += len(starts)
        return starts[0][1]

    def _initial(self, how, hidden, layout):
        """(name, value) of an initial state, spelled as exporters do."""
        shape = (1, 1, hidden)
        if not how:
            return "_", None
        value = np.zeros(shape, "f4") if how == "zeros" else self.rng.normal(size=shape).astype("f4")
        if how == "fixed":
            value = self.rng.normal(size=(self.rows, 1, hidden) if layout else (1, self.rows, hidden)).astype("f4")
            return self.const(value), value
        rows = self.op("Slice", self.op("Shape", "x"), *map(self.const, ([1 - self.axis], [2 - self.axis])))
        one = self.const([1])
        parts = [rows, one] if layout else [one, rows]
        last = self.const([hidden]) if how != "tile" else one
        target = self.op("Concat", *parts, last, axis=0)
        return self.op("Tile" if how == "tile" else "Expand", self.const(value), target), value

    def _leave(self, y, layout):
        """Y as [T, N, H], in one of the ways exporters have."""
        if layout:
            return self.op("Transpose", self.op("Squeeze", y, self.const([2])), perm=[1, 0, 2])
        if self.rng.random() < 0.5:
            return self.op("Squeeze", y, self.const([1]))
        swapped = self.op("Transpose", y, perm=[0, 2, 1, 3])
        return self.op("Reshape", swapped, self.const([0, 0, -1]))

    # ---- between them ----

    def dense(self, width):
        self.current = self.op("MatMul", self.current, self.weight(self.width, width))
        self.current = self.op("Add", self.const(self.rng.normal(size=width).astype("f4")), self.current)
        self.width = width

    def dense_on_flat_rows(self, width):
        """Keras: [T * N, width] and back, with the shape computed."""
        lead = self.op("Slice", self.op("Shape", self.current), self.const([0]), self.const([2]))
        flat = self.op("Reshape", self.current, self.const([-1, self.width]))
        product = self.op("Gemm", flat, self.weight(width, self.width), self.weight(width), transB=1)
        self.current = self.op("Reshape", product, self.op("Concat", lead, self.const([width]), axis=0))
        self.width = width

    def batch_major(self):
        """What follows an output that exporters turn around and back."""
        turned = self.op("Transpose", self.current, perm=[1, 0, 2])
        self.current = self.op("Transpose", self.op("LeakyRelu", turned), perm=[1, 0, 2])

    def layer_norm(self):
        self.current = self.op("LayerNormalization", self.current, self.weight(self.width), self.weight(self.width))

    def hand_written_norm(self):
        mean = self.op("ReduceMean", self.current, axes=[-1], keepdims=1)
        centred = self.op("Sub", self.current, mean)
        square = self.op("Mul", centred, centred)
        deviation = self.op(
            "Sqrt", self.op("Add", self.op("ReduceMean", square, axes=[2]), self.const(np.float32(1e-3)))
        )
        self.current = self.op("Div", centred, deviation)

    def batch_norm_on_rows(self):
        flat = self.op("Reshape", self.current, self.const([-1, self.width]))
        positive = self.const(np.abs(self.rng.normal(size=self.width)).astype("f4") + 1)
        parts = [self.weight(self.width) for _ in range(3)]
        flat = self.op("BatchNormalization", flat, *parts, positive)
        self.current = self.op("Reshape", flat, self.op("Shape", self.current))

    def conv_of_one_step(self):
        turned = self.op("Transpose", self.current, perm=[1, 2, 0])
        made = self.op("Conv", turned, self.weight(4, self.width, 1), self.weight(4))
        self.current = self.op("Transpose", made, perm=[2, 0, 1])
        self.width = 4

    def activation(self):
        self.current = self.op(str(self.rng.choice(["Relu", "Sigmoid", "Tanh", "Elu", "Softplus"])), self.current)

    def softmax(self):
        self.current = self.op("Softmax", self.current, axis=-1)

    def gate(self):
        """A gated linear unit, by Split."""
        self.dense(6)
        self.op("Split", self.current, self.const([3, 3]), outputs=f"a{len(self.nodes)} b{len(self.nodes)}", axis=2)
        a, b = self.nodes[-1].output
        self.current = self.op("Mul", a, self.op("Sigmoid", b))
        self.width = 3

    def skip(self):
        x = "x" if self.axis == 0 else self.op("Transpose", "x", perm=[1, 0, 2])
        self.current = self.op("Concat", self.current, x, axis=-1)
        self.width += self.width_in

    def choice(self):
        positive = self.op("Greater", self.current, self.const(np.float32(0)))
        self.current = self.op("Where", positive, self.current, self.weight(self.width))

    def ones_like(self):
        """Keras multiplies by ones of the same shape where dropout would be."""
        ones = self.op("Expand", self.const(np.float32(1)), self.op("Shape", self.current))
        self.current = self.op("Mul", self.current, ones)

    # ---- heads ----

    def last(self, how):
        """The last step only: y[:, -1] of torch, the strided slice of Keras, or the same on [N, T, ..]."""
        if how == "slice":
            ends = [self.const([v]) for v in (-1, 2**31 - 1, 0)]
            self.current = self.op("Squeeze", self.op("Slice", self.current, *ends), self.const([0]))
        else:
            turned = self.op("Transpose", self.current, perm=[1, 0, 2])
            self.current = self.op("Gather", turned, self.const(-1), axis=1)
        self.out_axis = None

    def batch_first(self):
        self.current = self.op("Transpose", self.current, perm=[1, 0, 2])
        self.out_axis = 1


BETWEEN = [
    "activation", "batch_major", "batch_norm_on_rows", "choice", "conv_of_one_step", "gate", "hand_written_norm",
    "layer_norm", "ones_like", "skip", "softmax",
]  # fmt: skip


def random_net(rng: np.random.Generator) -> Net:
    net = Net(rng, str(rng.choice(["TN", "NT"])))
    for _ in range(int(rng.integers(1, 4))):
        for name in rng.choice(BETWEEN, int(rng.integers(0, 3))):
            getattr(net, name)()
        getattr(net, str(rng.choice(["dense", "dense_on_flat_rows"])))(int(rng.integers(1, 9)))
        _random_layer(net, rng)
    if rng.random() < 0.6:
        net.dense(3)
    if rng.random() < 0.6:
        net.last(str(rng.choice(["slice", "gather"]))) if rng.random() < 0.5 else net.batch_first()
    return net


def _random_layer(net, rng):
    kind = str(rng.choice(list(GATES)))
    attrs = {"GRU": {"linear_before_reset": int(rng.integers(2))}, "RNN": {}, "LSTM": {}}[kind]
    if kind == "LSTM":
        attrs = {"peepholes": bool(rng.integers(2)), "input_forget": int(rng.random() < 0.3)}
    if rng.random() < 0.2:
        attrs["clip"] = 1.5
    net.recurrent(
        kind,
        int(rng.integers(1, 21)),
        name=str(rng.choice(["", f"layer/{len(net.nodes)}"])),
        layout=int(rng.random() < 0.3),
        initial=str(rng.choice(["", "zeros", "expand", "tile"])),
        bias=bool(rng.random() < 0.8),
        **attrs,
    )


# ---- loops ----


def loop_net(cell, *, learned=False, extra="") -> onnx.ModelProto:
    """A cell on x [T, N, 3] as a Loop with one turn per step, whose h and c [N, 4] start from constants.

    `extra` is what each turn adds to x besides: its "number", or the "mean" over all steps.
    """
    rng = np.random.default_rng(8)
    width = 16 if cell == "lstm" else 4
    constants = {"W": rng.normal(size=(3, width)), "R": rng.normal(size=(4, width)) / 2, "b": rng.normal(size=width)}
    constants["start"] = rng.normal(size=(1, 4)) if learned else np.zeros((1, 4))
    constants = {name: value.astype("f4") for name, value in constants.items()}
    constants |= {"zero": np.array(0), "one": np.array([1]), "two": np.array([2]), "four": np.array([4])}
    outer = [
        node("Shape", "x", "shape"),
        node("Gather", "shape zero", "steps"),
        node("Slice", "shape one two", "rows"),
        node("Concat", "rows four", "size", axis=0),
        node("Expand", "start size", "h0"),
        node("ReduceMean", "x", "mean", keepdims=0),
        node("Loop", "steps true h0 h0", "hT cT y", body=_loop_body(cell, extra)),
    ]
    outer[-1].name = "loop"
    return make_model(outer, {"x": ("T", "N", 3)}, "y", constants | {"true": np.array(True)})


def _loop_body(cell, extra) -> onnx.GraphProto:
    nodes = [node("Gather", "x i", "xt", axis=0), node("Cast", "i", "number", to=1)]
    nodes += [node("Add", f"xt {extra}", "xa")] if extra else []
    nodes += [node("MatMul", f"{'xa' if extra else 'xt'} W", "xw"), node("MatMul", "h R", "hr")]
    nodes += [node("Add", "xw hr", "sum")]
    nodes += [node("Add", "sum b", "s")]
    if cell == "lstm":
        nodes += [node("Split", "s", "gi gf gc go", axis=1)]
        nodes += [node("Sigmoid", f"g{gate}", f"s{gate}") for gate in "ifo"]
        nodes += [node("Tanh", "gc", "tc"), node("Mul", "sf c", "kept"), node("Mul", "si tc", "new")]
        nodes += [node("Add", "kept new", "c2"), node("Tanh", "c2", "out"), node("Mul", "so out", "h2")]
    else:
        nodes += [node("Tanh", "s", "h2"), node("Identity", "c", "c2")]
    nodes += [node("Identity", "go_on", "still"), node("Identity", "h2", "step")]
    numbers = {"i": TensorProto.INT64, "go_on": TensorProto.BOOL}
    inputs = [helper.make_tensor_value_info(name, kind, []) for name, kind in numbers.items()]
    inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "hc"]
    outputs = [helper.make_tensor_value_info("still", TensorProto.BOOL, [])]
    outputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("h2", "c2", "step")]
    return helper.make_graph(nodes, "body", inputs, outputs)
