"""What the compiled builder refuses, and what a refused op leaves behind."""

from __future__ import annotations

import numpy as np
import pytest

from gateinfer._core import BINARY, DTYPES, REDUCTION, UNARY, Builder, Cell, Runner, pack_cell, pack_dense
from gateinfer.errors import ModelError, ShapeError

F32, BOOL = DTYPES[np.dtype(np.float32)], DTYPES[np.dtype(np.bool_)]
STEPS, BATCH, INPUTS, HIDDEN = 3, 2, 4, 5


def _dense(tensor: int, *shape: int, offset: int = 0) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    return tensor, offset, shape, tuple(strides)


class _Layer:
    """A builder with the operands of one good GRU or LSTM layer; `build` replaces some."""

    def __init__(self, kind: str) -> None:
        gates = {"lstm": 4, "gru": 3}[kind]
        names = ("sigmoid", "tanh", "tanh")[: 3 if kind == "lstm" else 2]
        self.cell = Cell(kind, INPUTS, HIDDEN, tuple((name, 0.0, 0.0) for name in names), 0.0, False, False)
        self.builder = Builder("scalar")
        weights = np.ones((gates * HIDDEN, INPUTS), np.float32), np.ones((gates * HIDDEN, HIDDEN), np.float32)
        self.packed = self.builder.constant(pack_cell(self.cell, *weights, None, None))
        self.memory = self.builder.external(F32, 1000)
        self.parts = {
            "x": _dense(self.memory, STEPS, BATCH, INPUTS),
            "lens": None,
            "h0": None,
            "c0": None,
            "y": _dense(self.memory, STEPS, BATCH, HIDDEN, offset=200),
            "hn": _dense(self.memory, BATCH, HIDDEN, offset=400),
            "cn": _dense(self.memory, BATCH, HIDDEN, offset=600) if kind == "lstm" else None,
        }

    def build(self, **changed: object) -> None:
        self.builder.recurrent(self.cell, False, self.packed, *(self.parts | changed).values())


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_outputs_of_a_layer_share_no_memory_with_other_operands(kind: str) -> None:
    layer = _Layer(kind)
    layer.build()
    for changed in (
        {"y": _dense(layer.memory, STEPS, BATCH, HIDDEN)},
        {"y": _dense(layer.memory, STEPS, BATCH, HIDDEN, offset=395)},
        {"hn": _dense(layer.memory, BATCH, HIDDEN, offset=1)},
        {"h0": _dense(layer.memory, BATCH, HIDDEN, offset=405)},
        {"y": _dense(layer.packed, STEPS, BATCH, HIDDEN)},
    ):
        with pytest.raises(ModelError):
            layer.build(**changed)


@pytest.mark.parametrize("part", ["c0", "cn"])
def test_only_an_lstm_has_a_cell_state(part: str) -> None:
    layer = _Layer("gru")
    with pytest.raises(ModelError, match="cell state"):
        layer.build(**{part: _dense(layer.memory, BATCH, HIDDEN, offset=600)})


def test_a_refused_layer_is_not_run() -> None:
    """Its scratch does not fit in memory, which is known only after the op has been added."""
    layer = _Layer("gru")
    layer.cell = layer.cell._replace(input_size=0)
    weights = np.ones((3 * HIDDEN, 0), np.float32), np.ones((3 * HIDDEN, HIDDEN), np.float32)
    layer.packed = layer.builder.constant(pack_cell(layer.cell, *weights, None, None))
    x = (layer.memory, 0, (1, 2**59, 0), (0, 0, 1))
    with pytest.raises(ModelError, match="memory"):
        layer.build(x=x, y=None, hn=None)
    runner = Runner(layer.builder.finish())
    assert runner.program.op_names == []
    runner.bind(layer.memory, np.zeros(1000, np.float32))
    runner.step()


def test_nothing_is_not_walked_step_by_step() -> None:
    """2^40 steps of no sequences, and as many rows of no columns: done at once."""
    layer = _Layer("lstm")
    empty = (layer.memory, 0, (2**40, 0, INPUTS), (0, 0, 1))
    layer.build(x=empty, y=None, hn=None, cn=None)
    packed = layer.builder.constant(pack_dense(np.ones((0, 0), np.float32), None))
    rows = (2**40, 0), (1, 1)
    layer.builder.dense((layer.builder.work(F32, 1), 0, *rows), (layer.memory, 0, *rows), packed)
    runner = Runner(layer.builder.finish())
    runner.bind(layer.memory, np.zeros(1000, np.float32))
    runner.step()


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_floats_that_are_only_moved_and_cast(dtype: str) -> None:
    builder = Builder("scalar")
    x, y = (_dense(builder.external(DTYPES[np.dtype(dtype)], 4), 4) for _ in range(2))
    place, index = (_dense(builder.external(DTYPES[np.dtype(np.int64)], 1), *shape) for shape in ((), (1, 1)))
    refused = [
        lambda: builder.unary(UNARY["neg"], y, x, 0.0, 0.0),
        lambda: builder.binary(BINARY["add"], y, x, x),
        lambda: builder.binary(BINARY["equal"], _dense(builder.external(BOOL, 4), 4), x, x),
        lambda: builder.reduce(REDUCTION["max"], _dense(y[0]), x),
        lambda: builder.arg(place, x, False, False),
        lambda: builder.top(y, _dense(builder.external(DTYPES[np.dtype(np.int64)], 4), 4), x, False),
        lambda: builder.cumsum(y, x, False),
        lambda: builder.scatter_nd(y, index, _dense(x[0], 1), BINARY["add"]),
    ]
    for build in refused:
        with pytest.raises(ModelError, match="not exist for this dtype|can only be moved and cast"):
            build()
    builder.copy(y, x)
    builder.cast(_dense(builder.external(F32, 4), 4), y)


@pytest.mark.parametrize(
    ("arrays", "error"),
    [
        ([], ValueError),
        ([None], ValueError),
        ([np.zeros((1000, 2), np.float32)[:, 0]], ValueError),
        ([np.zeros(999, np.float32)], ShapeError),
    ],
)
def test_a_run_refuses_arrays_that_are_not_as_its_tensors(arrays: list[np.ndarray], error: type[Exception]) -> None:
    layer = _Layer("gru")
    runner = Runner(layer.builder.finish())
    with pytest.raises(error):
        runner.run((layer.memory,), arrays)
    runner.run((layer.memory,), [np.zeros(1000, np.float32)])
