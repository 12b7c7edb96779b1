"""Gate orders: the one place that knows how PyTorch, Keras, TensorFlow and ONNX lay out recurrent weights.

Everything right of it has ONNX's layout: W [G·H, I], R [G·H, H], B [2·G·H] = (Wb, Rb), P [3·H]; LSTM gates i o f c, GRU
gates z r h. A function here takes the weights of one direction of one layer as a framework stores them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from gateinfer.errors import ModelError
from gateinfer.graph.recurrent_attrs import GATES
from gateinfer.weights.arrays import Weight

Roles = Mapping[str, Weight]
"""The arrays of one direction by what they are: "kernel", "weight_ih", ..."""

TORCH_ORDER: Final = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}
"""PyTorch stacks i f g o and r z n: block order[k] of its is block k here. torch.nn.LSTM, torch.nn.GRU, "Variables"."""

KERAS_ORDER: Final = {"lstm": (0, 3, 1, 2), "gru": (0, 1, 2), "rnn": (0,)}
"""Keras has i f c o and z r h as columns of [I, G·H]."""

TF_ORDER: Final = {"lstm": (0, 3, 2, 1)}
"""TensorFlow's BasicLSTMCell has i j f o as columns of one kernel [I + H, 4·H]; j is the candidate."""


@dataclass(frozen=True, slots=True)
class CellWeights:
    """One direction of one layer in ONNX's layout.

    Attributes
    ----------
    kind : "lstm", "gru" or "rnn".
    w : [G·H, I]; r : [G·H, H]; b : [2·G·H] or None; p : [3·H] or None.
    linear_before_reset : GRU: whether the reset gate scales the finished recurrent product (PyTorch, Keras reset_after)
        or the state before it.
    projection : [P, H], what turns the cell's output into the layer's, or None.
    """

    kind: str
    w: np.ndarray
    r: np.ndarray
    b: np.ndarray | None = None
    p: np.ndarray | None = None
    linear_before_reset: bool = False
    projection: np.ndarray | None = None

    @property
    def input_size(self) -> int:
        return int(self.w.shape[1])

    @property
    def hidden_size(self) -> int:
        return int(self.r.shape[1])

    @property
    def output_size(self) -> int:
        return self.hidden_size if self.projection is None else int(self.projection.shape[0])


def from_torch(roles: Roles, kind: str | None) -> CellWeights:
    """weight_ih [G·H, I], weight_hh [G·H, H], bias_ih and bias_hh [G·H].

    With proj_size P, weight_hh [4·H, P] and weight_hr [P, H].
    """
    w, r = roles["weight_ih"], roles["weight_hh"]
    w.expect_rank(2, "[G*H, I]"), r.expect_rank(2, "[G*H, H]")
    projection = roles.get("weight_hr")
    width = r.shape[1] if projection is None else projection.expect_rank(2, "[P, H]").shape[1]
    kind = resolve_kind(kind, r, r.shape[0], width)
    rows = GATES[kind] * width
    w.expect((rows, w.shape[1]), f"[{GATES[kind]}*H, I] with H = {width}")
    order = TORCH_ORDER[kind]
    recurrent = _reorder(r.array, order)
    if projection is not None:
        recurrent = _unprojected(kind, recurrent, r, projection)
    biases = [roles[role].expect((rows,), f"[{GATES[kind]}*H]") for role in ("bias_ih", "bias_hh") if role in roles]
    return CellWeights(
        kind,
        _reorder(w.array, order),
        recurrent,
        np.concatenate([_reorder(b, order) for b in biases]) if biases else None,
        linear_before_reset=kind == "gru",
        projection=None if projection is None else projection.array,
    )


def _unprojected(kind: str, recurrent: np.ndarray, r: Weight, projection: Weight) -> np.ndarray:
    """R [4·H, H] of a cell whose state is its output m before the projection.

    PyTorch feeds h = weight_hr m back through weight_hh, so R m = (weight_hh weight_hr) m: no projection is left inside
    the recurrence. The product is taken in float64 and rounded once.
    """
    if kind != "lstm":
        raise ModelError(f'weight "{projection.key}": only an LSTM has a projection, this is a {kind}')
    size, hidden = projection.shape
    r.expect((4 * hidden, size), f"[4*H, P] with H = {hidden} and P = {size}")
    return (recurrent.astype(np.float64) @ projection.array.astype(np.float64)).astype(np.float32)


def from_keras(roles: Roles, kind: str | None, reset_after: bool | None = None) -> CellWeights:
    """kernel [I, G·H], recurrent_kernel [H, G·H], bias [G·H], or [2, 3·H] of a GRU with reset_after.

    unit_forget_bias is part of the stored bias.
    """
    w, r = roles["kernel"], roles["recurrent_kernel"]
    w.expect_rank(2, "[I, G*H]"), r.expect_rank(2, "[H, G*H]")
    hidden, columns = r.shape
    kind = resolve_kind(kind, r, columns, hidden)
    w.expect((w.shape[0], columns), f"[I, {GATES[kind]}*H] with H = {hidden}")
    order = KERAS_ORDER[kind]
    bias, after = _keras_bias(roles.get("bias"), kind, columns, reset_after)
    flat = None if bias is None else np.concatenate([_reorder(b, order) for b in bias])
    return CellWeights(kind, _reorder(w.array.T, order), _reorder(r.array.T, order), flat, linear_before_reset=after)


def _keras_bias(
    bias: Weight | None, kind: str, columns: int, reset_after: bool | None
) -> tuple[list[np.ndarray] | None, bool]:
    """(Wb, Rb) and linear_before_reset, which the shape of a GRU's bias tells."""
    if bias is None:
        if kind == "gru" and reset_after is None:
            raise ModelError("a Keras GRU without bias does not show its reset_after; pass reset_after=True or False")
        return None, bool(reset_after)
    two = kind == "gru" and (bias.array.ndim == 2 if reset_after is None else reset_after)
    if two:
        return list(bias.expect((2, columns), "[2, 3*H] of reset_after=True")), True
    only = " of reset_after=False" if kind == "gru" else ""
    flat = bias.expect((columns,), f"[{GATES[kind]}*H]{only}")
    return [flat, np.zeros_like(flat)], False


def from_tf_lstm(roles: Roles, forget_bias: float) -> CellWeights:
    """kernel [I + H, 4·H], bias [4·H]; forget_bias is added to f. Peepholes w_i_diag, w_f_diag, w_o_diag [H]."""
    kernel, bias = roles["kernel"], roles["bias"]
    hidden = bias.expect_rank(1, "[4*H]").shape[0] // 4
    w, r = _joint(kernel, bias, hidden, 4)
    order = TF_ORDER["lstm"]
    flat = _reorder(bias.array, order)
    flat[2 * hidden : 3 * hidden] += np.float32(forget_bias)
    peepholes = None
    if "w_i_diag" in roles:
        diagonals = [roles[f"w_{gate}_diag"].expect((hidden,), "[H]") for gate in "iof"]
        peepholes = np.concatenate(diagonals)
    return CellWeights("lstm", _reorder(w, order), _reorder(r, order), _with_zeros(flat), peepholes)


def from_tf_gru(roles: Roles) -> CellWeights:
    """gates/kernel [I + H, 2·H] in the order r u, candidate/kernel [I + H, H]; r scales the state itself."""
    kernel, bias = roles["gates/kernel"], roles["gates/bias"]
    hidden = bias.expect_rank(1, "[2*H]").shape[0] // 2
    w, r = _joint(kernel, bias, hidden, 2)
    wc, rc = _joint(roles["candidate/kernel"], roles["candidate/bias"], hidden, 1)
    roles["candidate/kernel"].expect((kernel.shape[0], hidden), "[I + H, H]")
    flat = np.concatenate([_reorder(bias.array, (1, 0)), roles["candidate/bias"].array])
    return CellWeights(
        "gru", np.concatenate([_reorder(w, (1, 0)), wc]), np.concatenate([_reorder(r, (1, 0)), rc]), _with_zeros(flat)
    )


def from_tf_rnn(roles: Roles) -> CellWeights:
    """kernel [I + H, H], bias [H]."""
    kernel, bias = roles["kernel"], roles["bias"]
    w, r = _joint(kernel, bias, bias.expect_rank(1, "[H]").shape[0], 1)
    return CellWeights("rnn", w, r, _with_zeros(bias.array))


def _joint(kernel: Weight, bias: Weight, hidden: int, gates: int) -> tuple[np.ndarray, np.ndarray]:
    """A kernel [I + H, G·H] on the concatenation (x, h) as W [G·H, I] and R [G·H, H]."""
    bias.expect((gates * hidden,), f"[{gates}*H]")
    rows = kernel.expect_rank(2, "[I + H, G*H]").shape[0]
    if rows <= hidden or kernel.shape[1] != gates * hidden:
        raise ModelError(
            f'weight "{kernel.key}": expected shape [I + {hidden}, {gates * hidden}] [I + H, {gates}*H] '
            f'as "{bias.key}" has H = {hidden}, got {list(kernel.shape)}'
        )
    inputs = rows - hidden
    return np.ascontiguousarray(kernel.array[:inputs].T), np.ascontiguousarray(kernel.array[inputs:].T)


def _with_zeros(bias: np.ndarray) -> np.ndarray:
    return np.concatenate([bias, np.zeros_like(bias)])


def from_onnx(roles: Roles, kind: str | None, linear_before_reset: bool) -> list[CellWeights]:
    """W [D, G·H, I], R [D, G·H, H], B [D, 2·G·H], P [D, 3·H]: one result per direction."""
    w, r = roles["W"], roles["R"]
    w.expect_rank(3, "[D, G*H, I]"), r.expect_rank(3, "[D, G*H, H]")
    directions, rows, hidden = r.shape
    kind = resolve_kind(kind, r, rows, hidden)
    if directions not in (1, 2):
        raise ModelError(f'weight "{r.key}": expected 1 or 2 directions on axis 0, got {list(r.shape)}')
    w.expect((directions, rows, w.shape[2]), f"[D, {GATES[kind]}*H, I] with H = {hidden}")
    b = roles["B"].expect((directions, 2 * rows), f"[D, {2 * GATES[kind]}*H]") if "B" in roles else None
    p = roles["P"].expect((directions, 3 * hidden), "[D, 3*H]") if "P" in roles else None
    if p is not None and kind != "lstm":
        raise ModelError(f'weight "{roles["P"].key}": only an LSTM has peepholes, this is a {kind}')
    return [
        CellWeights(
            kind,
            w.array[d],
            r.array[d],
            None if b is None else b[d],
            None if p is None else p[d],
            linear_before_reset and kind == "gru",
        )
        for d in range(directions)
    ]


def resolve_kind(kind: str | None, weight: Weight, rows: int, hidden: int) -> str:
    """The kind of cell that recurrent weights with G·H `rows` belong to; it must be `kind` when that is given."""
    if kind is not None and rows == GATES[kind] * hidden:
        return kind
    found = next((name for name, gates in GATES.items() if rows == gates * hidden), None)
    if kind is None and found is not None:
        return found
    expected = f"{GATES[kind]}*H for kind={kind!r}" if kind else "H, 3*H or 4*H"
    raise ModelError(
        f'weight "{weight.key}" {list(weight.shape)}: expected {expected} gate rows with H = {hidden}, got {rows}'
        + (f", as a {found} has" if found else "")
    )


def _reorder(array: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """A copy whose block k of rows is block order[k] of `array`."""
    blocks = array.reshape(len(order), -1, *array.shape[1:])
    return np.ascontiguousarray(blocks[list(order)].reshape(array.shape))
