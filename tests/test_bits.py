"""The bits promise: chunks, batch mates, instruction set and memory layout of the feeds do not change a single bit."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import grid
import numpy as np
import pytest

import gateinfer as gi

Arrays = dict[str, np.ndarray]
ISAS = {
    "avx2": ("avx2", "fma"),
    "avx512": ("avx512f", "avx512bw", "avx512dq", "avx512vl"),
}
"""Name of a kernel table -> CPU flags it needs."""
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


def _require(isa: str) -> None:
    """Skip where the CPU lacks `isa`; that the engine cannot load it is no excuse."""
    info = Path("/proc/cpuinfo")
    flags = info.read_text().split() if info.exists() else []
    if not set(ISAS[isa]) <= set(flags):
        pytest.skip(f"this CPU has no {isa}, or does not say so in {info}")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("block", range(4))
def test_instruction_sets_on_the_grid(block: int, isa: str) -> None:
    _require(isa)
    for seed in range(block * 25, (block + 1) * 25):
        case = grid.make_case(seed)
        content = case.model.SerializeToString()
        model = gi.load(content, isa=isa)
        assert model.isa == isa
        _same_bits(_run(model, case.feeds), _run(gi.load(content, isa="scalar"), case.feeds), case)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ["silero-vad", "rnnoise", "plc-nsnet2"])
def test_instruction_sets_on_real_models(zoo, name: str, isa: str) -> None:
    _require(isa)
    case = zoo(name)
    streams = [m.stream(**case.constants) for m in (gi.load(case.model, isa=isa), gi.load(case.model, isa="scalar"))]
    for step, (feeds, _) in zip(range(20), case.calls(), strict=False):
        got, wanted = (stream(*feeds.values()) for stream in streams)
        _same_bits(_named(got), _named(wanted), f"{name} at step {step}")


def _named(result: np.ndarray | Arrays) -> Arrays:
    return result if isinstance(result, dict) else {"": result}


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
