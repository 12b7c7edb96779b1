"""Recurrent modules from arrays: key patterns, gate orders and options of PyTorch, Keras, TensorFlow and ONNX.

The figures of PyTorch and Keras are their float64 outputs, made by the programs in tests/data.
"""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import gateinfer as gi

DATA = Path(__file__).parent / "data"
TOLERANCE = {"rtol": 1e-5, "atol": 2e-6}
"""Float32 against float64 on five steps of at most five hidden units."""

Arrays = dict[str, np.ndarray]


def golden(framework: str) -> dict[str, Arrays]:
    """Arrays by case; those of the module under `w/`."""
    cases: dict[str, Arrays] = {}
    with np.load(DATA / f"{framework}_golden.npz") as file:
        for key in file.files:
            case, _, name = key.partition("/")
            cases.setdefault(case, {})[name] = file[key]
    return cases


def weights_of(case: Arrays) -> Arrays:
    return {key.removeprefix("w/"): array for key, array in case.items() if key.startswith("w/")}


def torch_lstm(layers: int = 1, inputs: int = 3, hidden: int = 4, *, bidirectional: bool = False) -> Arrays:
    """A state_dict of torch.nn.LSTM."""
    rng = np.random.default_rng(0)
    state_dict = {}
    for layer in range(layers):
        width = inputs if layer == 0 else hidden * (2 if bidirectional else 1)
        for side in ("", "_reverse")[: 1 + bidirectional]:
            shapes = {"weight_ih": (4 * hidden, width), "weight_hh": (4 * hidden, hidden)}
            shapes |= {"bias_ih": (4 * hidden,), "bias_hh": (4 * hidden,)}
            for name, shape in shapes.items():
                state_dict[f"{name}_l{layer}{side}"] = rng.normal(size=shape).astype(np.float32) * 0.4
    return state_dict


def sequence(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


# ---- PyTorch ---------------------------------------------------------------------------------------------------------


TORCH = golden("torch")


def torch_model(name: str, **options) -> gi.Model:
    kind = name.split("-")[0].lower()
    if "relu" in name:
        options["nonlinearity"] = "relu"
    return gi.from_weights(weights_of(TORCH[name]), kind, "torch", batch_first="batch_first" in name, **options)


@pytest.mark.parametrize("name", TORCH)
def test_torch(name):
    case, model = TORCH[name], torch_model(name)
    np.testing.assert_allclose(model(case["x"]), case["y"], **TOLERANCE)
    if "h" in case:
        feeds = {port.name: case[port.name] for port in model.inputs}
        results = zip(("yh", "hn", "cn"), model.run(None, feeds), strict=False)
        for key, result in results:
            np.testing.assert_allclose(result, case[key], **TOLERANCE)


@pytest.mark.parametrize("name", [name for name in TORCH if "bidirectional" not in name])
@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_torch_streams_to_the_bits_of_one_run(name, chunk):
    x, model = TORCH[name]["x"], torch_model(name)
    axis = 1 if "batch_first" in name else 0
    stream = model.stream()
    pieces = [stream(piece) for piece in np.split(x, range(chunk, x.shape[axis], chunk), axis)]
    np.testing.assert_array_equal(np.concatenate(pieces, axis), model(x))


@pytest.mark.parametrize("name", [name for name in TORCH if "bidirectional" in name])
def test_bidirectional_cannot_be_streamed(name):
    model = torch_model(name)
    with pytest.raises(gi.StateMismatch, match=r'layer "\w+" runs backward in time'):
        model.stream()
    assert model.states == ()
    assert "runs backward in time" in str(model.summary())


def test_names_and_shapes():
    model = gi.from_weights(torch_lstm(2), "lstm", "torch")
    assert [(p.name, p.shape) for p in model.inputs] == [
        ("x", ("T", "N", 3)),
        ("h", (2, "N", 4)),
        ("c", (2, "N", 4)),
    ]
    assert [p.name for p in model.outputs] == ["y", "hn", "cn"]
    assert {s.input: s.output for s in model.states} == {"h": "hn", "c": "cn"}


@pytest.mark.parametrize("batch", [1, 3])
def test_states_start_from_zeros_of_any_batch(batch):
    model = gi.from_weights(torch_lstm(2))
    x, zeros = sequence(5, batch, 3), np.zeros((2, batch, 4), np.float32)
    y, hn, cn = model.run(None, {"x": x})
    for got, expected in zip((y, hn, cn), model.run(None, {"x": x, "h": zeros, "c": zeros}), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_state_left_alone_is_not_returned():
    model, x = gi.from_weights(torch_lstm()), sequence(5, 1, 3)
    assert isinstance(model(x), np.ndarray)
    assert set(model(x, h=np.zeros((1, 1, 4), np.float32))) == {"y", "hn"}
    assert set(model(x, *[np.zeros((1, 1, 4), np.float32)] * 2)) == {"y", "hn", "cn"}


def test_initial_state_is_what_reset_restores():
    start = {"h": np.full((1, 1, 4), 0.5, np.float32)}
    model, x = gi.from_weights(torch_lstm()), sequence(5, 1, 3)
    stream = model.stream(initial=start)
    first = stream(x)
    np.testing.assert_array_equal(first, model.run(["y"], {"x": x} | start)[0])
    assert not np.array_equal(stream(x), first)
    stream.reset()
    np.testing.assert_array_equal(stream(x), first)


@pytest.mark.parametrize("prefix", ["lstm.", "encoder.rnn.", "enc_", "module.1.lstm."])
def test_a_prefix_in_front_of_all_keys(prefix):
    plain = torch_lstm(2)
    prefixed = {prefix + key: array for key, array in plain.items()}
    x = sequence(5, 1, 3)
    expected = gi.from_weights(plain)(x)
    others = prefixed | {"head.weight": sequence(2, 4), "head.bias": sequence(2)}
    for model in (gi.from_weights(prefixed), gi.from_weights(others, prefix=prefix.rstrip("._"))):
        np.testing.assert_array_equal(model(x), expected)


def test_a_cell_is_one_layer():
    plain = torch_lstm()
    cell = {key.removesuffix("_l0"): array for key, array in plain.items()}
    short = {key.replace("weight", "w").replace("bias", "b"): array for key, array in cell.items()}
    x = sequence(5, 1, 3)
    for other in (cell, short):
        np.testing.assert_array_equal(gi.from_weights(other)(x), gi.from_weights(plain)(x))


class Tensor:
    """Stands for a tensor of another library."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


def test_element_types_and_strides():
    plain, x = torch_lstm(), sequence(5, 1, 3)
    halves = {key: array.astype(np.float16) for key, array in plain.items()}
    exact = {key: array.astype(np.float32) for key, array in halves.items()}
    expected = gi.from_weights(exact)(x)
    np.testing.assert_array_equal(gi.from_weights(halves)(x), expected)
    doubles = {key: array.astype(np.float64) for key, array in exact.items()}
    np.testing.assert_array_equal(gi.from_weights(doubles)(x), expected)
    strided = {key: np.asfortranarray(array[::-1])[::-1] for key, array in exact.items()}
    np.testing.assert_array_equal(gi.from_weights(strided)(x), expected)
    tensors = {key: Tensor(array) for key, array in exact.items()}
    np.testing.assert_array_equal(gi.from_weights(tensors)(x), expected)


def test_a_model_from_arrays_pickles_and_its_stream_copies():
    model, x = gi.from_weights(torch_lstm(2)), sequence(5, 1, 3)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model))(x), model(x))
    stream = model.stream()
    stream(x)
    np.testing.assert_array_equal(copy.copy(stream)(x), pickle.loads(pickle.dumps(stream))(x))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_both_oracles_agree(bidirectional):
    model = gi.from_weights(torch_lstm(2, bidirectional=bidirectional))
    report = gi.validate(model, [sequence(4, 2, 3), sequence(4, 2, 3)]).check()
    assert not report.skipped


# ---- Keras -----------------------------------------------------------------------------------------------------------

KERAS = golden("keras")


def keras_options(name: str) -> dict:
    options = {}
    if "last" in name:
        options["return_sequences"] = False
    if "backwards" in name:
        options["go_backwards"] = True
    if "relu" in name:
        options |= {"activation": "relu", "recurrent_activation": "hard_sigmoid"}
    if name.endswith(("sum", "ave")):
        options["merge_mode"] = name[-3:]
    return options


@pytest.mark.parametrize("as_list", [False, True], ids=["paths", "get_weights"])
@pytest.mark.parametrize("name", KERAS)
def test_keras(name, as_list):
    case = KERAS[name]
    weights = weights_of(case)
    model = gi.from_weights(list(weights.values()) if as_list else weights, layout="keras", **keras_options(name))
    np.testing.assert_allclose(model(case["x"]), case["y"], **TOLERANCE)


KERAS_SPELLINGS = {
    "bare": lambda side, role: side + role,
    "with :0": lambda side, role: f"net/{side}lstm/lstm_cell/{role}:0",
    "flat": lambda side, role: f"enc_{side}{role}",
    "folders": lambda side, role: f"{side.rstrip('_')}/{role}" if side else role,
    "numbered": lambda side, role: (
        f"{side}layer/cell/vars/{('kernel', 'recurrent_kernel', 'bias').index(role)}" if side else f"cell/vars/{role}"
    ),
}


@pytest.mark.parametrize("spelling", KERAS_SPELLINGS)
def test_spellings_of_keras_keys(spelling):
    case = KERAS["bidirectional-lstm"]
    arrays = list(weights_of(case).values())
    roles = [(side, role) for side in ("forward_", "backward_") for role in ("kernel", "recurrent_kernel", "bias")]
    spelled = {KERAS_SPELLINGS[spelling](*role): array for role, array in zip(roles, arrays, strict=True)}
    np.testing.assert_allclose(gi.from_weights(spelled)(case["x"]), case["y"], **TOLERANCE)


def test_keras_streams():
    case = KERAS["gru-after"]
    model = gi.from_weights(weights_of(case))
    stream = model.stream()
    frames = [stream(case["x"][:, t : t + 1]) for t in range(case["x"].shape[1])]
    np.testing.assert_array_equal(np.concatenate(frames, 1), model(case["x"]))


def test_a_keras_gru_without_bias_needs_reset_after():
    weights = weights_of(KERAS["gru-after"])
    bare = {key: array for key, array in weights.items() if "bias" not in key}
    with pytest.raises(gi.ModelError, match="reset_after"):
        gi.from_weights(bare)
    zeros = weights | {key: array * 0 for key, array in weights.items() if "bias" in key}
    x = KERAS["gru-after"]["x"]
    np.testing.assert_array_equal(gi.from_weights(bare, reset_after=True)(x), gi.from_weights(zeros)(x))


def test_reset_after_against_the_bias():
    with pytest.raises(gi.ModelError, match=r'bias": expected shape \[12\].*reset_after=False.*got \[2, 12\]'):
        gi.from_weights(weights_of(KERAS["gru-after"]), reset_after=False)


# ---- TensorFlow and ONNX ---------------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def tf_lstm_step(x, h, c, kernel, bias, forget_bias, peepholes=None):
    """BasicLSTMCell and, with peepholes (w_i, w_f, w_o), LSTMCell: gates i j f o of (x, h) kernel + bias."""
    i, j, f, o = np.split(np.concatenate([x, h], 1) @ kernel + bias, 4, axis=1)
    wi, wf, wo = peepholes or (0, 0, 0)
    c = sigmoid(f + forget_bias + wf * c) * c + sigmoid(i + wi * c) * np.tanh(j)
    return sigmoid(o + wo * c) * np.tanh(c), c


@pytest.mark.parametrize("forget_bias", [1.0, 0.0])
@pytest.mark.parametrize("peepholes", [False, True])
def test_tf_lstm(forget_bias, peepholes):
    hidden, inputs = 4, 3
    rng = np.random.default_rng(0)
    owner = "rnn/basic_lstm_cell/"
    weights = {owner + "kernel": rng.normal(size=(7, 16)), owner + "bias": rng.normal(size=16)}
    diagonals = [rng.normal(size=4).astype(np.float32) for _ in range(3)] if peepholes else None
    if diagonals:
        weights |= {f"{owner}w_{gate}_diag": d for gate, d in zip("ifo", diagonals, strict=True)}
    weights = {key: np.asarray(array, np.float32) for key, array in weights.items()}
    x = rng.normal(size=(2, 6, inputs)).astype(np.float32)
    h, c, expected = np.zeros((2, hidden)), np.zeros((2, hidden)), []
    for t in range(6):
        h, c = tf_lstm_step(x[:, t], h, c, weights[owner + "kernel"], weights[owner + "bias"], forget_bias, diagonals)
        expected.append(h)
    model = gi.from_weights(weights, layout="tf", forget_bias=forget_bias)
    np.testing.assert_allclose(model(x), np.stack(expected, 1), **TOLERANCE)


def test_tf_gru_resets_before_the_product():
    rng = np.random.default_rng(0)
    shapes = {"gates/kernel": (7, 8), "gates/bias": (8,), "candidate/kernel": (7, 4), "candidate/bias": (4,)}
    weights = {f"gru_cell/{name}:0": rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    gk, gb, ck, cb = weights.values()
    x = rng.normal(size=(2, 5, 3)).astype(np.float32)
    h, expected = np.zeros((2, 4)), []
    for t in range(5):
        r, u = np.split(sigmoid(np.concatenate([x[:, t], h], 1) @ gk + gb), 2, axis=1)
        candidate = np.tanh(np.concatenate([x[:, t], r * h], 1) @ ck + cb)
        h = u * h + (1 - u) * candidate
        expected.append(h)
    np.testing.assert_allclose(gi.from_weights(weights)(x), np.stack(expected, 1), **TOLERANCE)


def tf_cells(*sizes: int) -> Arrays:
    rng = np.random.default_rng(0)
    weights: Arrays = {}
    for number, (inputs, hidden) in enumerate(pairwise(sizes)):
        owner = f"rnn/multi_rnn_cell/cell_{number}/basic_rnn_cell/"
        weights[owner + "kernel"] = rng.normal(size=(inputs + hidden, hidden)).astype(np.float32) * 0.5
        weights[owner + "bias"] = rng.normal(size=hidden).astype(np.float32)
    return weights


def test_tf_cells_of_different_sizes():
    """Each keeps a state of its own."""
    weights = tf_cells(3, 5, 4)
    x, y = sequence(2, 6, 3), []
    h1, h2 = np.zeros((2, 5)), np.zeros((2, 4))
    k1, b1, k2, b2 = weights.values()
    for t in range(6):
        h1 = np.tanh(np.concatenate([x[:, t], h1], 1) @ k1 + b1)
        h2 = np.tanh(np.concatenate([h1, h2], 1) @ k2 + b2)
        y.append(h2)
    model = gi.from_weights(weights)
    np.testing.assert_allclose(model(x), np.stack(y, 1), **TOLERANCE)
    assert {s.input: s.output for s in model.states} == {"h": "hn", "h_2": "h_2n"}
    stream = model.stream()
    frames = [stream(x[:, t : t + 1]) for t in range(6)]
    np.testing.assert_array_equal(np.concatenate(frames, 1), model(x))


@pytest.mark.parametrize("directions", [1, 2])
def test_onnx_layout_is_the_layout_of_the_engine(directions):
    state_dict = torch_lstm(bidirectional=directions == 2)
    x = sequence(5, 1, 3)
    expected = gi.from_weights(state_dict)(x)
    graph = gi.from_weights(state_dict).graph
    arrays = {key.removeprefix("lstm."): array for key, array in graph.constants.items() if key[-1] in "WRB"}
    model = gi.from_weights({f"cell.{key}": array for key, array in arrays.items()}, layout="onnx")
    np.testing.assert_array_equal(model(x), expected)


def test_onnx_gru_defaults_to_reset_before():
    rng = np.random.default_rng(0)
    arrays = {"W": rng.normal(size=(1, 12, 3)), "R": rng.normal(size=(1, 12, 4)), "B": rng.normal(size=(1, 24))}
    x = sequence(5, 1, 3)
    before, after = gi.from_weights(arrays), gi.from_weights(arrays, linear_before_reset=True)
    assert not np.allclose(before(x), after(x))


# ---- what is wrong with arrays ---------------------------------------------------------------------------------------


def without(key: str, **extra) -> Arrays:
    arrays = torch_lstm(2, bidirectional=True) | extra
    arrays.pop(key)
    return arrays


LSTM = torch_lstm(2, bidirectional=True)
BAD_SETS = {
    "missing key": (without("weight_hh_l1"), r'"weight_hh_l1" is missing'),
    "near miss": (
        without("bias_hh_l1", bias_hh_11=np.zeros(16)),
        r'"bias_hh_l1" is missing.*is it .bias_hh_11',
    ),
    "missing direction": (without("weight_ih_l0_reverse"), r'"weight_ih_l0_reverse" is missing'),
    "misspelled": (LSTM | {"weight_ih_l2_revers": np.zeros((16, 8))}, r"match no pattern.*weight_ih_l2_revers"),
    "wrong rows": (LSTM | {"weight_ih_l0": np.zeros((12, 3))}, r'"weight_ih_l0": expected shape \[16, 3\].*\[12, 3\]'),
    "wrong columns": (LSTM | {"weight_ih_l1": np.zeros((16, 4))}, r'"weight_ih_l1" \[16, 4\]: .* size 8.*got 4'),
    "wrong bias": (LSTM | {"bias_hh_l0": np.zeros((1, 16))}, r'"bias_hh_l0": expected shape \[16\].*got \[1, 16\]'),
    "wrong rank": (LSTM | {"weight_hh_l0": np.zeros(16)}, r'"weight_hh_l0": expected 2 axes'),
    "empty": (LSTM | {"weight_ih_l0": np.zeros((16, 0))}, r'"weight_ih_l0": expected 2 axes.*none of them empty'),
    "gates of nothing": (
        {"weight_ih_l0": np.zeros((8, 3)), "weight_hh_l0": np.zeros((8, 4))},
        r'"weight_hh_l0" \[8, 4\]: expected H, 3\*H or 4\*H',
    ),
    "objects": (LSTM | {"weight_hh_l0": np.array([None, {}])}, r'"weight_hh_l0".*objects'),
    "text": (LSTM | {"weight_hh_l0": np.array(["a"])}, r'"weight_hh_l0": expected numbers'),
    "complex": (LSTM | {"weight_hh_l0": np.zeros((16, 4), complex)}, r"expected numbers"),
    "ragged": (LSTM | {"weight_hh_l0": [[1, 2], [3]]}, r'"weight_hh_l0"'),
    "inexact integers": (LSTM | {"bias_hh_l0": np.full(16, 2**24 + 1)}, r'"bias_hh_l0".*do not fit float32'),
    "too large": (LSTM | {"bias_hh_l0": np.full(16, 1e300)}, r'"bias_hh_l0".*exceed the range of float32'),
    "nan": (LSTM | {"bias_hh_l0": np.full(16, np.nan)}, r'"bias_hh_l0".*NaN'),
    "projection of a gru": (
        {"weight_ih_l0": np.zeros((12, 3)), "weight_hh_l0": np.zeros((12, 2)), "weight_hr_l0": np.zeros((2, 4))},
        r'"weight_hr_l0": only an LSTM has a projection',
    ),
    "others": (LSTM | {"fc.weight": np.zeros((2, 8))}, r'belong to no recurrent layer: "fc.weight".*prefix='),
    "two modules": (
        {f"{owner}.{key}": array for owner in "ab" for key, array in torch_lstm().items()},
        r'2 recurrent layers; pass prefix=.*"a.", "b."',
    ),
    "far layer": ({"weight_ih_l9999": np.zeros((16, 3))}, r"earlier layers are missing"),
    "nothing": ({}, r"no recurrent weights"),
    "strangers": ({"fc.weight": np.zeros((2, 8))}, r"no recurrent weights.*Sequential"),
    "no mapping": (np.zeros(3), r"mapping of key to array"),
    "keras without kernel": ({"recurrent_kernel": np.zeros((4, 16))}, r'"kernel" is missing'),
    "keras side": (
        {f"forward_{role}": np.zeros((4, 16)) for role in ("kernel", "recurrent_kernel")} | {"backward_kernel": [[1]]},
        r'"backward_recurrent_kernel" is missing: the backward layer',
    ),
    "keras shapes": (
        {"kernel": np.zeros((3, 12)), "recurrent_kernel": np.zeros((4, 16))},
        r'"kernel": expected shape \[3, 16\].*got \[3, 12\]',
    ),
    "list of one": ([np.zeros((3, 16))], r"2 or 3 arrays"),
    "tf half a gru": (
        {"gru_cell/gates/kernel": np.zeros((7, 8)), "gru_cell/gates/bias": np.zeros(8)},
        r'"gru_cell/candidate/bias" is missing',
    ),
    "tf kernel": (
        {"lstm_cell/kernel": np.zeros((4, 16)), "lstm_cell/bias": np.zeros(16)},
        r'"lstm_cell/kernel": expected shape \[I \+ 4, 16\]',
    ),
    "tf unordered": ({k.replace("cell_1", "cell_7"): v for k, v in tf_cells(3, 4, 4).items()}, r"no certain order"),
    "onnx without R": ({"W": np.zeros((1, 16, 3)), "B": np.zeros((1, 32))}, r"no recurrent weights of PyTorch"),
    "onnx shapes": ({"W": np.zeros((1, 16, 3)), "R": np.zeros((1, 16, 4)), "B": np.zeros((1, 16))}, r'"B": expected'),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_SETS)
def test_bad_sets(name):
    arrays, text = BAD_SETS[name]
    with pytest.raises(gi.ModelError, match=text):
        gi.from_weights(arrays)


BAD_OPTIONS = {
    "kind": ({"kind": "ltsm"}, "kind='ltsm'.*is it 'lstm'"),
    "layout": ({"layout": "pytorch"}, "layout='pytorch'.*is it 'torch'"),
    "other kind": ({"kind": "gru"}, r'"weight_hh_l0".*3\*H for kind=.gru.*as a lstm has'),
    "other layout": ({"layout": "keras"}, r'no Keras weights .*among the keys "weight_ih_l0"'),
    "claimed layers": ({"num_layers": 3}, "num_layers=3, but the weights say 2"),
    "claimed sides": ({"bidirectional": False}, "bidirectional=False, but"),
    "claimed projection": ({"proj_size": 2}, "proj_size=2, but the weights say 0"),
    "claimed size": ({"hidden_size": 5}, "hidden_size=5, but the weights say 4"),
    "unknown option": ({"dropout": 0.5}, "unknown option 'dropout'"),
    "activation": ({"activation": "tahn"}, "activation 'tahn' is not known; is it 'tanh'"),
    "not in cells": ({"activation": "softmax"}, "'softmax' does not exist inside recurrent cells"),
    "backwards": ({"go_backwards": True}, "one layer of one direction"),
    "merge": ({"merge_mode": "sum"}, "for one layer"),
    "clip": ({"clip": -1.0}, "clip=-1.0"),
    "prefix": ({"prefix": "rnn"}, "no PyTorch recurrent weights .*with the prefix 'rnn'"),
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_bad_options(name):
    options, text = BAD_OPTIONS[name]
    with pytest.raises(gi.GateInferError, match=text):
        gi.from_weights(LSTM, **options)


def test_nonfinite_weights_on_request():
    arrays = torch_lstm() | {"bias_hh_l0": np.full(16, np.nan, np.float32)}
    assert np.isnan(gi.from_weights(arrays, allow_nonfinite=True)(sequence(2, 1, 3))).all()


def test_onnx_is_not_imported():
    code = (
        "import sys, numpy as np, gateinfer as gi\n"
        "rng = np.random.default_rng(0)\n"
        "arrays = {f'weight_{s}_l{l}': rng.normal(size=(16, 4)) for s in ('ih', 'hh') for l in (0, 1)}\n"
        "model = gi.from_weights(arrays)\n"
        "model.stream()(np.zeros((2, 1, 4), np.float32)); model(np.zeros((2, 1, 4), np.float32))\n"
        "sys.exit('onnx' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
