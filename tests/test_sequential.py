"""gateinfer.Sequential: layers from arrays, against plain NumPy in float64, in one run and streamed."""

from __future__ import annotations

import numpy as np
import pytest
from corpus import shared_folder

import gateinfer as gi
from gateinfer import layers

TOLERANCE = {"rtol": 1e-5, "atol": 2e-6}
RNG = np.random.default_rng(0)


def array(*shape: int) -> np.ndarray:
    return (RNG.normal(size=shape) * 0.5).astype(np.float32)


def lstm(inputs: int, hidden: int, *, gates: int = 4, bidirectional: bool = False) -> dict[str, np.ndarray]:
    """A state_dict of one PyTorch layer."""
    found = {}
    for side in ("", "_reverse")[: 1 + bidirectional]:
        found[f"weight_ih_l0{side}"] = array(gates * hidden, inputs)
        found[f"weight_hh_l0{side}"] = array(gates * hidden, hidden)
        found |= {f"bias_{part}_l0{side}": array(gates * hidden) for part in ("ih", "hh")}
    return found


def conv(x, weight, bias, *, stride=1, dilation=1, groups=1, pads=(0, 0), mode="constant"):
    """x [N, T, C], weight [O, C / groups, K] -> [N, T', O], by the definition, in float64."""
    x = np.pad(x.astype(np.float64), ((0, 0), pads, (0, 0)), mode=mode)
    outputs, per_group, width = weight.shape
    reach = dilation * (width - 1) + 1
    steps = range(0, x.shape[1] - reach + 1, stride)
    y = np.zeros((x.shape[0], len(steps), outputs))
    for position, t in enumerate(steps):
        window = x[:, t : t + reach : dilation]
        for o in range(outputs):
            group = o // (outputs // groups)
            part = window[:, :, group * per_group : (group + 1) * per_group]
            y[:, position, o] = (part * weight[o].T).sum((1, 2))
    return y if bias is None else y + bias


def frames_of(stream: gi.Stream, x: np.ndarray, chunk: int) -> np.ndarray:
    return np.concatenate([stream(x[:, t : t + chunk]) for t in range(0, x.shape[1], chunk)], 1)


# ---- single layers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["torch", "keras"])
def test_dense(layout):
    w, b, x = array(4, 3), array(4), array(2, 5, 3)
    model = gi.Sequential([layers.Dense(w if layout == "torch" else w.T, b, layout=layout)])
    np.testing.assert_allclose(model(x), x.astype(np.float64) @ w.T + b, **TOLERANCE)
    assert [(p.name, p.shape) for p in model.inputs] == [("x", ("N", "T", 3))]
    assert [(p.name, p.shape) for p in model.outputs] == [("y", ("N", "T", 4))]


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def erf(x):
    return np.vectorize(__import__("math").erf)(x)


ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softmax": softmax,
    "log_softmax": lambda x: np.log(softmax(x)),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "gelu": lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "swish": lambda x: x / (1 + np.exp(-x)),
    "relu6": lambda x: np.clip(x, 0, 6),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "softsign": lambda x: x / (1 + abs(x)),
    "exp": np.exp,
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard_sigmoid_keras2": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "linear": lambda x: x,
    None: lambda x: x,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    x = (RNG.normal(size=(2, 5, 3)) * 4).astype(np.float32)
    identity = np.eye(3, dtype=np.float32)
    expected = ACTIVATIONS[name](x.astype(np.float64))
    np.testing.assert_allclose(gi.Sequential([layers.Dense(identity, activation=name)])(x), expected, **TOLERANCE)
    if name is not None:
        model = gi.Sequential([layers.Dense(identity), layers.Activation(name)])
        np.testing.assert_allclose(model(x), expected, **TOLERANCE)


def test_slope_of_leaky_relu():
    x = array(1, 4, 3)
    model = gi.Sequential([layers.Dense(np.eye(3)), layers.Activation("leaky_relu", alpha=0.3)])
    np.testing.assert_allclose(model(x), np.where(x > 0, x, 0.3 * x), **TOLERANCE)


def test_embedding():
    table = array(7, 3)
    model = gi.Sequential([layers.Embedding(table)])
    ids = np.array([[1, 6, 0], [2, 2, 5]])
    np.testing.assert_array_equal(model(ids), table[ids])
    assert model.inputs[0].shape == ("N", "T") and model.inputs[0].dtype == np.int64
    with pytest.raises(gi.ShapeError):
        model(np.array([[7]]))


def test_normalisation():
    x, gamma, beta = array(2, 5, 4), array(4), array(4)
    mean, variance = array(4), abs(array(4)) + 0.1
    wide = x.astype(np.float64)
    centred = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-3)
    layer = gi.Sequential([layers.LayerNorm(gamma, beta, epsilon=1e-3)])
    np.testing.assert_allclose(layer(x), centred * gamma + beta, **TOLERANCE)
    np.testing.assert_allclose(gi.Sequential([layers.LayerNorm(gamma, epsilon=1e-3)])(x), centred * gamma, **TOLERANCE)
    batch = gi.Sequential([layers.BatchNorm(gamma, beta, mean, variance)])
    expected = (wide - mean) / np.sqrt(variance.astype(np.float64) + 1e-5) * gamma + beta
    np.testing.assert_allclose(batch(x), expected, **TOLERANCE)


CONVS = {
    "valid": ({}, {}),
    "number": ({"padding": 2}, {"pads": (2, 2)}),
    "pair": ({"padding": (1, 3)}, {"pads": (1, 3)}),
    "same": ({"padding": "same"}, {"pads": (1, 1)}),
    "same, dilated": ({"padding": "same", "dilation": 2}, {"pads": (2, 2), "dilation": 2}),
    "strided": ({"stride": 2}, {"stride": 2}),
    "same, strided": ({"padding": "same", "stride": 2}, {"pads": (1, 1), "stride": 2}),
    "causal": ({"padding": "causal", "dilation": 3}, {"pads": (6, 0), "dilation": 3}),
    "causal, strided": ({"padding": "causal", "stride": 2}, {"pads": (2, 0), "stride": 2}),
    "groups": ({"groups": 2}, {"groups": 2}),
    "reflect": ({"padding": (2, 1), "padding_mode": "reflect"}, {"pads": (2, 1), "mode": "reflect"}),
}


@pytest.mark.parametrize("layout", ["torch", "keras"])
@pytest.mark.parametrize("name", CONVS)
def test_conv1d(name, layout):
    options, plain = CONVS[name]
    w, b, x = array(6, 4 // options.get("groups", 1), 3), array(6), array(2, 9, 4)
    kernel = w if layout == "torch" else w.transpose(2, 1, 0)
    model = gi.Sequential([layers.Conv1d(kernel, b, "relu", layout=layout, **options)])
    np.testing.assert_allclose(model(x), np.maximum(conv(x, w, b, **plain), 0), **TOLERANCE)


def test_magnitude():
    x = array(1, 4, 6)
    model = gi.Sequential([layers.Dense(np.eye(6)), layers.Magnitude()])
    np.testing.assert_allclose(model(x), np.hypot(x[..., :3], x[..., 3:]), **TOLERANCE)


# ---- together --------------------------------------------------------------------------------------------------------


def test_recurrent_layers_are_those_of_from_weights():
    first, second, x = lstm(3, 4), lstm(4, 5, gates=3), array(2, 6, 3)
    model = gi.Sequential([layers.LSTM(first), layers.GRU(second)])
    middle = gi.from_weights(first, batch_first=True)(x)
    np.testing.assert_array_equal(model(x), gi.from_weights(second, batch_first=True)(middle))
    pairs = {"lstm_h": "lstm_hn", "lstm_c": "lstm_cn", "gru_h": "gru_hn"}
    assert {s.input: s.output for s in model.states} == pairs


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 20])
def test_a_stream_equals_one_run(chunk):
    """Causal convolutions keep their past, however short the chunks are."""
    model = gi.Sequential(
        [
            layers.Conv1d(array(4, 3, 3), array(4), "relu", padding="causal", dilation=2),
            layers.Conv1d(array(4, 4, 1), array(4)),
            layers.LayerNorm(array(4), array(4)),
            layers.LSTM(lstm(4, 5)),
            layers.Conv1d(array(5, 5, 4), padding="causal"),
            layers.RNN(lstm(5, 3, gates=1), activation="relu"),
            layers.LSTM(lstm(3, 4)),
            layers.Dense(array(2, 4), array(2), "sigmoid"),
        ]
    )
    x = array(3, 20, 3)
    np.testing.assert_array_equal(frames_of(model.stream(), x, chunk), model(x))
    assert {s.input for s in model.states} == {
        "conv1d_cache", "lstm_h", "lstm_c", "conv1d_3_cache", "rnn_h", "lstm_2_h", "lstm_2_c",
    }  # fmt: skip


def test_one_layer_with_state_has_plain_names():
    model = gi.Sequential([layers.Conv1d(array(4, 3, 3), padding="causal"), layers.Dense(array(2, 4))])
    assert [s.input for s in model.states] == ["cache"]


def test_tokens_to_probabilities():
    model = gi.Sequential(
        [layers.Embedding(array(9, 4)), layers.GRU(lstm(4, 6, gates=3)), layers.Dense(array(9, 6), None, "softmax")]
    )
    ids = RNG.integers(0, 9, (1, 12))
    whole = model(ids)
    np.testing.assert_allclose(whole.sum(-1), 1, rtol=1e-6)
    stream = model.stream()
    np.testing.assert_array_equal(np.concatenate([stream([[i]]) for i in ids[0]], 1), whole)


def test_the_last_step_alone():
    weights, x = lstm(3, 4), array(2, 6, 3)
    head = layers.Dense(array(2, 4))
    model = gi.Sequential([layers.LSTM(weights, return_sequences=False), head])
    assert model.outputs[0].shape == ("N", 2)
    np.testing.assert_array_equal(model(x), gi.Sequential([layers.LSTM(weights), head])(x)[:, -1])
    stream = model.stream()
    stream(x[:, :4])
    np.testing.assert_array_equal(stream(x[:, 4:]), model(x))


def test_bidirectional_in_the_middle():
    weights, x = lstm(3, 4, bidirectional=True), array(2, 6, 3)
    model = gi.Sequential([layers.LSTM(weights), layers.Dense(array(2, 8))])
    assert model(x).shape == (2, 6, 2)
    gi.validate(model, [x]).check()


LOOK_AHEAD = {
    "same": (layers.Conv1d(array(4, 3, 3), padding="same"), 'layer "conv1d".*padding that is not causal'),
    "valid": (layers.Conv1d(array(4, 3, 3)), 'layer "conv1d".*padding that is not causal'),
    "strided": (layers.Conv1d(array(4, 3, 3), padding="causal", stride=2), 'layer "conv1d".*stride 2'),
    "backward": (layers.LSTM(lstm(3, 4, bidirectional=True)), 'layer "lstm" runs backward'),
}


@pytest.mark.parametrize("name", LOOK_AHEAD)
def test_what_mixes_over_time_is_not_streamed(name, tmp_path):
    layer, text = LOOK_AHEAD[name]
    features = 8 if name == "backward" else 4
    model = gi.Sequential([layer, layers.GRU(lstm(features, 3, gates=3))])
    model.save(tmp_path / "model.npz")
    for one in (model, gi.load(tmp_path / "model.npz")):
        assert one(array(1, 8, 3)).shape[0] == 1
        with pytest.raises(gi.StateMismatch, match=text):
            one.stream()


def test_frames_with_a_time_of_their_own():
    """Each frame of 16 samples becomes one step of the LSTM, which goes on from frame to frame."""
    kernel, weights, x = array(4, 1, 8), lstm(4, 3), array(5, 16, 1)
    model = gi.Sequential([layers.Conv1d(kernel, stride=8, padding="same"), layers.LSTM(weights)], per_frame=True)
    steps = gi.Sequential([layers.Conv1d(kernel, stride=8, padding="same")])(x)
    expected = gi.from_weights(weights, batch_first=True)(steps.reshape(1, -1, 4))
    stream = model.stream()
    got = np.concatenate([stream(frame[None]) for frame in x], 1)
    np.testing.assert_array_equal(got, expected)


# ---- what does not fit -----------------------------------------------------------------------------------------------

MISFITS = {
    "features": (lambda: [layers.Dense(array(4, 3)), layers.Dense(array(2, 5))], 'layer "dense_2".*5 features, got 4'),
    "turned": (lambda: [layers.Dense(array(4, 3)), layers.Dense(array(4, 5))], "is its weight meant for layout='keras"),
    "recurrent": (lambda: [layers.Dense(array(4, 3)), layers.LSTM(lstm(3, 2))], 'layer "lstm".*3 features, got 4'),
    "late ids": (lambda: [layers.Dense(array(4, 3)), layers.Embedding(array(4, 3))], "has to be the first layer"),
    "no time": (
        lambda: [layers.LSTM(lstm(3, 4), return_sequences=False), layers.GRU(lstm(4, 2, gates=3))],
        'layer "gru".*return_sequences=False',
    ),
    "no time for a window": (
        lambda: [layers.LSTM(lstm(3, 4), return_sequences=False), layers.Conv1d(array(2, 4, 3))],
        'layer "conv1d".*return_sequences=False',
    ),
    "channels": (lambda: [layers.Dense(array(4, 3)), layers.Conv1d(array(2, 3, 3))], 'layer "conv1d".*got 4'),
    "norm": (lambda: [layers.Dense(array(4, 3)), layers.LayerNorm(array(3))], 'layer "layer_norm"'),
    "beta": (lambda: [layers.LayerNorm(array(3), array(4))], r'"layer_norm.beta": expected shape \[3\]'),
    "bias": (lambda: [layers.Dense(array(4, 3), array(3))], r'"dense.bias": expected shape \[4\].*got \[3\]'),
    "rank": (lambda: [layers.Dense(array(4))], r'"dense.weight": expected 2 axes \[O, I\]'),
    "kind": (lambda: [layers.GRU(lstm(3, 4))], r'"weight_hh_l0".*kind=.gru'),
    "halves": (lambda: [layers.Dense(array(3, 3)), layers.Magnitude()], "even number of features, got 3"),
    "nothing": (lambda: [], "at least one layer"),
    "no size": (lambda: [layers.Activation("relu")], "how many features x has"),
    "no layer": (lambda: [np.zeros(3)], "layer 0: expected an instance of gateinfer.layers"),
    "a class": (lambda: [layers.Activation], "layer 0: expected an instance"),
    "activation": (lambda: [layers.Dense(array(2, 3), activation="rleu")], "'rleu' is not known; is it 'relu'"),
    "alpha": (lambda: [layers.Activation("tanh", alpha=2)], "has no alpha"),
    "padding": (lambda: [layers.Conv1d(array(2, 3, 3), padding="full")], "padding='full'"),
    "stride": (lambda: [layers.Conv1d(array(2, 3, 3), stride=0)], "stride=0"),
    "groups": (lambda: [layers.Conv1d(array(3, 3, 3), groups=2)], "groups=2"),
    "layout": (lambda: [layers.Dense(array(2, 3), layout="tf")], "layout='tf'"),
    "nan": (lambda: [layers.Dense(np.full((2, 3), np.nan))], r'"dense.weight" \[3, 2\] holds NaN'),
    "variance": (lambda: [layers.BatchNorm(*[np.zeros(2)] * 3, [-1, 1])], "variance"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISFITS)
def test_misfits(name):
    make, text = MISFITS[name]
    with pytest.raises(gi.GateInferError, match=text):
        gi.Sequential(make())


# ---- trained weights -------------------------------------------------------------------------------------------------


def weights(name: str) -> dict[str, np.ndarray]:
    path = shared_folder() / "zoo" / "weights" / name
    if not path.is_file():
        pytest.skip(f"no {path}: set GATEINFER_SHARED to the folder of the corpora")
    return gi.load_arrays(path)


def check_case(case, model: gi.Model, shape: tuple[int, ...]) -> None:
    """Streams the case's frames, each reshaped to `shape`, from its initial state."""
    stream = model.stream(initial=case.initial)
    for feeds, expected in case.calls():
        (frame,), (figures,) = feeds.values(), expected.values()
        np.testing.assert_allclose(stream(frame.reshape(shape)).ravel(), figures.ravel(), rtol=1e-3, atol=1e-4)
    for name, figures in case.final.items():
        np.testing.assert_allclose(stream.state[name], figures, rtol=1e-3, atol=1e-4)


def test_streamflow(zoo):
    arrays = weights("noaa-streamflow.pt")
    head = layers.Dense(arrays["head.net.0.weight"], arrays["head.net.0.bias"])
    check_case(zoo("noaa-streamflow"), gi.Sequential([layers.LSTM(arrays, prefix="lstm"), head]), (1, 1, 4))


def test_graphemes_to_phonemes(zoo):
    arrays = weights("g2p-en.npz")
    head = layers.Dense(arrays["fc_w"], arrays["fc_b"])
    decoder = [layers.Embedding(arrays["dec_emb"]), layers.GRU(arrays, prefix="dec_"), head]
    check_case(zoo("g2p-decoder"), gi.Sequential(decoder), (1, 1))
    encoder = gi.Sequential([layers.Embedding(arrays["enc_emb"]), layers.GRU(arrays, prefix="enc_")])
    assert encoder(np.arange(6)[None]).shape == (1, 6, 256)
