"""The float64 oracle itself: the ONNX text in small numbers, its corners, and the figures of other projects.

Agreement with onnxruntime over random models is in test_recurrent_grid.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import grid
import numpy as np
import onnx
import pytest
from corpus import Arrays, PeerCase, ZooCase
from onnx import TensorProto, helper, numpy_helper

from gateinfer import reference, reference_graph
from gateinfer.errors import GateInferError, ShapeError, UnsupportedOp
from gateinfer.graph.fold import fold_constants, specialize
from gateinfer.graph.ir import Graph, Node
from gateinfer.graph.recurrent_attrs import Recurrent, parse_recurrent
from gateinfer.loaders.onnx import load_onnx

CELLS = {"LSTM": reference.lstm, "GRU": reference.gru, "RNN": reference.rnn}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
RNG = np.random.default_rng(5)


def _spec(kind: str, **attrs: object) -> Recurrent:
    return parse_recurrent(Node(kind, (), (), attrs))


def _arrays(kind: str, T: int = 4, N: int = 3, H: int = 5, D: int = 1) -> dict[str, np.ndarray]:
    G = GATES[kind]
    shapes = {"X": (T, N, 2), "W": (D, G * H, 2), "R": (D, G * H, H), "B": (D, 2 * G * H), "initial_h": (D, N, H)}
    if kind == "LSTM":
        shapes |= {"initial_c": (D, N, H), "P": (D, 3 * H)}
    return {name: RNG.normal(size=shape) for name, shape in shapes.items()}


def _scalar(kind: str, **values: float) -> dict[str, np.ndarray]:
    """A cell with I = H = 1 for one step: W_i=.., R_i=.., Wb_i=.., Rb_i=.., P_i=.., x, h, c; everything else is 0."""
    order = {"LSTM": "iofc", "GRU": "zrh", "RNN": "i"}[kind]

    def pick(prefix: str, gates: str = order) -> list[float]:
        return [values.get(f"{prefix}_{gate}", 0.0) for gate in gates]

    arrays = {"X": [[[values.get("x", 0.0)]]], "W": [np.transpose([pick("W")])], "R": [np.transpose([pick("R")])]}
    arrays |= {"B": [pick("Wb") + pick("Rb")], "initial_h": [[[values.get("h", 0.0)]]]}
    if kind == "LSTM":
        arrays |= {"initial_c": [[[values.get("c", 0.0)]]], "P": [pick("P", "iof")]}
    return {name: np.array(array) for name, array in arrays.items()}


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


# ---- equations in scalars -------------------------------------------------------------------------------------------


def test_lstm_equations() -> None:
    """Gate order i o f c; P in the order i o f; i and f see the old c, o the new one."""
    v = {f"{m}_{g}": RNG.normal() for m in ("W", "R", "Wb", "Rb") for g in "iofc"}
    v |= {"P_i": 0.3, "P_o": -0.7, "P_f": 0.9, "x": 0.8, "h": -0.4, "c": 1.1}
    pre = {g: v[f"W_{g}"] * v["x"] + v[f"R_{g}"] * v["h"] + v[f"Wb_{g}"] + v[f"Rb_{g}"] for g in "iofc"}
    i, f = _sigmoid(pre["i"] + 0.3 * v["c"]), _sigmoid(pre["f"] + 0.9 * v["c"])
    c = f * v["c"] + i * math.tanh(pre["c"])
    h = _sigmoid(pre["o"] - 0.7 * c) * math.tanh(c)
    Y, Y_h, Y_c = reference.lstm(**_scalar("LSTM", **v), spec=_spec("LSTM"))
    np.testing.assert_allclose([Y.item(), Y_h.item(), Y_c.item()], [h, h, c], rtol=1e-14)


@pytest.mark.parametrize("after", [0, 1])
def test_gru_equations(after: int) -> None:
    """linear_before_reset decides whether the reset gate multiplies h or R h + Rb."""
    v = {f"{m}_{g}": RNG.normal() for m in ("W", "R", "Wb", "Rb") for g in "zrh"} | {"x": 0.8, "h": -0.4}
    pre = {g: v[f"W_{g}"] * v["x"] + v[f"R_{g}"] * v["h"] + v[f"Wb_{g}"] + v[f"Rb_{g}"] for g in "zr"}
    z, r = _sigmoid(pre["z"]), _sigmoid(pre["r"])
    past = r * (v["R_h"] * v["h"] + v["Rb_h"]) if after else v["R_h"] * (r * v["h"]) + v["Rb_h"]
    h = (1 - z) * math.tanh(v["W_h"] * v["x"] + v["Wb_h"] + past) + z * v["h"]
    Y, Y_h = reference.gru(**_scalar("GRU", **v), spec=_spec("GRU", linear_before_reset=after))
    np.testing.assert_allclose([Y.item(), Y_h.item()], [h, h], rtol=1e-14)


def test_rnn_equations() -> None:
    v = {"W_i": 0.5, "R_i": -1.5, "Wb_i": 0.25, "Rb_i": 0.125, "x": 2.0, "h": 0.75}
    Y, Y_h = reference.rnn(**_scalar("RNN", **v), spec=_spec("RNN"))
    np.testing.assert_allclose([Y.item(), Y_h.item()], math.tanh(1.0 - 1.125 + 0.375), rtol=1e-14)


def test_input_forget_ignores_the_forget_gate() -> None:
    """f = 1 - i, whatever the forget gate's own weights and peephole say."""
    v = {"W_i": 0.5, "W_c": 1.5, "x": 1.0, "c": 2.0, "P_i": 0.2}
    spec = _spec("LSTM", input_forget=1)
    _, _, c = reference.lstm(**_scalar("LSTM", **v), spec=spec)
    _, _, other = reference.lstm(**_scalar("LSTM", **v, W_f=9.0, P_f=9.0, Rb_f=9.0), spec=spec)
    i = _sigmoid(0.5 + 0.4)
    np.testing.assert_allclose([c.item(), other.item()], (1 - i) * 2.0 + i * math.tanh(1.5), rtol=1e-14)


def test_clip_bounds_pre_activations_not_the_cell_state() -> None:
    """As onnxruntime does: h(c) sees the whole c = 5, while i, f, o and the candidate see at most 0.5."""
    v = {"W_i": 9.0, "W_o": 9.0, "W_f": 9.0, "W_c": -9.0, "x": 1.0, "c": 5.0}
    _, h, c = reference.lstm(**_scalar("LSTM", **v), spec=_spec("LSTM", clip=0.5))
    new_c = _sigmoid(0.5) * 5.0 + _sigmoid(0.5) * math.tanh(-0.5)
    np.testing.assert_allclose([c.item(), h.item()], [new_c, _sigmoid(0.5) * math.tanh(new_c)], rtol=1e-14)


@pytest.mark.parametrize(
    ("name", "x", "y"),
    [
        ("Affine", -3.0, -3.0),
        ("LeakyRelu", -3.0, -0.03),
        ("ThresholdedRelu", 0.9, 0.0),  # onnxruntime: 0.9, it takes alpha = 0; the ONNX operator's default is 1
        ("ThresholdedRelu", 1.5, 1.5),
        ("HardSigmoid", 1.0, 0.7),
        ("HardSigmoid", 9.0, 1.0),
        ("Elu", -3.0, math.expm1(-3.0)),
        ("ScaledTanh", 0.5, math.tanh(0.5)),  # onnxruntime: 0, it takes alpha = beta = 0
        ("Softsign", -3.0, -0.75),
        ("Softplus", -3.0, math.log1p(math.exp(-3.0))),
        ("sOFTPLUS", 800.0, 800.0),
        ("SIGMOID", -700.0, math.exp(-700.0)),
        ("relu", -1.0, 0.0),
    ],
)
def test_activations_with_default_parameters(name: str, x: float, y: float) -> None:
    Y, _ = reference.rnn(**_scalar("RNN", W_i=1.0, x=x), spec=_spec("RNN", activations=[name]))
    np.testing.assert_allclose(Y.item(), y, rtol=1e-12)


@pytest.mark.parametrize("clip", [0.0, 0.5])
@pytest.mark.parametrize("name", grid.ACTIVATIONS)
def test_nan_stays_visible(name: str, clip: float) -> None:
    spec = _spec("RNN", activations=[name], clip=clip)
    Y, Y_h = reference.rnn(**_scalar("RNN", W_i=1.0, x=math.nan), spec=spec)
    assert np.isnan(Y).all() and np.isnan(Y_h).all()


# ---- directions, lengths, layout ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CELLS)
def test_ragged_rows_equal_the_rows_alone(kind: str) -> None:
    """Past its length a row of Y is 0; a reverse row starts at its own last element; Y_h is taken at the length."""
    spec = _spec(kind, direction="bidirectional")
    arrays = _arrays(kind, T=6, D=2)
    lens = np.array([6, 2, 4], np.int32)
    results = CELLS[kind](**arrays, sequence_lens=lens, spec=spec)
    for n, length in enumerate(lens):
        row = {name: a[:, [n]] if name in ("X", "initial_h", "initial_c") else a for name, a in arrays.items()}
        alone = CELLS[kind](**row | {"X": row["X"][:length]}, spec=spec)
        np.testing.assert_allclose(results[0][:length, :, [n]], alone[0], rtol=1e-12)
        assert not results[0][length:, :, n].any()
        for together, single in zip(results[1:], alone[1:], strict=True):
            np.testing.assert_allclose(together[:, [n]], single, rtol=1e-12)


@pytest.mark.parametrize("kind", CELLS)
def test_reverse_is_forward_on_the_reversed_sequence(kind: str) -> None:
    arrays = _arrays(kind)
    backward = CELLS[kind](**arrays, spec=_spec(kind, direction="reverse"))
    forward = CELLS[kind](**arrays | {"X": arrays["X"][::-1]}, spec=_spec(kind))
    np.testing.assert_array_equal(backward[0], forward[0][::-1])
    np.testing.assert_array_equal(backward[1], forward[1])


@pytest.mark.parametrize("kind", CELLS)
def test_layout_one_is_batch_first(kind: str) -> None:
    """Y [N, T, D, H], states [N, D, H]. onnxruntime refuses layout 1, so layout 0 is the oracle here."""
    spec = _spec(kind, direction="bidirectional")
    arrays = _arrays(kind, D=2) | {"sequence_lens": np.array([4, 0, 2])}
    swapped = {n: a.swapaxes(0, 1) if n in ("X", "initial_h", "initial_c") else a for n, a in arrays.items()}
    Y, *finals = CELLS[kind](**arrays, spec=spec)
    Y_swapped, *finals_swapped = CELLS[kind](**swapped, spec=spec._replace(layout=1))
    np.testing.assert_array_equal(Y_swapped, Y.transpose(2, 0, 1, 3))
    for batch_first, time_first in zip(finals_swapped, finals, strict=True):
        np.testing.assert_array_equal(batch_first, time_first.swapaxes(0, 1))


@pytest.mark.parametrize("kind", CELLS)
def test_rows_of_length_zero(kind: str) -> None:
    """Zero outputs and zero final states, although initial_h is not: onnxruntime's answer; the ONNX text has none."""
    ort = pytest.importorskip("onnxruntime")
    arrays = {n: a.astype(np.float32) for n, a in _arrays(kind, D=2).items()}
    arrays["sequence_lens"] = np.array([0, 4, 0], np.int32)
    results = CELLS[kind](**arrays, spec=_spec(kind, direction="bidirectional"))
    session = ort.InferenceSession(_model(kind, arrays), providers=["CPUExecutionProvider"])
    for mine, theirs in zip(results, session.run(None, arrays), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)
        rows = np.take(mine, [0, 2], axis=-2)
        assert not rows.any() and mine.any()


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_no_steps(kind: str) -> None:
    """T = 0: Y_h is zero, as in onnxruntime, which is not asked for GRU (it aborts) and Y_c (it never writes it)."""
    ort = pytest.importorskip("onnxruntime")
    arrays = {n: a.astype(np.float32) for n, a in _arrays(kind, T=0, D=2).items()}
    Y, Y_h, *_ = CELLS[kind](**arrays, spec=_spec(kind, direction="bidirectional"))
    session = ort.InferenceSession(_model(kind, arrays), providers=["CPUExecutionProvider"])
    their_Y, their_Y_h = session.run(["Y", "Y_h"], arrays)
    assert Y.shape == their_Y.shape
    np.testing.assert_array_equal(Y_h, np.zeros((2, 3, 5)))
    np.testing.assert_array_equal(Y_h, their_Y_h)


def _model(kind: str, arrays: dict[str, np.ndarray]) -> bytes:
    """A bidirectional node with every array as a graph input."""
    names = {"LSTM": "X W R B sequence_lens initial_h initial_c P"}.get(kind, "X W R B sequence_lens initial_h").split()
    outputs = ["Y", "Y_h", "Y_c"] if kind == "LSTM" else ["Y", "Y_h"]
    inputs = [name if name in arrays else "" for name in names]
    node = helper.make_node(kind, inputs, outputs, hidden_size=5, direction="bidirectional")
    ports = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), None) for n, a in arrays.items()
    ]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    return _content(helper.make_graph([node], "cell", ports, results), 14)


def _content(graph: onnx.GraphProto, opset: int) -> bytes:
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


@pytest.mark.parametrize("kind", CELLS)
def test_no_rows(kind: str) -> None:
    """N = 0 gives empty results; onnxruntime aborts the process for LSTM and GRU and agrees for RNN."""
    shapes = [r.shape for r in CELLS[kind](**_arrays(kind, N=0), spec=_spec(kind))]
    assert shapes == [(4, 1, 0, 5)] + [(1, 0, 5)] * (len(shapes) - 1)


@pytest.mark.parametrize("lens", [[1, 2], [1, 2, 5], [-1, 2, 3]])
def test_bad_lengths(lens: list[int]) -> None:
    with pytest.raises(ShapeError, match="sequence_lens"):
        reference.rnn(**_arrays("RNN"), sequence_lens=np.array(lens), spec=_spec("RNN"))


def test_bad_initial_state() -> None:
    with pytest.raises(ShapeError, match="initial state"):
        reference.rnn(**_arrays("RNN") | {"initial_h": np.zeros((1, 2, 5))}, spec=_spec("RNN"))


def test_feeds_are_not_written_to() -> None:
    arrays = _arrays("LSTM")
    before = {name: a.copy() for name, a in arrays.items()}
    reference.lstm(**arrays, spec=_spec("LSTM"))
    for name, array in before.items():
        np.testing.assert_array_equal(arrays[name], array)


# ---- graphs ---------------------------------------------------------------------------------------------------------


def _graph(nodes: list[onnx.NodeProto], opset: int, feeds: dict[str, np.ndarray], **weights: np.ndarray) -> Graph:
    """Nodes between `feeds` and the last node's first output."""
    ports = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in feeds.items()
    ]
    result = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    return load_onnx(_content(helper.make_graph(nodes, "g", ports, [result], constants), opset))


def _run(nodes: list[onnx.NodeProto], opset: int, x: np.ndarray, **weights: np.ndarray) -> np.ndarray:
    (result,) = reference_graph.run_graph(_graph(nodes, opset, {"x": x}, **weights), {"x": x}).values()
    return result


def test_graph_computes_in_float64() -> None:
    """1 + 2^-40 survives a Cast to float32 and a float32 constant: neither may narrow the oracle."""
    nodes = [
        helper.make_node("Add", ["x", "one"], ["y"]),
        helper.make_node("Cast", ["y"], ["z"], to=TensorProto.FLOAT),
    ]
    x = np.array([2.0**-40])
    result = _run(nodes, 14, x.astype(np.float32), one=np.ones(1, np.float32))
    assert result.dtype == np.float64 and result[0] - 1.0 == 2.0**-40


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 0, 4)])
def test_softmax_before_version_13_spans_the_trailing_axes(op: str, shape: tuple[int, ...]) -> None:
    x = RNG.normal(size=shape).astype(np.float32)
    e = np.exp(x.astype(np.float64))
    wanted = e / e.sum(axis=(1, 2), keepdims=True)
    result = _run([helper.make_node(op, ["x"], ["y"])], 11, x)
    np.testing.assert_allclose(result, wanted if op == "Softmax" else np.log(wanted), rtol=1e-12)


@pytest.mark.parametrize("opset", [7, 9, 14])
def test_batch_normalization_does_not_train(opset: int) -> None:
    x = RNG.normal(size=(3, 2)).astype(np.float32)
    weights = {n: np.array(v, np.float32) for n, v in {"s": [1, 2], "b": [3, 4], "m": [0.5, 1], "v": [4, 9]}.items()}
    node = helper.make_node("BatchNormalization", ["x", *weights], ["y"], epsilon=0.0)
    result = _run([node], opset, x, **weights)
    np.testing.assert_allclose(result, (x.astype(float) - [0.5, 1]) / [2, 3] * [1, 2] + [3, 4], rtol=1e-12)


def test_missing_feed() -> None:
    graph = _graph([helper.make_node("Neg", ["x"], ["y"])], 14, {"x": np.ones(1, np.float32)})
    with pytest.raises(ShapeError, match="inputs x"):
        reference_graph.run_graph(graph, {})


def test_node_without_reference() -> None:
    with pytest.raises(UnsupportedOp, match="NoSuchOp"):
        reference_graph.compile_graph(Graph([], [], [Node("NoSuchOp", ("x",), ("y",))], {}))


def test_peer_figures(peer_case: PeerCase) -> None:
    def run() -> dict[str, np.ndarray]:
        shapes = {name: array.shape for name, array in peer_case.feeds.items()}
        return reference_graph.run_graph(specialize(load_onnx(peer_case.model), shapes), peer_case.feeds)

    if peer_case.expects_error:
        with pytest.raises(GateInferError):
            run()
    else:
        peer_case.check(run())


# ---- real models ----------------------------------------------------------------------------------------------------

FRAMES = 15


def _exact_steps(case: ZooCase) -> Iterator[Arrays]:
    """All outputs of every frame or call by name, state outputs included, with the state handed back."""
    graph, states = fold_constants(load_onnx(case.model)), dict(case.initial)
    compiled: dict[tuple, Callable[[Arrays], Arrays]] = {}
    for feeds, _ in case.calls():
        shapes = {name: np.shape(array) for name, array in (feeds | states).items()}
        key = tuple(shapes.items())
        if key not in compiled:
            compiled[key] = reference_graph.compile_graph(specialize(graph, shapes, case.constant_feeds()))
        results = compiled[key](feeds | states)
        states = {name: results[output] for name, output in case.states.items()}
        yield results


def test_real_models(zoo_case: ZooCase) -> None:
    """The first frames or calls, with the state handed back. The figures are float32: the zoo's tolerance applies."""
    steps = zip(range(FRAMES), _exact_steps(zoo_case), zoo_case.calls(), strict=False)
    for step, results, (_, expected) in steps:
        for name, figures in expected.items():
            np.testing.assert_allclose(results[name], figures, rtol=1e-3, atol=1e-4, err_msg=f"{name} at step {step}")
