"""Writes keras_golden.npz: weights and float64 outputs of Keras layers. Run with Keras 3 installed.

Keys are `case/w/<path of the weight>`, `case/x`, `case/y`. Names of cases tell the layer: see `CASES`.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

BATCH, STEPS, INPUT, HIDDEN = 2, 5, 3, 4
layers = keras.layers

CASES = {
    "lstm": lambda: layers.LSTM(HIDDEN, return_sequences=True),
    "lstm-hard_sigmoid-relu": lambda: layers.LSTM(
        HIDDEN, return_sequences=True, activation="relu", recurrent_activation="hard_sigmoid", unit_forget_bias=False
    ),
    "lstm-last": lambda: layers.LSTM(HIDDEN),
    "lstm-nobias": lambda: layers.LSTM(HIDDEN, return_sequences=True, use_bias=False),
    "lstm-backwards": lambda: layers.LSTM(HIDDEN, return_sequences=True, go_backwards=True),
    "gru-after": lambda: layers.GRU(HIDDEN, return_sequences=True, reset_after=True),
    "gru-before": lambda: layers.GRU(HIDDEN, return_sequences=True, reset_after=False),
    "rnn": lambda: layers.SimpleRNN(HIDDEN, return_sequences=True),
    "bidirectional-lstm": lambda: layers.Bidirectional(layers.LSTM(HIDDEN, return_sequences=True)),
    "bidirectional-lstm-last": lambda: layers.Bidirectional(layers.LSTM(HIDDEN)),
    "bidirectional-gru-sum": lambda: layers.Bidirectional(layers.GRU(HIDDEN, return_sequences=True), merge_mode="sum"),
    "bidirectional-gru-ave": lambda: layers.Bidirectional(
        layers.GRU(HIDDEN, return_sequences=True, reset_after=False), merge_mode="ave"
    ),
}


def run(name: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    layer = CASES[name]()
    layer.build((BATCH, STEPS, INPUT))
    # Biases start as constants; random ones tell the gates apart.
    layer.set_weights(
        [rng.normal(size=w.shape).astype(np.float32).astype(np.float64) * 0.5 for w in layer.get_weights()]
    )
    x = rng.normal(size=(BATCH, STEPS, INPUT)).astype(np.float32)
    arrays = {f"w/{weight.path}": weight.numpy().astype(np.float32) for weight in layer.weights}
    arrays |= {"x": x, "y": np.asarray(layer(x.astype(np.float64)))}
    return {f"{name}/{key}": value for key, value in arrays.items()}


if __name__ == "__main__":
    keras.config.set_floatx("float64")
    generator = np.random.default_rng(0)
    golden: dict[str, np.ndarray] = {}
    for case in CASES:
        golden |= run(case, generator)
    np.savez_compressed(Path(__file__).with_name("keras_golden.npz"), **golden)
