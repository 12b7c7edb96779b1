"""Models from NumPy arrays: the weights of one recurrent module, or layers put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gateinfer.layers.graphs import Layer, sequential_graph, weights_graph
from gateinfer.loaders import load_arrays as _load_arrays
from gateinfer.loaders.files import Source
from gateinfer.model import Model
from gateinfer.weights.stack import Arrays


def from_weights(
    arrays: Arrays,
    kind: str | None = None,
    layout: str | None = None,
    *,
    prefix: str | None = None,
    batch_first: bool | None = None,
    isa: str = "auto",
    allow_nonfinite: bool = False,
    **options: Any,
) -> Model:
    """A model of one recurrent module, such as torch.nn.LSTM or a Keras layer, from its weights.

    The model takes x [T, N, I], or [N, T, I] with batch_first, and gives y [T, N, D·H] or [N, T, D·H]. Its states h
    (and c) [layers·D, N, H] start from zeros, may be fed, and come back as hn (and cn); `stream` keeps them. Layers
    with hidden sizes of their own have states h, h_2, ... With PyTorch's proj_size the state is the cell's output
    before the projection, called m; weight_hr times it is PyTorch's h_n.

    Parameters
    ----------
    arrays : mapping of str to array, or list of array
        float32 in any strides; float16 and whole numbers are converted exactly, float64 is rounded. Keys by layout:

        torch : weight_ih_l0 [G·H, I], weight_hh_l0 [G·H, H], bias_ih_l0, bias_hh_l0 [G·H], further layers as _l1, the
            backward direction with _reverse, weight_hr_l0 [P, H] with proj_size; cells without the _l0.
        keras : kernel [I, G·H], recurrent_kernel [H, G·H], bias [G·H], or [2, 3·H] of a GRU with reset_after; forward_
            and backward_ in the path of a Bidirectional layer; or the list of layer.get_weights().
        onnx : W [D, G·H, I], R [D, G·H, H], B [D, 2·G·H], P [D, 3·H].
        tf : kernel [I + H, G·H] and bias of BasicLSTMCell, LSTMCell, BasicRNNCell; gates and candidate of GRUCell;
            cells of a MultiRNNCell by their numbers.
    kind : "lstm", "gru" or "rnn", optional
        Told from the shapes by default, except for layout "tf" when the keys do not say it.
    layout : "torch", "keras", "onnx" or "tf", optional
        Told from the keys by default.
    prefix : str, optional
        What the module's keys begin with, such as "encoder.lstm": arrays with other keys are left aside. Without it
        every array has to belong to the module.
    batch_first : bool, optional
        False by default for torch and onnx, True for keras and tf.
    isa, allow_nonfinite
        As in `load`.
    **options
        activation ("tanh"; PyTorch's nonlinearity is the same), recurrent_activation ("sigmoid"), return_sequences
        (True), go_backwards (False) and merge_mode ("concat") as in Keras; clip of the gate pre-activations (0);
        reset_after of a Keras GRU without bias; linear_before_reset of an ONNX GRU (False); forget_bias of a TensorFlow
        LSTM cell (1.0). bidirectional, num_layers, input_size, hidden_size and proj_size are compared with what the
        arrays say; unit_forget_bias of Keras is part of the stored bias and changes nothing.

    Returns
    -------
    Model

    Raises
    ------
    ModelError
        Arrays are missing, misspelled, or contradict each other; the text names key, expected and actual shape.
    GateInferError
        An option is unknown or has an unknown value.

    Examples
    --------
    >>> model = from_weights(dict(np.load("lstm.npz")), kind="lstm", layout="torch")
    >>> y, hn, cn = model.run(None, {"x": x})
    """
    graph = weights_graph(
        arrays, kind, layout, prefix=prefix, batch_first=batch_first, allow_nonfinite=allow_nonfinite, **options
    )
    return Model(graph, isa=isa, allow_nonfinite=allow_nonfinite)


def Sequential(
    layers: Sequence[Layer], *, per_frame: bool = False, isa: str = "auto", allow_nonfinite: bool = False
) -> Model:
    """A model of layers one after another, from `gateinfer.layers`.

    It takes x [N, T, F], or ids [N, T] when the first layer is an Embedding, and gives y. States of recurrent layers
    and of causal convolutions start from zeros and are kept by `stream`: h (and c) or cache when one layer has some,
    else with the layer's name in front: lstm_h, lstm_2_h, conv1d_cache.

    Parameters
    ----------
    layers : sequence of Embedding, Dense, Conv1d, LayerNorm, BatchNorm, LSTM, GRU, RNN, Activation, Magnitude
    per_frame : bool
        Every call of the stream is one frame, and T inside it is not the time of the stream: convolutions within the
        frame keep nothing, recurrent layers carry their state from frame to frame.
    isa, allow_nonfinite
        As in `load`.

    Raises
    ------
    ModelError
        A layer does not fit the one before it; the text names it.

    Examples
    --------
    >>> model = Sequential([layers.Embedding(table), layers.GRU(arrays, prefix="gru"), layers.Dense(w, b, "softmax")])
    >>> stream = model.stream()
    >>> p = stream([[7]])
    """
    graph = sequential_graph(layers, per_frame=per_frame, allow_nonfinite=allow_nonfinite)
    return Model(graph, isa=isa, allow_nonfinite=allow_nonfinite)


def load_arrays(source: Source) -> dict[str, np.ndarray]:
    """All arrays of a weight file, for `from_weights` and `Sequential`.

    Parameters
    ----------
    source : path or bytes
        .npz, .safetensors or .pt. No pickled object is ever made: PyTorch's files are read as raw arrays, and
        modules of TorchScript as dicts of their attributes.

    Returns
    -------
    dict of str to ndarray
        Read-only where the file's own bytes are used. bfloat16 comes as float32.

    Raises
    ------
    ModelError
        The file is corrupt or hostile, or holds anything but arrays of numbers.
    """
    return _load_arrays(source)
