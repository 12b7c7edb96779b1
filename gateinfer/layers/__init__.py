"""Layers for `gateinfer.Sequential`, made from arrays. Between layers values are [N, T, F]: batch, time, features."""

from gateinfer.layers.conv import Conv1d
from gateinfer.layers.recurrent import GRU, LSTM, RNN
from gateinfer.layers.simple import Activation, BatchNorm, Dense, Embedding, LayerNorm, Magnitude

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Activation",
    "BatchNorm",
    "Conv1d",
    "Dense",
    "Embedding",
    "LayerNorm",
    "Magnitude",
]
