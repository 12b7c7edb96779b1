"""Single layers as .tflite files, written with the schema that LiteRT ships: no converter, no TensorFlow.

Cells are spelled in fully connected and element-wise operators, unrolled over time behind one hoisted input product:
XNNPACK takes all of it. LiteRT's fused LSTM operator, which a converter emits for a Keras LSTM, has plain loops and is
faster only for single steps of the smallest layers; there it is used.
"""

from __future__ import annotations

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from bench.cases import GATES, Layer

Op = schema.BuiltinOperator
OMITTED = -1
LARGEST_FUSED = 32


def build(layer: Layer) -> bytes:
    writer = Writer()
    fused = layer.op == "LSTM" and layer.seq_len * layer.rows == 1 and layer.size <= LARGEST_FUSED
    weights = {name: value[0] for name, value in layer.weights().items()}
    (fused_lstm if fused else unrolled)(writer, layer, weights)
    return writer.finish()


class Writer:
    """Tensors and operators of one graph, numbered in the order they are added."""

    def __init__(self) -> None:
        self._model, self._graph = schema.ModelT(), schema.SubGraphT()
        self._model.version, self._model.subgraphs, self._model.operatorCodes = 3, [self._graph], []
        self._model.buffers = [schema.BufferT()]  # buffer 0 means: no content
        self._graph.tensors, self._graph.operators = [], []
        self._codes: dict[int, int] = {}

    def tensor(self, *shape: int, variable: bool = False) -> int:
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.isVariable = np.array(shape, np.int32), schema.TensorType.FLOAT32, variable
        tensor.name = f"t{len(self._graph.tensors)}"
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def constant(self, value: np.ndarray) -> int:
        index = self.tensor(*value.shape)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(value).tobytes(), np.uint8)
        self._graph.tensors[index].buffer = len(self._model.buffers)
        if value.dtype == np.int32:
            self._graph.tensors[index].type = schema.TensorType.INT32
        self._model.buffers.append(buffer)
        return index

    def op(self, code: int, inputs: list[int], outputs: list[int], options=None, **settings) -> list[int]:
        """Add an operator; options: the schema's options class, settings: its fields."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault(code, len(self._codes))
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        if options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
            for name, value in settings.items():
                setattr(operator.builtinOptions, name, value)
        self._graph.operators.append(operator)
        return outputs

    def ports(self, inputs: list[int], outputs: list[int]) -> None:
        self._graph.inputs, self._graph.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)

    def finish(self) -> bytes:
        for code in self._codes:
            entry = schema.OperatorCodeT()
            entry.builtinCode = entry.deprecatedBuiltinCode = code
            self._model.operatorCodes.append(entry)
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self._model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


def fused_lstm(w: Writer, layer: Layer, weights: dict[str, np.ndarray]) -> None:
    T, N, H = layer.seq_len, layer.rows, layer.size
    order = (0, 2, 3, 1)  # iofc to LiteRT's i f c o
    x, y = w.tensor(T, N, H), w.tensor(T, N, H)
    bias = sum(np.split(weights["B"], 2))
    W, R, B = ([w.constant(np.split(value, 4)[k]) for k in order] for value in (weights["W"], weights["R"], bias))
    states = [w.tensor(N, H, variable=True) for _ in range(2)]
    inputs = [x, *W, *R, *[OMITTED] * 3, *B, *[OMITTED] * 2, *states, *[OMITTED] * 4]
    tanh = schema.ActivationFunctionType.TANH
    options = {"timeMajor": True, "fusedActivationFunction": tanh}
    w.op(Op.UNIDIRECTIONAL_SEQUENCE_LSTM, inputs, [y], "UnidirectionalSequenceLSTMOptions", **options)
    w.ports([x], [y])


def unrolled(w: Writer, layer: Layer, weights: dict[str, np.ndarray]) -> None:
    T, N, H, G = layer.seq_len, layer.rows, layer.size, GATES[layer.op]
    Wb, Rb = (w.constant(b) for b in np.split(weights["B"], 2))
    W, R = w.constant(weights["W"]), w.constant(weights["R"])
    x, initial = w.tensor(T * N, H), [w.tensor(N, H) for _ in layer.states]
    pre = w.op(Op.FULLY_CONNECTED, [x, W, Wb], [w.tensor(T * N, G * H)], "FullyConnectedOptions")
    if T > 1:
        pre = split(w, pre[0], 0, [w.tensor(N, G * H) for _ in range(T)])
    y, states, step = [], initial, lstm_step if layer.op == "LSTM" else gru_step
    cell = Cell(w, N, H)
    for one in pre:
        rec = w.op(Op.FULLY_CONNECTED, [states[0], R, Rb], [w.tensor(N, G * H)], "FullyConnectedOptions")[0]
        states = step(cell, one, rec, states)
        y.append(states[0])
    if T > 1:
        y = w.op(Op.CONCATENATION, y, [w.tensor(T * N, H)], "ConcatenationOptions", axis=0)
    w.ports([x, *initial], [y[0], *states])


class Cell:
    """Element-wise operators on [N, H]."""

    def __init__(self, writer: Writer, N: int, H: int) -> None:
        self._writer, self._shape = writer, (N, H)

    def binary(self, name: str, a: int, b: int) -> int:
        code, out = getattr(Op, name.upper()), self._writer.tensor(*self._shape)
        return self._writer.op(code, [a, b], [out], f"{name}Options")[0]

    def unary(self, code: int, a: int) -> int:
        return self._writer.op(code, [a], [self._writer.tensor(*self._shape)])[0]

    def gates(self, value: int, count: int) -> list[int]:
        """[N, G H] in its G blocks."""
        return split(self._writer, value, 1, [self._writer.tensor(*self._shape) for _ in range(count)])


def lstm_step(cell: Cell, pre: int, rec: int, states: list[int]) -> list[int]:
    """c' = f c + i tanh(.), h' = o tanh(c'); pre = W x + Wb, rec = R h + Rb [N, 4 H] in the order i o f c."""
    sums = [cell.binary("Add", a, b) for a, b in zip(cell.gates(pre, 4), cell.gates(rec, 4), strict=True)]
    i, o, f = (cell.unary(Op.LOGISTIC, a) for a in sums[:3])
    new = cell.binary("Mul", i, cell.unary(Op.TANH, sums[3]))
    c = cell.binary("Add", cell.binary("Mul", f, states[1]), new)
    return [cell.binary("Mul", o, cell.unary(Op.TANH, c)), c]


def gru_step(cell: Cell, pre: int, rec: int, states: list[int]) -> list[int]:
    """h' = c + z (h - c), c = tanh(pre_c + r rec_c); pre = W x + Wb, rec = R h + Rb [N, 3 H] in the order z r c."""
    (xz, xr, xc), (hz, hr, hc) = cell.gates(pre, 3), cell.gates(rec, 3)
    z, r = (cell.unary(Op.LOGISTIC, cell.binary("Add", a, b)) for a, b in ((xz, hz), (xr, hr)))
    c = cell.unary(Op.TANH, cell.binary("Add", xc, cell.binary("Mul", r, hc)))
    return [cell.binary("Add", c, cell.binary("Mul", z, cell.binary("Sub", states[0], c)))]


def split(w: Writer, value: int, axis: int, parts: list[int]) -> list[int]:
    inputs = [w.constant(np.array(axis, np.int32)), value]
    return w.op(Op.SPLIT, inputs, parts, "SplitOptions", numSplits=len(parts))
