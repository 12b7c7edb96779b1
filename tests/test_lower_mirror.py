"""Convolutions whose filters mirror themselves, or each other, too: the answers of any convolution, for less work."""

from __future__ import annotations

import numpy as np
import pytest
from isas import ISAS, require_isa
from pipeline import chain, check, make_model, node, random, run_model

import gateinfer as gi


def filters(count: int, taps: int, *, alone: int, kinds: str, seed: int = 1) -> np.ndarray:
    """[count, 1, taps] in equal parts: "e" symmetric, "o" antisymmetric, "0" zeros. Only zeros stand alone."""
    weights = random(count, 1, taps, seed=seed)
    turned = weights[:, :, alone:][:, :, ::-1].copy()
    for part, kind in zip(np.array_split(np.arange(count), len(kinds)), kinds, strict=True):
        sign = {"e": 1, "o": -1, "0": 0}[kind]
        weights[part, :, alone:] = (weights[part, :, alone:] + sign * turned[part]) * abs(sign) / 2
    return weights


def sharing(weights: np.ndarray, shared: list[int]) -> np.ndarray:
    """In equal parts of the filters, the last ones mirror the first: taps of parity `shared` equal, others negated."""
    result = weights.copy()
    for part, parity in zip(np.array_split(result, len(shared)), shared, strict=True):
        half = len(part) // 2
        for taps, sign in ((slice(parity, None, 2), 1), (slice(1 - parity, None, 2), -1)):
            part[len(part) - half :, :, taps] = sign * part[:half][::-1, :, taps]
            part[half : len(part) - half, :, taps] *= sign > 0
    return result


def fourier(taps: int, window: np.ndarray) -> np.ndarray:
    """The transform of a window as front ends store it, [taps + 2, 1, taps]: real parts, then imaginary ones."""
    angles = 2 * np.pi * np.outer(np.arange(taps // 2 + 1), np.arange(taps)) / taps
    half = np.concatenate([np.cos(angles), -np.sin(angles)]) * window
    middle, bins = (taps - 1) // 2, taps // 2 + 1
    half[:, taps - middle :] = np.repeat([[1], [-1]], bins, axis=0) * half[:, middle:0:-1]  # to the last bit
    half[bins:, taps // 2] = 0
    return half.astype(np.float32)[:, None]


WINDOWS = [
    dict(length=256),
    dict(length=640, strides=[64]),
    dict(length=300, strides=[3]),
    dict(length=100, strides=[7], pads=[200, 90]),
    dict(length=400, strides=[50], pads=[128, 0]),
    dict(length=500, auto_pad="SAME_UPPER", strides=[40]),
    dict(length=13, strides=[500], pads=[400, 0]),  # the window ends before the input begins
]


@pytest.mark.parametrize("kinds", ["e", "o", "eo", "oe", "e0o0", "0"])
@pytest.mark.parametrize("taps", [256, 128, 139])
@pytest.mark.parametrize("alone", [0, 1])
def test_any_mirrored_filters(kinds: str, taps: int, alone: int) -> None:
    weights, x = filters(131, taps, alone=alone, kinds=kinds), random(2, 1, 300)
    lowered = check(
        node("Conv", "X W B", strides=[5]), {"X": x}, {"W": weights, "B": random(131, seed=2)}, atol=chain(taps)
    )
    positions = (300 - taps) // 5 + 1
    assert lowered.program.macs <= 2 * positions * 131 * (taps // 2 + 1)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("kinds", ["eo", "oe", "o"])
def test_any_window(window: dict, kinds: str) -> None:
    attrs = {name: value for name, value in window.items() if name != "length"}
    constants = {"W": filters(128, 256, alone=1, kinds=kinds)}
    check(node("Conv", "X W", **attrs), {"X": random(1, 1, window["length"])}, constants, opset=11, atol=chain(256))


def run(x: np.ndarray, weights: np.ndarray, **attrs: object) -> np.ndarray:
    model = make_model([node("Conv", "X W", **attrs)], {"X": x}, {"W": weights}, ["Y"], 22, np.float32)
    return run_model(model, {"X": x})["Y"]


def test_a_fourier_transform_fills_its_blocks() -> None:
    """129 real parts and 129 imaginary ones, the first and last of which are zero, are 17 blocks of 16."""
    weights = fourier(256, np.hanning(257)[:256])
    x = random(1, 1, 640)
    lowered = check(node("Conv", "X W", strides=[64]), {"X": x}, {"W": weights}, atol=chain(256))
    spectrum = np.fft.rfft(
        np.lib.stride_tricks.sliding_window_view(x[0, 0].astype(float), 256)[::64] * np.hanning(257)[:256]
    )
    found = run(x, weights, strides=[64])[0]
    np.testing.assert_allclose(found[:129].T + 1j * found[129:].T, spectrum, atol=2 * chain(256))
    assert lowered.program.macs == 7 * (130 + 128) * 129


def macs(weights: np.ndarray, positions: int = 3, strides: int = 6, **constants: np.ndarray) -> int:
    """Multiply-adds per position, of a Conv that agrees with the reference."""
    taps = weights.shape[2]
    nodes = [node("Conv", "X W B" if "B" in constants else "X W", "a", strides=[strides])]
    nodes.append(node("Mul", "a k") if "k" in constants else node("Neg", "a"))
    x = random(2, 1, (positions - 1) * strides + taps)
    lowered = check(nodes, {"X": x}, {"W": weights, **constants}, atol=chain(taps))
    return lowered.program.macs // (2 * positions)


def a_quarter(weights: np.ndarray) -> int:
    """Two more filters and one more tap of each kind belong to no other."""
    count, _, taps = weights.shape
    return (count // 2 + 2) * (taps // 2 + 1)


@pytest.mark.parametrize(("kinds", "shared"), [("e", [0]), ("o", [0]), ("eo", [0, 1]), ("oe", [1, 1])])
@pytest.mark.parametrize(("taps", "alone"), [(256, 1), (257, 0)])
@pytest.mark.parametrize("count", [256, 258])
@pytest.mark.parametrize("positions", [1, 4, 20])
def test_filters_that_mirror_each_other(
    kinds: str, shared: list[int], taps: int, alone: int, count: int, positions: int
) -> None:
    """Even numbers of filters, and odd ones, of which the middle one mirrors itself; results in either layout."""
    weights = sharing(filters(count, taps, alone=alone, kinds=kinds), shared)
    assert macs(weights, positions) <= a_quarter(weights)


def test_what_keeps_filters_from_sharing_sums() -> None:
    """What differs between two filters that mirror each other, windows that change parity, too little to gain."""
    weights = sharing(filters(256, 256, alone=1, kinds="eo"), [0, 1])
    most = a_quarter(weights)
    assert macs(weights) <= most < macs(weights, strides=7)
    assert macs(weights, B=random(256, seed=2)) > most
    assert macs(weights, k=random(256, 1, seed=3)) > most
    other = weights.copy()
    other[3, 0, [5, 251]] = np.nextafter(other[3, 0, 5], np.float32(2))
    assert macs(other) > most
    assert macs(sharing(filters(256, 256, alone=0, kinds="eo"), [0, 1])) > most
    short = sharing(filters(256, 254, alone=1, kinds="eo"), [0, 1])
    assert macs(short) > a_quarter(short)


def test_scales_behind_it_are_folded() -> None:
    nodes = [node("Conv", "X W B", "a", strides=[16]), node("Mul", "a k", "b"), node("Add", "b c")]
    constants = {"W": filters(72, 128, alone=1, kinds="eo"), "B": random(72, seed=2),
                 "k": random(72, 1, seed=3), "c": random(72, 1, seed=4)}  # fmt: skip
    lowered = check(nodes, {"X": random(1, 1, 200)}, constants, atol=2 * chain(128))
    assert lowered.program.op_names.count("binary") == 2  # sums and differences


def is_mirrored(weights: np.ndarray, **attrs: object) -> bool:
    x = random(1, weights.shape[1] * int(attrs.get("group", 1)), 300)
    lowered = check(node("Conv", "X W", **attrs), {"X": x}, {"W": weights}, atol=chain(weights[0].size))
    return "binary" in lowered.program.op_names


def test_what_mirrors_itself_is_found_by_its_bits() -> None:
    weights = filters(64, 128, alone=1, kinds="eo")
    assert is_mirrored(weights)
    for tap in (1, 64, 127):
        other = weights.copy()
        other[40, 0, tap] = np.nextafter(other[40, 0, tap], np.float32(2))
        assert not is_mirrored(other), tap
    in_turns = weights.reshape(2, 32, 1, 128).swapaxes(0, 1).reshape(64, 1, 128)
    assert not is_mirrored(in_turns)
    assert not is_mirrored(filters(64, 128, alone=1, kinds="eoe"))
    assert not is_mirrored(weights, dilations=[2])


@pytest.mark.parametrize(("count", "taps"), [(64, 127), (63, 128), (64, 129)])
def test_too_small_or_too_long_to_gain(count: int, taps: int) -> None:
    """What is added up would take longer than what is saved, or much more memory than the result."""
    assert not is_mirrored(filters(count, taps, alone=1, kinds="eo"))


def test_a_tap_alone_is_multiplied_as_it_is() -> None:
    """Twice the input would overflow, half the weight would be flushed."""
    weights, x = np.zeros((64, 1, 129), np.float32), np.full((1, 1, 129), 1, np.float32)
    weights[0, 0, 64], weights[1, 0, 64], x[0, 0, 64] = 1, 2e-38, 2e38
    expected = np.zeros(64, np.float32)
    expected[:2] = x[0, 0, 64], weights[1, 0, 64] * x[0, 0, 64]
    np.testing.assert_array_equal(run(x, np.concatenate([weights, weights])).ravel(), np.tile(expected, 2))


@pytest.mark.parametrize("tap", [0, 1, 128, 255])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shared", [False, True])
def test_what_is_not_finite_spoils_every_filter_that_sees_it(tap: int, value: float, shared: bool) -> None:
    """Also those whose weight there is 0."""
    x, weights = random(1, 1, 512), fourier(256, np.hanning(257)[:256])
    if shared:
        weights = sharing(weights, [0, 1])
    x[0, 0, tap] = value
    found = run(x, weights, strides=[256])
    assert not np.isfinite(found[0, :, 0]).any()
    assert np.isfinite(found[0, :, 1]).all()


@pytest.mark.parametrize("isa", ["scalar", *ISAS])
@pytest.mark.parametrize("weights", [
    filters(96, 160, alone=1, kinds="eo"),
    sharing(filters(150, 256, alone=1, kinds="eo"), [0, 1]),
], ids=["mirrored", "shared"])  # fmt: skip
def test_the_bits_do_not_depend_on_rows_lengths_or_instruction_set(isa: str, weights: np.ndarray) -> None:
    require_isa(isa)
    taps = weights.shape[2]
    x = random(3, 1, 840 + taps)
    model = make_model([node("Conv", "X W", strides=[32])], {"X": x}, {"W": weights}, ["Y"], 22)
    for axis in (0, 2):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"n{axis}"
    data = model.SerializeToString()
    (whole,) = gi.load(data).run(None, {"X": x})
    loaded = gi.load(data, isa=isa)
    for row, first, positions in [(0, 0, 27), (1, 0, 1), (2, 5, 7), (2, 18, 9)]:
        piece = x[row : row + 1, :, first * 32 : (first + positions - 1) * 32 + taps]
        (found,) = loaded.run(None, {"X": piece})
        np.testing.assert_array_equal(found[0], whole[row, :, first : first + positions])
