"""The bits promise: chunks, rows, threads, instruction set and place in memory do not change a single bit."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator

import grid
import numpy as np
import pytest
from corpus import ZooCase
from isas import ISAS, can_run, require_isa
from nets import GATES
from onnx_models import model as onnx_model
from onnx_models import node

import gateinfer as gi
from gateinfer._core import Runner

Arrays = dict[str, np.ndarray]
SEEDS = range(40)


def _run(model: gi.Model, feeds: Arrays) -> Arrays:
    return dict(zip((port.name for port in model.outputs), model.run(None, feeds), strict=True))


def _same_bits(got: Arrays, wanted: Arrays, what: object) -> None:
    """Equal shapes and bytes: -0.0 is not 0.0 here."""
    assert set(got) == set(wanted)
    for name, figures in wanted.items():
        assert got[name].shape == figures.shape, f"{what}: {name}"
        np.testing.assert_array_equal(_bits(got[name]), _bits(figures), err_msg=f"{what}: {name}")


def _bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).view(np.uint32)


def _time_axis(case: grid.Case) -> int:
    return 1 if case.attrs.get("layout") else 0


def _batch_axis(case: grid.Case, name: str) -> int:
    """Where N is in the input or output `name`."""
    if name == "sequence_lens":
        return 0
    if case.attrs.get("layout"):
        return 0
    return 2 if name == "Y" else 1


@functools.cache
def _whole(seed: int) -> tuple[grid.Case, gi.Model, Arrays]:
    case = grid.make_stream_case(seed)
    model = gi.load(case.model.SerializeToString())
    return case, model, _run(model, case.feeds)


# ---- chunks ---------------------------------------------------------------------------------------------------------


def _cuts(case: grid.Case, seed: int) -> Iterator[list[int]]:
    """One step at a time, then two random ways."""
    rng, steps = np.random.default_rng(seed), case.sizes["T"]
    yield list(range(1, steps))
    for _ in range(2):
        yield sorted(rng.choice(steps, 4, replace=False).tolist())


@pytest.mark.parametrize("seed", SEEDS)
def test_chunks(seed: int) -> None:
    """Streams cut anywhere (also an empty first chunk) give the bits of the whole run, and its final state."""
    case, model, whole = _whole(seed)
    for cuts in _cuts(case, seed):
        _same_bits(_streamed(case, model, cuts), whole, f"{case} cut at {cuts}")


def _streamed(case: grid.Case, model: gi.Model, cuts: list[int]) -> Arrays:
    states = {"initial_h": "Y_h", "initial_c": "Y_c"}
    stream = model.stream()
    for name in states.keys() & case.feeds.keys():
        stream.state[name] = case.feeds[name]
    axis = _time_axis(case)
    parts = [stream(part) for part in np.split(case.feeds["X"], cuts, axis)]
    finals = {states[name]: np.array(stream.state[name]) for name in states.keys() & case.feeds.keys()}
    return {"Y": np.concatenate(parts, axis)} | finals


# ---- batch mates ----------------------------------------------------------------------------------------------------


PER_ROW = ("sequence_lens", "initial_h", "initial_c")


def _batch_is_free(case: grid.Case) -> bool:
    """No constant of the model is tied to N."""
    return case.sizes["N"] > 1 and not any(n in case.arrays and n not in case.feeds for n in PER_ROW)


@pytest.mark.parametrize("seed", [seed for seed in range(80) if _batch_is_free(grid.make_case(seed))])
def test_batch_mates(seed: int) -> None:
    """Each row alone gives the bits it has among others, in every direction and with ragged lengths."""
    case = grid.make_case(seed)
    model = gi.load(_with_free_shapes(case))
    together = _run(model, case.feeds)
    for row in range(case.sizes["N"]):
        alone = _run(model, {n: _rows(case, n, a, row) for n, a in case.feeds.items()})
        _same_bits(alone, {n: _rows(case, n, a, row) for n, a in together.items()}, f"row {row} of {case}")


def _with_free_shapes(case: grid.Case) -> bytes:
    """The model with no declared shapes for what has a batch axis."""
    model = type(case.model)()
    model.CopyFrom(case.model)
    for port in model.graph.input:
        if port.name in (*PER_ROW, "X"):
            port.type.tensor_type.ClearField("shape")
    return model.SerializeToString()


def _rows(case: grid.Case, name: str, array: np.ndarray, row: int) -> np.ndarray:
    if name in ("W", "R", "B", "P"):
        return array
    return np.take(array, [row], _batch_axis(case, name))


# ---- instruction sets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("block", range(4))
def test_instruction_sets_on_the_grid(block: int, isa: str) -> None:
    require_isa(isa)
    for seed in range(block * 25, (block + 1) * 25):
        case = grid.make_case(seed)
        content = case.model.SerializeToString()
        model = gi.load(content, isa=isa)
        assert model.isa == isa
        _same_bits(_run(model, case.feeds), _run(gi.load(content, isa="scalar"), case.feeds), case)


def _named(result: np.ndarray | Arrays) -> Arrays:
    return result if isinstance(result, dict) else {"": result}


# ---- every way through every cell -----------------------------------------------------------------------------------

STEPS, BATCH = 9, 3
SIZES = (1, 7, 16, 17, 31, 33, 48, 56, 65, 100, 130)
TEAM_SIZES = (130, 200, 256)
"""Where a team shares rows, and where it shares units too."""
CELLS = {
    "lstm": ("LSTM", {}),
    "lstm-peepholes": ("LSTM", {"clip": 0.7, "input_forget": 1}),
    "lstm-activations": ("LSTM", {"activations": ["HardSigmoid", "Softsign", "Elu"], "activation_alpha": [0.2, 0.5]}),
    "lstm-bidirectional": ("LSTM", {"direction": "bidirectional"}),
    "gru": ("GRU", {"linear_before_reset": 0, "clip": 1.1}),
    "gru-linear": ("GRU", {"linear_before_reset": 1}),
    "gru-linear-reverse": ("GRU", {"linear_before_reset": 1, "direction": "reverse"}),
    "gru-reverse": ("GRU", {"linear_before_reset": 1, "direction": "reverse", "activations": ["Softplus", "Relu"]}),
    "rnn": ("RNN", {}),
    "rnn-relu": ("RNN", {"activations": ["Relu"], "clip": 2.0}),
}
"""Name -> operator and attributes; with `peepholes` in its name, P is given."""


@functools.cache
def _cell(name: str, size: int) -> tuple[grid.Case, Arrays]:
    """A layer of another input than hidden size, and what the scalar kernels make of it in one call."""
    kind, attrs = CELLS[name]
    sizes = {"T": STEPS, "N": BATCH, "I": size // 2 + 3, "H": size}
    case = grid.make_cell_case(kind, sizes, attrs, "peepholes" in name)
    return case, _run(gi.load(case.model.SerializeToString(), isa="scalar"), case.feeds)


def _in_chunks(case: grid.Case, model: gi.Model, whole: Arrays) -> Iterator[tuple[Arrays, Arrays]]:
    if case.attrs.get("direction", "forward") == "forward":
        for cuts in (list(range(1, STEPS)), [2, 3, 7]):
            yield _streamed(case, model, cuts), whole


def _in_rows(case: grid.Case, model: gi.Model, whole: Arrays) -> Iterator[tuple[Arrays, Arrays]]:
    """One row alone, and rows at other places among more of them than one register tile holds."""
    for rows in ([1], [2, 0, 1, 0, 2, 2, 1], np.arange(19) % BATCH):
        picked = {name: np.take(array, rows, 1) for name, array in case.feeds.items()}
        yield _run(model, picked), {n: np.take(a, rows, _batch_axis(case, n)) for n, a in whole.items()}


def _off_boundaries(case: grid.Case, model: gi.Model, whole: Arrays) -> Iterator[tuple[Arrays, Arrays]]:
    """Every input and output at another offset from a boundary of 64 bytes."""
    plan = model.plan({name: array.shape for name, array in case.feeds.items()}, {})
    for first in (4, 20, 40, 60):
        runner = plan.lowered.new_runner()
        assert isinstance(runner, Runner)
        places = enumerate([*plan.lowered.inputs.items(), *plan.lowered.outputs.items()])
        memory = {}
        for i, (name, (tensor, dtype, shape)) in places:
            memory[name] = _at_offset(case.feeds.get(name, np.zeros(shape, dtype)), (first + 12 * i) % 60 + 4)
            runner.bind(tensor, memory[name])
        runner.step()
        yield {name: memory[name] for name in whole}, whole


WAYS = {"chunks": _in_chunks, "rows": _in_rows, "offsets": _off_boundaries}


@pytest.mark.parametrize("isa", ["scalar", *ISAS])
@pytest.mark.parametrize("cell", CELLS)
def test_every_way_gives_the_bits_of_the_whole(cell: str, isa: str) -> None:
    require_isa(isa)
    for size in SIZES:
        case, whole = _cell(cell, size)
        model = gi.load(case.model.SerializeToString(), isa=isa)
        _same_bits(_run(model, case.feeds), whole, case)
        for name, way in WAYS.items():
            for got, wanted in way(case, model, whole):
                _same_bits(got, wanted, f"{name}: {case}")


@pytest.mark.parametrize("cell", CELLS)
def test_two_threads_give_the_bits_of_one(cell: str) -> None:
    for size in TEAM_SIZES:
        case, whole = _cell(cell, size)
        model = gi.load(case.model.SerializeToString(), threads=2)
        _same_bits(_run(model, case.feeds), whole, case)
        for name, way in WAYS.items():
            for got, wanted in way(case, model, whole):
                _same_bits(got, wanted, f"{name}: {case}")


# ---- one long row: W x of later steps beside R h --------------------------------------------------------------------

LONG_CELLS = ("lstm", "lstm-peepholes", "lstm-bidirectional", "gru-linear", "gru-linear-reverse", "gru")
LONG_SIZES = ((56, 40), (65, 70), (100, 50), (130, 131), (70, 300))
"""(H, I)."""
LENGTHS = (13, 14, 19, 24, 25, 38)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("cell", LONG_CELLS)
def test_a_long_row_has_the_bits_of_its_steps(cell: str, threads: int) -> None:
    kind, attrs = CELLS[cell]
    for (hidden, inputs), steps in itertools.product(LONG_SIZES, LENGTHS):
        case = grid.make_cell_case(kind, {"T": steps, "N": 1, "I": inputs, "H": hidden}, attrs, "peepholes" in cell)
        content = case.model.SerializeToString()
        wanted = _run(gi.load(content, isa="scalar"), case.feeds)
        model = gi.load(content, threads=threads)
        _same_bits(_run(model, case.feeds), wanted, case)
        if case.attrs.get("direction", "forward") == "forward":
            for cuts in (list(range(1, steps)), [1], [steps - 3]):
                _same_bits(_streamed(case, model, cuts), wanted, f"{case} cut at {cuts}")


# ---- inputs that are zero: single steps leave their weights out ------------------------------------------------------

ZERO_SIZES = ((64, 40), (128, 128), (72, 150))
"""(H, I): W is large enough to look for zeros."""


def _zeros(case: grid.Case, share: float, value: float) -> grid.Case:
    """`case` with about so much of every x replaced."""
    x = case.feeds["X"].copy()
    x[np.random.default_rng(len(x)).random(x.shape) < share] = value
    return dataclasses.replace(case, feeds=case.feeds | {"X": x})


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("cell", ["lstm", "lstm-peepholes", "gru", "gru-linear", "rnn"])
def test_inputs_that_are_zero(cell: str, threads: int) -> None:
    kind, attrs = CELLS[cell]
    for (hidden, inputs), share in itertools.product(ZERO_SIZES, (0.3, 0.5, 0.9, 1.0)):
        case = grid.make_cell_case(kind, {"T": 6, "N": 1, "I": inputs, "H": hidden}, attrs, "peepholes" in cell)
        for value in (0.0, -0.0, 1e-39):
            sparse = _zeros(case, share, value)
            model = gi.load(sparse.model.SerializeToString(), threads=threads)
            whole = _run(model, sparse.feeds)
            _same_bits(_streamed(sparse, model, list(range(1, 6))), whole, f"{case} with {share} of x {value}")


@pytest.mark.parametrize("precision", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("kind", GATES)
def test_rows_whose_inputs_are_zero(kind: str, precision: str) -> None:
    """A single step of several rows from no given state, and of each alone."""
    rng, lines = np.random.default_rng(1), GATES[kind] * 72
    weights = {"W": rng.normal(size=(1, lines, 150)), "R": rng.normal(size=(1, lines, 72)) * 0.1}
    arrays = {name: array.astype(np.float32) for name, array in weights.items()}
    model = gi.from_weights(arrays, kind=kind.lower(), precision=precision)
    x = np.where(rng.random((1, 3, 150)) < 0.7, 0, rng.normal(size=(1, 3, 150))).astype(np.float32)
    (together,) = model.run(None, {"x": x})[:1]
    for row in range(3):
        (alone,) = model.run(None, {"x": x[:, row : row + 1]})[:1]
        np.testing.assert_array_equal(_bits(alone), _bits(together[:, row : row + 1]))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("kind", GATES)
def test_zeros_do_not_hide_weights_that_are_not_finite(kind: str, value: float) -> None:
    """Infinity times zero is NaN, though its weight could be left out."""
    gates = GATES[kind]
    for gate, unit, at in [*((gate, 5, 7) for gate in range(gates)), (gates - 1, 127, 127)]:
        weights = {name: np.zeros((1, gates * 128, 128), np.float32) for name in "WR"}
        weights["W"][0, gate * 128 + unit, at] = value
        model = gi.from_weights(weights, kind=kind.lower(), allow_nonfinite=True)
        h = np.asarray(model(np.zeros((1, 1, 128), np.float32))).reshape(-1)
        assert np.isnan(h[unit]), (gate, unit, at)


# ---- real models ----------------------------------------------------------------------------------------------------

CALLS = 3


def _first_results(case: ZooCase, model: gi.Model) -> list[Arrays]:
    """Of the first calls; streams carry their state from one to the next."""
    stream = model.stream(**case.constants) if case.is_stream else None
    results = []
    for feeds, _ in itertools.islice(case.calls(), CALLS if stream else 1):
        placed = {name: _at_offset(array, 4) for name, array in feeds.items()}
        results.append(_named(stream(**placed)) if stream else _run(model, placed | case.constant_feeds()))
    return results


def _same_results(got: list[Arrays], wanted: list[Arrays], what: object) -> None:
    for step, (one, other) in enumerate(zip(got, wanted, strict=True)):
        _same_bits(one, other, f"{what} at step {step}")


def test_real_models_on_every_instruction_set(zoo_case: ZooCase) -> None:
    wanted = _first_results(zoo_case, gi.load(zoo_case.model, isa="scalar"))
    able = [isa for isa in ISAS if can_run(isa)]
    for isa in able:
        _same_results(_first_results(zoo_case, gi.load(zoo_case.model, isa=isa)), wanted, f"{zoo_case}, {isa}")
    if not able:
        pytest.skip("this CPU has no instruction set to compare with")


def test_real_models_on_two_threads(zoo_case: ZooCase) -> None:
    model = gi.load(zoo_case.model, threads=2)
    _same_results(_first_results(zoo_case, model), _first_results(zoo_case, gi.load(zoo_case.model)), zoo_case)


# ---- lines of any length, denormals and zeros of both signs ---------------------------------------------------------

CHANNELS, LINES, COLUMNS = 20, 6, 40
SPECIAL = np.array([0.0, -0.0, 1e-42, -1e-42, 1e-39, -3e-39, 1.5, -2.0, 1e-20, -1e-20], np.float32)
_FACTORS = np.array([0.0, -0.0, 1.0, -0.5, 1e-3, 1e-30], np.float32)


def _factors(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).choice(_FACTORS, shape)


LINE_NETS: dict[str, tuple[list, Arrays]] = {
    "conv": ([node("Conv", "x W B", "y", pads=[1, 0, 1, 0])], {"W": _factors(4, CHANNELS, 3, 1), "B": _factors(4)}),
    "one-output": ([node("Conv", "x W", "y", pads=[1, 0, 1, 0])], {"W": _factors(1, CHANNELS, 3, 1)}),
    "depthwise": ([node("Conv", "x W", "y", group=CHANNELS)], {"W": _factors(CHANNELS, 1, 3, 1)}),
    "transposed": ([node("ConvTranspose", "x W", "y", strides=[2, 1])], {"W": _factors(CHANNELS, 4, 3, 1)}),
    "maximum": ([node("MaxPool", "x", "y", kernel_shape=[2, 1], strides=[2, 1])], {}),
    "average": ([node("AveragePool", "x", "y", kernel_shape=[2, 1], strides=[2, 1])], {}),
    "largest": ([node("ReduceMax", "x", "y", axes=[2])], {}),
    "least": ([node("ReduceMin", "x", "y", axes=[1, 2])], {}),
    "sum": ([node("ReduceSum", "x axis", "y")], {"axis": np.array([1])}),
    "softmax": ([node("Softmax", "x", "y", axis=1)], {}),
    "dense": (
        [
            node("Transpose", "x", "t", perm=[0, 2, 3, 1]),
            node("MatMul", "t W", "z"),
            node("Transpose", "z", "y", perm=[0, 3, 1, 2]),
        ],
        {"W": _factors(CHANNELS, 33)},
    ),
    "element-wise": (
        [node("Relu", "x", "a"), node("Mul", "a k", "b"), node("Max", "b x", "c"), node("LeakyRelu", "c", "y")],
        {"k": SPECIAL[:LINES].reshape(LINES, 1)},
    ),
}  # fmt: skip
"""x [N, 20, 6, T] -> y, in which no column of T depends on another one."""


@pytest.mark.parametrize("net", LINE_NETS)
def test_columns_alone_or_in_lines(net: str) -> None:
    nodes, constants = LINE_NETS[net]
    content = onnx_model(nodes, {"x": ["N", CHANNELS, LINES, "T"]}, "y", constants).SerializeToString()
    x = np.random.default_rng(0).choice(SPECIAL, (2, CHANNELS, LINES, COLUMNS))
    wanted = _run(gi.load(content, isa="scalar"), {"x": x})["y"]
    for isa in filter(can_run, ("scalar", *ISAS)):
        loaded = gi.load(content, isa=isa)
        for width in (1, 3, 7, 8, 17, COLUMNS):
            parts = [_run(loaded, {"x": x[..., i : i + width]})["y"] for i in range(0, COLUMNS, width)]
            _same_bits({"y": np.concatenate(parts, -1)}, {"y": wanted}, f"{isa}, {width} columns")
        _same_bits({"y": _run(loaded, {"x": x[1:]})["y"]}, {"y": wanted[1:]}, f"{isa}, the second row")


# ---- memory layout of the feeds -------------------------------------------------------------------------------------


def _layouts(array: np.ndarray) -> dict[str, np.ndarray]:
    """The same values at other addresses, in other orders, in the other byte order."""
    padded = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    padded[..., ::2] = array
    return {
        "four bytes off": _at_offset(array, 4),
        "one byte off": _at_offset(array, 1),
        "fortran": np.asfortranarray(array),
        "every second": padded[..., ::2],
        "reversed": np.ascontiguousarray(array[::-1])[::-1],
        "read only": _read_only(array),
        "big endian": array.astype(array.dtype.newbyteorder(">")),
    }


def _at_offset(array: np.ndarray, offset: int) -> np.ndarray:
    """A copy that starts `offset` bytes past a 64-byte boundary."""
    memory = np.zeros(array.nbytes + 128, np.uint8)
    start = -memory.ctypes.data % 64 + offset
    view = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def _read_only(array: np.ndarray) -> np.ndarray:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


@pytest.mark.parametrize("seed", SEEDS[::4])
def test_layout_of_feeds(seed: int) -> None:
    case, model, whole = _whole(seed)
    for layout in _layouts(case.feeds["X"]):
        feeds = {name: _layouts(array)[layout] for name, array in case.feeds.items()}
        _same_bits(_run(model, feeds), whole, f"{layout}: {case}")
        stream = model.stream()
        for name in feeds.keys() - {"X"}:
            stream.state[name] = feeds[name]
        _same_bits({"Y": stream(feeds["X"])}, {"Y": whole["Y"]}, f"streamed, {layout}: {case}")
