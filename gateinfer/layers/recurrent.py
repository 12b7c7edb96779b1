"""LSTM, GRU and RNN layers: one module of a framework, all its layers and directions, as nodes of a graph."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from gateinfer.errors import GateInferError, shown
from gateinfer.graph.ir import Dim
from gateinfer.layers.activations import cell_activations
from gateinfer.layers.builder import GraphBuilder, Signal
from gateinfer.weights.arrays import listed
from gateinfer.weights.conventions import CellWeights
from gateinfer.weights.stack import Arrays, Stack, check_choice, read_stack

MERGES: Final = {"concat": "Concat", "sum": "Add", "mul": "Mul", "ave": "Mean"}

_LAST: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Options:
    """What the arrays of a recurrent module do not say.

    Attributes
    ----------
    activation : of the candidate and the cell's output.
    recurrent_activation : of the gates.
    return_sequences : every step's output, or the last one's only.
    go_backwards : run a one-directional module from the last step to the first and return its outputs in that order.
    merge_mode : how the outputs of two directions become one: "concat", "sum", "mul" or "ave".
    clip : bound of the gate pre-activations, 0 for none.
    """

    activation: str | None = "tanh"
    recurrent_activation: str | None = "sigmoid"
    return_sequences: bool = True
    go_backwards: bool = False
    merge_mode: str = "concat"
    clip: float = 0.0

    def attributes(self, kind: str, directions: int) -> dict[str, Any]:
        """Attributes of the nodes."""
        names = {
            "lstm": [self.recurrent_activation, self.activation, self.activation],
            "gru": [self.recurrent_activation, self.activation],
            "rnn": [self.activation],
        }[kind]
        direction = "bidirectional" if directions == 2 else "reverse" if self.go_backwards else "forward"
        return (
            cell_activations(names * directions) | {"direction": direction} | ({"clip": self.clip} if self.clip else {})
        )


class Recurrent:
    """A recurrent module of any kind; base of `LSTM`, `GRU` and `RNN`.

    Parameters
    ----------
    weights : mapping of str to array, or list of array
        A state_dict or the like with the keys of one framework, or Keras' `layer.get_weights()`. Of several modules
        `prefix` chooses one; other keys do not matter then.
    layout : "torch", "keras", "onnx" or "tf", optional
        Whose keys and gate orders; told from the keys by default.
    prefix : str, optional
        What the keys of this module begin with, such as "encoder.lstm".
    reset_after : bool, optional
        Of a Keras GRU without bias. linear_before_reset : of an ONNX GRU. forget_bias : of TensorFlow's LSTM cells.
    **options
        See `Options`: activation, recurrent_activation, return_sequences, go_backwards, merge_mode, clip.

    Raises
    ------
    ModelError
        For missing, misspelled or contradictory weights.
    """

    kind: str | None = None
    keeps_state = True

    def __init__(
        self,
        weights: Arrays,
        layout: str | None = None,
        *,
        prefix: str | None = None,
        reset_after: bool | None = None,
        linear_before_reset: bool = False,
        forget_bias: float = 1.0,
        allow_nonfinite: bool = False,
        **options: Any,
    ) -> None:
        stack = read_stack(
            weights,
            self.kind,
            layout,
            prefix=prefix,
            reset_after=reset_after,
            linear_before_reset=linear_before_reset,
            forget_bias=forget_bias,
            allow_nonfinite=allow_nonfinite,
        )
        self._set(stack, checked_options(**options))

    @classmethod
    def of(cls, stack: Stack, options: Options) -> Recurrent:
        """A layer of weights that are read already."""
        layer = cls.__new__(cls)
        layer._set(stack, options)
        return layer

    def _set(self, stack: Stack, options: Options) -> None:
        self.stack, self.options = stack, options
        self.word = stack.kind
        self.input_size = stack.input_size
        if options.go_backwards and (stack.directions == 2 or len(stack.layers) > 1):
            raise GateInferError("go_backwards=True is for one layer of one direction")
        if options.merge_mode != "concat" and len(stack.layers) > 1:
            raise GateInferError(f"merge_mode={options.merge_mode!r} is for one layer; several take both directions in")

    def build(self, b: GraphBuilder, x: Signal) -> Signal:
        """x [N, T, I], or [T, N, I] when time is first -> y likewise, or [N, D·H] of the last step."""
        if not x.in_time:
            raise b.fail("it runs over time, which an earlier layer with return_sequences=False has taken away")
        if x.features != self.input_size:
            raise b.fail(
                f"its weights take {self.input_size} features, got {x.features or 'ids: an Embedding goes first'}"
            )
        if self.stack.directions == 2 or self.options.go_backwards:
            b.unstreamable = b.unstreamable or f'layer "{b.layer}" runs backward in time, which cannot be streamed'
        value = x.name if x.time_first else b.add("Transpose", x.name, perm=[1, 0, 2])
        for group in self._state_groups():
            value = self._build_group(b, value, group)
        features = self._features()
        if not self.options.return_sequences:
            return x.to(value, features=features, in_time=False, time_first=False)
        return x.to(value if x.time_first else b.add("Transpose", value, perm=[1, 0, 2]), features=features)

    def _features(self) -> int:
        whole = self.stack.output_size
        return whole if self.options.merge_mode == "concat" else whole // self.stack.directions

    def _state_groups(self) -> list[range]:
        """Layers that share one state array: all of them when their hidden sizes agree."""
        count = len(self.stack.layers)
        if len({layer[0].hidden_size for layer in self.stack.layers}) == 1:
            return [range(count)]
        return [range(i, i + 1) for i in range(count)]

    def _build_group(self, b: GraphBuilder, value: str, group: range) -> str:
        """States h (and c) [layers·D, N, H], m (and c) when the output is projected; the layers on slices of them."""
        first = self.stack.layers[group.start][0]
        shape: tuple[Dim, ...] = (len(group) * self.stack.directions, "N", first.hidden_size)
        words = ("h" if first.projection is None else "m", *(("c",) if first.kind == "lstm" else ()))
        suffix = f"_{group.start + 1}" if group.start else ""
        states = [b.state(word + suffix, shape) for word in words]
        finals: list[list[str]] = [[] for _ in states]
        for layer in group:
            value, ends = self._build_layer(b, value, layer, [self._slice(b, s, layer, group) for s in states])
            for final, end in zip(finals, ends, strict=True):
                final.append(end)
        for state, final in zip(states, finals, strict=True):
            b.carry(state, final[0] if len(final) == 1 else b.add("Concat", *final, axis=0))
        return value

    def _slice(self, b: GraphBuilder, state: str, layer: int, group: range) -> str:
        """Rows of one layer [D, N, H]."""
        if len(group) == 1:
            return state
        start = (layer - group.start) * self.stack.directions
        bounds = (b.integers("from", start), b.integers("to", start + self.stack.directions), b.integers("axis", 0))
        return b.add("Slice", state, *bounds)

    def _build_layer(self, b: GraphBuilder, x: str, number: int, states: list[str]) -> tuple[str, list[str]]:
        """x [T, N, I] -> y [T, N, D·H] or what the last layer returns, and the final states [D, N, H]."""
        cells = self.stack.layers[number]
        attrs = self.options.attributes(self.stack.kind, len(cells)) | {"hidden_size": cells[0].hidden_size}
        if self.stack.kind == "gru":
            attrs["linear_before_reset"] = int(cells[0].linear_before_reset)
        inputs = (x, *_constants(b, cells), "", *states)
        peepholes = _peepholes(b, cells)
        y, *ends = b.add_node(
            self.stack.kind.upper(), inputs + ((peepholes,) if peepholes else ()), 1 + len(states), attrs
        )
        is_last = number == len(self.stack.layers) - 1
        if is_last and not self.options.return_sequences:
            return self._joined(b, _parts(b, ends[0], 0, cells)), ends
        return self._sequence(b, y, cells), ends

    def _sequence(self, b: GraphBuilder, y: str, cells: list[CellWeights]) -> str:
        """Y [T, D, N, H] -> [T, N, D·P]."""
        if len(cells) == 2 and cells[0].projection is None and self.options.merge_mode == "concat":
            shape = b.integers("shape", 0, 0, 2 * cells[0].hidden_size)
            return b.add("Reshape", b.add("Transpose", y, perm=[0, 2, 1, 3]), shape)
        joined = self._joined(b, _parts(b, y, 1, cells))
        return _reversed(b, joined) if self.options.go_backwards else joined

    def _joined(self, b: GraphBuilder, parts: list[str]) -> str:
        if len(parts) == 1:
            return parts[0]
        op = MERGES[self.options.merge_mode]
        return b.add(op, *parts, **({"axis": -1} if op == "Concat" else {}))


def _constants(b: GraphBuilder, cells: list[CellWeights]) -> tuple[str, str, str]:
    """W [D, G·H, I], R [D, G·H, H] and B [D, 2·G·H], which may be missing."""
    w = b.constant("W", np.stack([cell.w for cell in cells]))
    r = b.constant("R", np.stack([cell.r for cell in cells]))
    biases = [cell.b for cell in cells if cell.b is not None]
    return w, r, b.constant("B", np.stack(biases)) if len(biases) == len(cells) else ""


def _peepholes(b: GraphBuilder, cells: list[CellWeights]) -> str:
    """P [D, 3·H], or nothing."""
    found = [cell.p for cell in cells if cell.p is not None]
    return b.constant("P", np.stack(found)) if len(found) == len(cells) else ""


def _parts(b: GraphBuilder, y: str, axis: int, cells: list[CellWeights]) -> list[str]:
    """Each direction along `axis` of `y`, which disappears, through its projection."""
    where = b.integers("axis", axis)
    pieces = b.add_node("Split", (y,), 2, {"axis": axis, "num_outputs": 2}) if len(cells) == 2 else (y,)
    parts = []
    for piece, cell in zip(pieces, cells, strict=True):
        part = b.add("Squeeze", piece, where)
        if cell.projection is not None:
            part = b.add("MatMul", part, b.constant("projection", np.ascontiguousarray(cell.projection.T)))
        parts.append(part)
    return parts


def _reversed(b: GraphBuilder, y: str) -> str:
    """[T, N, F] from the last step to the first."""
    bounds = (b.integers(name, value) for name, value in (("from", -1), ("to", -_LAST), ("axis", 0), ("step", -1)))
    return b.add("Slice", y, *bounds)


class LSTM(Recurrent):
    """LSTM layers of one module; parameters as in `Recurrent`."""

    kind = "lstm"


class GRU(Recurrent):
    """GRU layers of one module; parameters as in `Recurrent`."""

    kind = "gru"


class RNN(Recurrent):
    """RNN layers of one module; parameters as in `Recurrent`."""

    kind = "rnn"


def checked_options(
    *, nonlinearity: str | None = None, unit_forget_bias: bool | None = None, **options: Any
) -> Options:
    """`Options` from keywords; GateInferError for unknown ones.

    nonlinearity is PyTorch's word for activation. unit_forget_bias of Keras is in the stored bias and changes nothing.
    """
    unknown = sorted(options.keys() - set(Options.__dataclass_fields__))
    if unknown:
        raise GateInferError(
            f"unknown option {unknown[0]!r}; recurrent layers take {listed(Options.__dataclass_fields__)}"
        )
    made = Options(**options)
    check_choice("merge_mode", made.merge_mode, tuple(MERGES))
    if nonlinearity is not None:
        made = replace(made, activation=nonlinearity)
    if not (isinstance(made.clip, (int, float)) and 0 <= made.clip < float("inf")):
        raise GateInferError(f"clip={shown(made.clip)}: expected a number >= 0")
    cell_activations([made.activation, made.recurrent_activation])
    return made
