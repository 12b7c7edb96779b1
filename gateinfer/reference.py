"""Float64 oracle in plain NumPy: one function per recurrent cell, from the ONNX operator text.

Source of the equations: the LSTM, GRU and RNN entries of https://onnx.ai/onnx/operators (versions 1, 7, 14, 22).
Where that text is silent or onnxruntime 1.31 answers differently, this is what is followed and why:

* A row of length 0. The text says nothing; onnxruntime gives zero Y, Y_h and Y_c whatever the initial state. Followed.
* T = 0 makes every row one of length 0, so Y_h and Y_c are zero. onnxruntime gives the same Y_h; it leaves the memory
  of LSTM's Y_c unwritten, and its GRU aborts the process. It aborts too on N = 0 (LSTM, GRU), where every output here
  is merely empty.
* clip. The text bounds "the input of activations"; onnxruntime bounds the gate pre-activations and leaves the cell
  state that goes into h() alone. Followed: exporters mean that, and the other reading would cap |h| at h(clip).
* alpha and beta that the node leaves out are `parse_recurrent`'s business: the ONNX operators' defaults. onnxruntime
  takes 0 for ThresholdedRelu's alpha and for both parameters of Affine and ScaledTanh. Not followed.
* input_forget: f = 1 - i; the forget gate's own weights, bias and peephole are not looked at, as in onnxruntime.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gateinfer.errors import ShapeError
from gateinfer.graph.recurrent_attrs import Activation, Recurrent

Array = np.ndarray
State = tuple[Array, ...]
Step = Callable[[Array, State], State]
"""(x [rows, I], state of [rows, H] arrays, h first) -> the next state."""


# ---- activations: f(x, alpha, beta). No comparison may turn a NaN into a number. ------------------------------------


def _sigmoid(x: Array, _alpha: float = 0.0, _beta: float = 0.0) -> Array:
    y: Array = np.exp(-np.logaddexp(0.0, -x))  # 1 / (1 + e^-x) without overflow
    return y


def _elu(x: Array, alpha: float, _beta: float) -> Array:
    return np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


ACTIVATIONS: dict[str, Callable[[Array, float, float], Array]] = {
    "sigmoid": _sigmoid,
    "tanh": lambda x, _a, _b: np.tanh(x),
    "relu": lambda x, _a, _b: np.maximum(x, 0.0),
    "affine": lambda x, alpha, beta: alpha * x + beta,
    "leaky_relu": lambda x, alpha, _b: np.where(x >= 0, x, alpha * x),
    "thresholded_relu": lambda x, alpha, _b: np.where(x <= alpha, 0.0, x),
    "scaled_tanh": lambda x, alpha, beta: alpha * np.tanh(beta * x),
    "hard_sigmoid": lambda x, alpha, beta: np.clip(alpha * x + beta, 0.0, 1.0),
    "elu": _elu,
    "softsign": lambda x, _a, _b: x / (1.0 + np.abs(x)),
    "softplus": lambda x, _a, _b: np.logaddexp(0.0, x),
}


def _apply(activation: Activation, x: Array, clip: float = 0.0) -> Array:
    name, alpha, beta = activation
    bounded = np.clip(x, -clip, clip) if clip > 0 else x
    with np.errstate(invalid="ignore"):  # logaddexp warns about a NaN that it only passes on
        return ACTIVATIONS[name](bounded, alpha, beta)


# ---- the three operators --------------------------------------------------------------------------------------------


def lstm(
    X: Array,
    W: Array,
    R: Array,
    B: Array | None = None,
    sequence_lens: Array | None = None,
    initial_h: Array | None = None,
    initial_c: Array | None = None,
    P: Array | None = None,
    *,
    spec: Recurrent,
) -> tuple[Array, Array, Array]:
    """ONNX LSTM in float64.

    Parameters
    ----------
    X : [T, N, I], or [N, T, I] with layout 1.
    W : [D, 4H, I], gates in the order i o f c.
    R : [D, 4H, H].
    B : [D, 8H], Wb then Rb.
    sequence_lens : [N], each from 0 to T.
    initial_h, initial_c : [D, N, H], or [N, D, H] with layout 1.
    P : [D, 3H], peepholes of i o f.
    spec : attributes of the node.

    Returns
    -------
    Y, Y_h, Y_c : [T, D, N, H], [D, N, H], [D, N, H]; [N, T, D, H], [N, D, H], [N, D, H] with layout 1.

    Raises
    ------
    ShapeError
        For a sequence_lens of the wrong shape or out of range.
    """

    def make(d: int) -> Step:
        return _lstm_step(spec, d, *_direction(d, W, R, B), _peepholes(P, d, R.shape[-1]))

    Y, (h, c) = _layer(spec, X, R, sequence_lens, (initial_h, initial_c), make)
    return Y, h, c


def gru(
    X: Array,
    W: Array,
    R: Array,
    B: Array | None = None,
    sequence_lens: Array | None = None,
    initial_h: Array | None = None,
    *,
    spec: Recurrent,
) -> tuple[Array, Array]:
    """ONNX GRU in float64: W [D, 3H, I] with gates in the order z r h, R [D, 3H, H], B [D, 6H]; the rest as in `lstm`.

    Returns
    -------
    Y, Y_h : as in `lstm`.
    """

    def make(d: int) -> Step:
        return _gru_step(spec, d, *_direction(d, W, R, B))

    Y, (h,) = _layer(spec, X, R, sequence_lens, (initial_h,), make)
    return Y, h


def rnn(
    X: Array,
    W: Array,
    R: Array,
    B: Array | None = None,
    sequence_lens: Array | None = None,
    initial_h: Array | None = None,
    *,
    spec: Recurrent,
) -> tuple[Array, Array]:
    """ONNX RNN in float64: W [D, H, I], R [D, H, H], B [D, 2H]; the rest as in `lstm`.

    Returns
    -------
    Y, Y_h : as in `lstm`.
    """

    def make(d: int) -> Step:
        return _rnn_step(spec, d, *_direction(d, W, R, B))

    Y, (h,) = _layer(spec, X, R, sequence_lens, (initial_h,), make)
    return Y, h


# ---- one step of one direction: W [G*H, I], R [G*H, H], Wb and Rb [G*H] ---------------------------------------------


def _lstm_step(spec: Recurrent, d: int, W: Array, R: Array, Wb: Array, Rb: Array, peepholes: Array) -> Step:
    f, g, h = spec.activations[d]
    p_i, p_o, p_f = peepholes

    def step(x: Array, state: State) -> State:
        H_old, c_old = state
        i, o, forget, c = np.split(x @ W.T + H_old @ R.T + Wb + Rb, 4, axis=-1)
        it = _apply(f, i + p_i * c_old, spec.clip)
        ft = 1.0 - it if spec.input_forget else _apply(f, forget + p_f * c_old, spec.clip)
        ct = ft * c_old + it * _apply(g, c, spec.clip)
        ot = _apply(f, o + p_o * ct, spec.clip)
        return ot * _apply(h, ct), ct

    return step


def _gru_step(spec: Recurrent, d: int, W: Array, R: Array, Wb: Array, Rb: Array) -> Step:
    f, g = spec.activations[d]
    (Wz, Wr, Wh), (Rz, Rr, Rh) = np.split(W, 3), np.split(R, 3)
    (Wbz, Wbr, Wbh), (Rbz, Rbr, Rbh) = np.split(Wb, 3), np.split(Rb, 3)

    def step(x: Array, state: State) -> State:
        (H_old,) = state
        z = _apply(f, x @ Wz.T + H_old @ Rz.T + Wbz + Rbz, spec.clip)
        r = _apply(f, x @ Wr.T + H_old @ Rr.T + Wbr + Rbr, spec.clip)
        past = r * (H_old @ Rh.T + Rbh) if spec.linear_before_reset else (r * H_old) @ Rh.T + Rbh
        candidate = _apply(g, x @ Wh.T + past + Wbh, spec.clip)
        return ((1.0 - z) * candidate + z * H_old,)

    return step


def _rnn_step(spec: Recurrent, d: int, W: Array, R: Array, Wb: Array, Rb: Array) -> Step:
    (f,) = spec.activations[d]

    def step(x: Array, state: State) -> State:
        return (_apply(f, x @ W.T + state[0] @ R.T + Wb + Rb, spec.clip),)

    return step


def _direction(d: int, W: Array, R: Array, B: Array | None) -> tuple[Array, Array, Array, Array]:
    bias = np.zeros(2 * R.shape[1]) if B is None else _double(B[d])
    Wb, Rb = np.split(bias, 2)
    return _double(W[d]), _double(R[d]), Wb, Rb


def _peepholes(P: Array | None, d: int, hidden_size: int) -> Array:
    """[3, H] in the order i o f."""
    return np.zeros((3, hidden_size)) if P is None else _double(P[d]).reshape(3, hidden_size)


# ---- directions, lengths, layout ------------------------------------------------------------------------------------


def _layer(
    spec: Recurrent,
    X: Array,
    R: Array,
    sequence_lens: Array | None,
    initial: tuple[Array | None, ...],
    make_step: Callable[[int], Step],
) -> tuple[Array, list[Array]]:
    """All directions of a layer: Y and the final states, in the layout that `spec` asks for."""
    batch_first = spec.layout == 1
    x = _double(X).swapaxes(0, 1) if batch_first else _double(X)
    seq_len, batch = x.shape[:2]
    directions, _, hidden = R.shape
    lens = _lengths(sequence_lens, seq_len, batch)
    starts = [_initial(s, (directions, batch, hidden), batch_first) for s in initial]
    Y = np.zeros((seq_len, directions, batch, hidden))
    for d, direction in enumerate(spec.directions):
        Y[:, d] = _unroll(make_step(d), x, lens, [s[d] for s in starts], direction == "reverse")
    if batch_first:
        return Y.transpose(2, 0, 1, 3), [s.swapaxes(0, 1) for s in starts]
    return Y, starts


def _unroll(step: Step, x: Array, lens: Array, states: list[Array], reverse: bool) -> Array:
    """Y [T, N, H] of one direction; `states` [N, H] are updated in place and end as each row's final state.

    A row takes part in its first lens[n] steps only; a reverse row starts at its own last element.
    """
    Y = np.zeros((len(x), *states[0].shape))
    for s in range(len(x)):
        rows = np.flatnonzero(s < lens)
        t = lens[rows] - 1 - s if reverse else s
        after = step(x[t, rows], tuple(state[rows] for state in states))
        for state, new in zip(states, after, strict=True):
            state[rows] = new
        Y[t, rows] = after[0]
    for state in states:
        state[lens == 0] = 0.0
    return Y


def _lengths(sequence_lens: Array | None, seq_len: int, batch: int) -> Array:
    if sequence_lens is None:
        return np.full(batch, seq_len)
    lens = np.asarray(sequence_lens)
    if lens.shape != (batch,):
        raise ShapeError(f"sequence_lens: expected shape ({batch},), one length per row of X, got {lens.shape}")
    if ((lens < 0) | (lens > seq_len)).any():
        raise ShapeError(f"sequence_lens: expected values from 0 to {seq_len}, the length of X, got {lens.tolist()}")
    return lens.astype(np.int64)


def _initial(start: Array | None, shape: tuple[int, int, int], batch_first: bool) -> Array:
    """A fresh [D, N, H] array: `_unroll` writes into it."""
    if start is None:
        return np.zeros(shape)
    array = np.array(start, dtype=np.float64)
    array = array.swapaxes(0, 1) if batch_first else array
    if array.shape != shape:
        raise ShapeError(f"initial state: expected [directions, batch, hidden_size] = {shape}, got {array.shape}")
    return array


def _double(array: Array) -> Array:
    """Floating point as float64; everything else as it is."""
    array = np.asarray(array)
    return array.astype(np.float64) if array.dtype.kind == "f" else array
