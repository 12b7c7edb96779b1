"""Convolutions of rows of a constant table: sums of looked-up rows against float64, and bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from isas import ISAS, require_isa
from pipeline import chain, check, compare, compile_model, make_model, node, random, run_lowered

import gateinfer as gi
from gateinfer.lower import embedding

V, C, M = 7, 9, 20
CASES = [
    dict(length=11, taps=3),
    dict(length=11, taps=3, pads=[1, 1]),
    dict(length=10, taps=4, strides=[2], pads=[3, 2]),
    dict(length=9, taps=3, strides=[3], dilations=[2], pads=[0, 5]),
    dict(length=6, taps=5, auto_pad="SAME_UPPER"),
    dict(length=2, taps=6, pads=[7, 7], dilations=[2]),
    dict(length=8, taps=1, strides=[2]),
    dict(length=8, taps=1, strides=[3], auto_pad="SAME_LOWER"),
]
TABLE = random(V, C, seed=1)


@pytest.fixture(autouse=True)
def small_tables_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "FEWEST_CHANNELS", 1)


def attrs_of(case: dict) -> dict:
    return {k: v for k, v in case.items() if k not in ("length", "taps")}


def look_up(case: dict, *, bias: bool = True) -> tuple[list, dict[str, np.ndarray]]:
    """Nodes from row numbers X [N, L] to Y, and their constants."""
    weights = {"E": TABLE, "W": random(M, C, case["taps"], seed=2)} | ({"B": random(M, seed=3)} if bias else {})
    conv = node("Conv", "x W B" if bias else "x W", **attrs_of(case))
    return [node("Gather", "E X", "e"), node("Transpose", "e", "x", perm=[0, 2, 1]), conv], weights


def tokens(rows: int, length: int) -> np.ndarray:
    return np.random.default_rng(4).integers(-V, V, (rows, length))


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_sums_of_rows(case: dict, bias: bool) -> None:
    nodes, weights = look_up(case, bias=bias)
    ids = tokens(2, case["length"])
    check(nodes, {"X": ids}, weights, opset=13, atol=chain(C * case["taps"] + 1))
    program = compile_model(make_model(nodes, {"X": ids}, weights, ["Y"], 13), {"X": ids}).program
    assert "conv" not in program.op_names and program.macs == 0


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("isa", ["scalar", *ISAS])
def test_bits_depend_on_no_rows_and_no_instruction_set(case: dict, isa: str) -> None:
    require_isa(isa)
    nodes, weights = look_up(case)

    def found(ids: np.ndarray, isa: str) -> np.ndarray:
        model = make_model(nodes, {"X": ids}, weights, ["Y"], 13)
        return run_lowered(compile_model(model, {"X": ids}, isa=isa), {"X": ids})["Y"]

    ids = tokens(3, case["length"])
    for row, wanted in enumerate(found(ids, "scalar")):
        assert found(ids[row : row + 1], isa).tobytes() == wanted.tobytes()


def test_scales_behind_it_are_folded() -> None:
    nodes, weights = look_up(CASES[1])
    nodes[-1].output[0] = "y"
    norm = {"s": random(M, low=0.5), "o": random(M), "m": random(M), "v": random(M, low=0.1)}
    nodes += [node("BatchNormalization", "y s o m v", "z"), node("Relu", "z")]
    check(nodes, {"X": tokens(2, 11)}, weights | norm, opset=15, atol=4 * chain(3 * C + 4))


def test_rows_that_are_moved_first() -> None:
    nodes, weights = look_up(CASES[1])
    nodes[0].output[0] = "flat"
    nodes.insert(1, node("Reshape", "flat shape", "e"))
    check(nodes, {"X": tokens(1, 22)[0]}, weights | {"shape": np.array([2, 11, C])}, opset=13, atol=chain(3 * C + 1))


def test_a_row_that_is_not_there_is_named() -> None:
    nodes, weights = look_up(CASES[0])
    ids = tokens(1, 11)
    model = gi.load(make_model(nodes, {"X": ids}, weights, ["Y"], 13).SerializeToString())
    wanted = model.run(None, {"X": ids})[0]
    ids[0, 5] = V
    with pytest.raises(gi.ShapeError, match=f"index {V} is out of range for an axis of {V}"):
        model.run(None, {"X": ids})
    ids[0, 5] = 0
    assert model.run(None, {"X": ids})[0].shape == wanted.shape


def test_a_row_that_no_tap_looks_up_is_refused_as_well() -> None:
    nodes, weights = look_up(dict(length=12, taps=1, strides=[3]))
    ids = tokens(1, 12)
    model = gi.load(make_model(nodes, {"X": ids}, weights, ["Y"], 13).SerializeToString())
    ids[0, 1] = 10**9
    with pytest.raises(gi.ShapeError, match="out of range"):
        model.run(None, {"X": ids})


def test_row_numbers_that_are_written_over_later() -> None:
    """By the file's order the look-up is behind them then; but the convolution makes it."""
    nodes, weights = look_up(CASES[0])
    nodes[0] = node("Gather", "E ids", "e")
    scatter = node("ScatterElements", "ids at new", "Z", axis=1)
    nodes = [node("Abs", "X", "ids"), nodes[0], scatter, *nodes[1:]]
    more = {"at": np.arange(11)[None], "new": np.full((1, 11), 3)}
    check(nodes, {"X": tokens(1, 11)}, weights | more, outputs=["Y", "Z"], opset=13, atol=chain(3 * C + 1))


@pytest.mark.parametrize("reason", ["large", "infinite sums", "few channels", "other reader", "groups"])
def test_other_convolutions_multiply(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, weights = look_up(CASES[0])
    ids, outputs = tokens(1, 11), ["Y"]
    if reason == "large":
        monkeypatch.setattr(embedding, "MAX_CONV_BYTES", V * M * 3 * 4 - 1)
    elif reason == "infinite sums":
        monkeypatch.setattr(embedding, "MAX_SUM", 1.0)
    elif reason == "few channels":
        monkeypatch.setattr(embedding, "FEWEST_CHANNELS", C + 1)
    elif reason == "groups":
        nodes[-1].attribute.extend(node("Conv", "", group=2).attribute)
        weights |= {"E": random(V, 2 * C, seed=1)}
    else:
        outputs = ["Y", "x"]
    model = make_model(nodes, {"X": ids}, weights, outputs, 13)
    lowered = compile_model(model, {"X": ids})
    assert "conv" in lowered.program.op_names
    found = run_lowered(lowered, {"X": ids})
    x = weights["E"][ids].transpose(0, 2, 1).astype(float)
    parts = x.reshape(1, -1, C, 11)
    filters = weights["W"].astype(float).reshape(parts.shape[1], -1, C, 3)
    windows = np.lib.stride_tricks.sliding_window_view(parts, 3, axis=3)
    wanted = np.einsum("ngclk,gmck->ngml", windows, filters).reshape(1, M, 9) + weights["B"].astype(float)[:, None]
    compare(found["Y"], wanted, 0, chain(3 * C + 1))
