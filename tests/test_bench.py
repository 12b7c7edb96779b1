"""The benchmark in its quickest form, so that it cannot rot: nothing here looks at how long anything took."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT))  # last: a build under test comes first

pytest.importorskip("onnx", reason="the benchmark writes ONNX models")

from bench import __main__ as whole  # noqa: E402
from bench import cases, cold, limits, machine, speed, table  # noqa: E402
from bench import peers as engines  # noqa: E402

RESULTS = sorted((ROOT / "bench/results").glob("*.json"))


@pytest.fixture(scope="module")
def found():
    """Results of a run over tiny cases, as `python -m bench` writes them."""
    names = ["lstm-16-step", "gru-16-sequence"]
    rows = [speed.measure(cases.load(name), 1, 0.0, ("gateinfer", "NumPy", "onnxruntime run")) for name in names]
    settings = {"threads": 1, "cpus": [0], "load_average": [0.0, 0.0]}
    cells = {name: {"us": 1.0, "limit_us": 0.5} for name in names}
    start = {"case": names[0], "engine": "NumPy", "load_s": 0.1, "first_s": 0.1, "total_s": 0.2, "peak_MiB": 30.0}
    return machine.facts() | {
        "date": "now", "cells": cells, "speed": [{"settings": settings, "rows": rows}], "cold": [start],
    }  # fmt: skip


@pytest.mark.parametrize("op", ["lstm", "gru"])
@pytest.mark.parametrize("group", cases.FORMS)
def test_engines_agree_and_are_timed(op, group):
    row = speed.measure(cases.load(f"{op}-16-{group}"), 1, 0.0, ("gateinfer", "NumPy"))
    assert row["skipped"] == {}
    ours, theirs = row["engines"]
    assert (ours["engine"], theirs["engine"], ours["ratio"]) == ("gateinfer", "NumPy", 1)
    assert ours["calls"] == row["rounds"] * (row["burst"] - 1)  # the first call of a turn is reported apart


class Wrong:
    """An engine that computes something else."""

    def __init__(self, case, threads):
        self._shape = case.frames[0]["x"].shape

    def __call__(self, index):
        pass

    def answer(self):
        return np.ones(self._shape, np.float32)


def test_an_engine_with_another_answer_takes_no_part(monkeypatch):
    monkeypatch.setitem(engines.PEERS, "NumPy", ("numpy", "Wrong"))
    monkeypatch.setattr("bench.peers.numpy.Wrong", Wrong, raising=False)
    row = speed.measure(cases.load("lstm-16-step"), 1, 0.0, ("gateinfer", "NumPy"))
    assert [e["engine"] for e in row["engines"]] == ["gateinfer"]
    assert row["skipped"]["NumPy"].startswith("another answer")


def test_an_engine_that_is_not_installed_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "bench.peers.openvino", raising=False)
    with pytest.raises(engines.Skip, match="openvino is not installed .make bench-peers."):
        engines.make("OpenVINO", cases.load("lstm-16-step"))


def test_every_name_is_a_case_and_every_cell_of_the_roofline_is_one():
    names = cases.names()
    assert len(names) == len(set(names)) >= 2 * len(cases.SIZES) * len(cases.FORMS)
    for (steps, rows), group in limits.GROUPS.items():
        assert cases.FORMS[group] == (steps, rows)
        assert limits.name({"cell": "gru", "size": 200, "steps": steps, "rows": rows}) in cases.LAYERS


def test_real_models_are_cases(zoo_case):
    case = cases.zoo_case(str(zoo_case) if zoo_case.is_stream else f"{zoo_case}:0")
    taking, skipped = speed.engines(case, 1, ("gateinfer",))
    assert not skipped and np.isfinite(taking["gateinfer"].answer()).all()


def test_roofline_tool_compiles():
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler `cc` on the path")
    command = [compiler, "-fsyntax-only", "-std=gnu11", "-Wall", "-Werror", f"-I{ROOT / 'src_c'}"]
    subprocess.run([*command, str(ROOT / "bench/c/roofline.c")], check=True)


def test_cold_start_is_measured_in_a_fresh_process(tmp_path):
    import pickle

    path = tmp_path / "case.pickle"
    path.write_bytes(pickle.dumps(cases.load("lstm-16-step")))
    result = cold.in_fresh_process(path, "NumPy", byte_code=tmp_path / "compiled")
    assert 0 < result["numpy_s"] < result["load_s"]
    assert [*(tmp_path / "compiled").rglob("bench/cases.*.pyc")], "no byte code was left for the next process"
    assert result["total_s"] == pytest.approx(result["load_s"] + result["first_s"]) and result["peak_MiB"] > 1


def test_a_cold_start_counts_what_the_engine_itself_imports():
    code = "import sys, bench.start; early = set(sys.modules)\nimport bench.peers.onnxruntime\n"
    code += "print('numpy' in early, 'pathlib' in early, 'gateinfer' in sys.modules)"
    command = [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{code}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["False"] * 3


# ---- what is written about the results ----


def test_json_survives_the_compact_form(found):
    again = json.loads(table.compact(found))
    rows, expected = again["speed"][0]["rows"], found["speed"][0]["rows"]
    assert [row["case"] for row in rows] == [row["case"] for row in expected]
    assert rows[0]["engines"][1]["ratio"] == pytest.approx(expected[0]["engines"][1]["ratio"], rel=1e-3)


def test_tables_name_every_case_and_mark_what_is_lost(found):
    rows = found["speed"][0]["rows"]
    text = table.full(found)
    assert all(f"| {row['case']} |" in text for row in rows)
    assert table.times(0.9) == "**0.90**" and table.times(1.1) == "1.10" and table.times(12.34) == "12.3"
    assert "LSTM 16, one step" in table.readme(found)


def test_pictures_are_drawn(found, tmp_path):
    pytest.importorskip("matplotlib")
    from bench import plots

    paths = plots.draw(found, tmp_path)
    assert {path.name for path in paths} == {"ratio.png", "roofline.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_kept_results_are_whole(path):
    kept = json.loads(path.read_text())
    assert {row["case"] for row in kept["speed"][0]["rows"]} >= set(cases.LAYERS)
    assert kept["machine"]["cpu"] and kept["versions"]["gateinfer"] and kept["revision"]


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_kept_results_are_shown(path):
    newest = max(RESULTS, key=lambda kept: json.loads(kept.read_text())["date"])
    text = ROOT / ("README.md" if path == newest else "bench/README.md")
    assert table.readme(json.loads(path.read_text())) in text.read_text()


@pytest.mark.parametrize(
    ("info", "name"),
    [
        ("cpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n", "AMD EPYC, family 26 model 2"),
        ("model name\t: Some CPU\n", "Some CPU"),
        ("", platform.processor() or platform.machine()),
    ],
    ids=["family", "name", "nothing"],
)
def test_processors_of_one_name_are_told_apart(info, name, monkeypatch):
    monkeypatch.setattr(machine, "_read", lambda path: info)
    assert machine.cpu_model() == name


def test_kept_results_are_small():
    assert sum(path.stat().st_size for path in (ROOT / "bench/results").iterdir()) < 600_000


@pytest.mark.parametrize(
    "words", [["--only", "["], ["--only", "no-such-case"], ["--out", "/dev/null/results"]], ids=str
)
def test_what_cannot_end_well_is_refused_before_anything_is_measured(words, monkeypatch, capsys):
    monkeypatch.setattr(whole, "measure", lambda *_: pytest.fail("measured"))
    monkeypatch.setattr(sys, "argv", ["bench", *words])
    with pytest.raises(SystemExit):
        whole.main()
    assert f"argument {words[0]}: " in capsys.readouterr().err
