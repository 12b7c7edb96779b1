"""The node cases of the ONNX standard, as the `onnx` package generates them, for every native operator.

A case runs up to three times: with all inputs at run time, with all but the first known when the program is built (many
operators need their second input then), and with the first two known (they decide how often a Loop turns). A refusal is
fine and listed; a wrong figure or another error is not.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from pipeline import run_model

from gateinfer.errors import UnsupportedOp
from gateinfer.lower import NATIVE_OPS

ULPS = 64
"""The cases' figures are NumPy results of unknown rounding; the longest sums among them have about 60 terms. Of float32
or of the case's own type, if that is coarser."""

EXPANDED = "functions"
"""Cases whose operator is spelled out in other ones."""

ROUNDED = frozenset({"test_averagepool_2d_ceil_last_window_starts_on_pad"})
"""Cases with inputs and figures rounded to four decimals."""


@dataclass
class Tally:
    native: int = 0
    refused: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def cases() -> Mapping[str, list]:
    """Node cases by operator."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generators overflow on purpose
        found = collect_testcases(None)
    grouped = defaultdict(list)
    for case in found:
        nodes = case.model.graph.node
        grouped[nodes[0].op_type if len(nodes) == 1 else EXPANDED].append(case)
    return grouped


@pytest.fixture(scope="module")
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    counts = Tally()
    yield counts
    plugins = request.config.pluginmanager
    reporter, capture = plugins.getplugin("terminalreporter"), plugins.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        reporter.write_line(f"\nONNX node cases: {counts.native} run natively, {len(counts.refused)} refused")
        for line in counts.refused if request.config.get_verbosity() > 0 else ():
            reporter.write_line(f"  {line}")


@pytest.mark.parametrize("op", sorted(NATIVE_OPS))
def test_operator(op, cases, tally):
    natives = sum(run_case(case, tally) for case in cases[op])
    assert natives, f"no case of {op} runs natively"


def test_functions(cases, tally):
    """Whatever of the spelled-out functions is made of native operators only."""
    for case in cases[EXPANDED]:
        if all(node.op_type in NATIVE_OPS or node.op_type == "Constant" for node in case.model.graph.node):
            run_case(case, tally)


def run_case(case, tally: Tally) -> bool:
    """True when at least one way to run the case is native; all that are must be right."""
    names = [port.name for port in case.model.graph.input]
    natives, reasons = 0, []
    for inputs, outputs in case.data_sets:
        feeds = dict(zip(names, map(_as_array, inputs), strict=True))
        for bound in (set(), set(names[1:]), set(names[:2])):
            try:
                found = run_arrays(case.model, feeds, bound)
            except UnsupportedOp as error:
                reasons.append(str(error))
                continue
            compare(case.name, found, [_as_array(value) for value in outputs])
            natives += 1
    if natives:
        tally.native += 1
    else:
        tally.refused.append(f"{case.name}: {' '.join(reasons[-1].split())}")
    return bool(natives)


def _as_array(value: object) -> object:
    """Cases of casts give their tensors as the standard stores them."""
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def run_arrays(model: onnx.ModelProto, feeds: Mapping, bound: Set[str]) -> list[np.ndarray]:
    """Outputs in the order of the model."""
    if not all(isinstance(value, (np.ndarray, np.generic)) for value in feeds.values()):
        raise UnsupportedOp("an input is no tensor")
    arrays = {name: np.asarray(value) for name, value in feeds.items()}
    found = run_model(model, arrays, {name: arrays[name] for name in bound})
    return [found[port.name] for port in model.graph.output]


def compare(name: str, found: list[np.ndarray], expected: list) -> None:
    for got, wanted in zip(found, map(np.asarray, expected), strict=True):
        assert got.shape == wanted.shape and got.dtype == wanted.dtype, name
        tolerance = 0.0
        if wanted.dtype.kind == "f":
            finite = abs(wanted[np.isfinite(wanted)])
            ulp = max(np.finfo(wanted.dtype).eps, 2.0**-23)
            tolerance = ULPS * ulp * max(1.0, finite.max(initial=0.0)) if name not in ROUNDED else 1e-4
        np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance, err_msg=name)
