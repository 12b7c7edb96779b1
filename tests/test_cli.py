"""The command line: what it prints, what it writes, and how it fails."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import wave
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import gateinfer as gi  # noqa: E402
from gateinfer.audio import frames_of, read_wav  # noqa: E402
from gateinfer.bench import BOUND, ENGINE, RUN, STEP, interleave, single_steps  # noqa: E402
from gateinfer.cli import main, render  # noqa: E402
from gateinfer.cli.render import plain_table  # noqa: E402
from gateinfer.demo import Outcome, segments_of  # noqa: E402

SIZE, HIDDEN = 6, 5


def save_lstm(path, *, op="LSTM", seq_len="T"):
    """x [T, 1, I], h, c [1, 1, H] -> y [T, 1, 1, H], hn, cn."""
    rng = np.random.default_rng(3)
    shapes = {"W": (1, 4 * HIDDEN, SIZE), "R": (1, 4 * HIDDEN, HIDDEN), "B": (1, 8 * HIDDEN)}
    weights = [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32) / 2, n) for n, s in shapes.items()]
    node = helper.make_node(op, ["x", "W", "R", "B", "", "h", "c"], ["y", "hn", "cn"], hidden_size=HIDDEN, name="layer")

    def port(name, *shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    ports = [port("x", seq_len, 1, SIZE), port("h", 1, 1, HIDDEN), port("c", 1, 1, HIDDEN)]
    results = [port("y", seq_len, 1, 1, HIDDEN), port("hn", 1, 1, HIDDEN), port("cn", 1, 1, HIDDEN)]
    graph = helper.make_graph([node], "lstm", ports, results, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8), path)
    return path


@pytest.fixture
def lstm(tmp_path):
    return save_lstm(tmp_path / "lstm.onnx")


@pytest.fixture
def gain(tmp_path):
    """y = x * gain, with x [1, 8] and gain a scalar input."""
    node = helper.make_node("Mul", ["x", "gain"], ["y"])
    graph = helper.make_graph(
        [node],
        "gain",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 8)),
            helper.make_tensor_value_info("gain", TensorProto.FLOAT, ()),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 8))],
    )
    path = tmp_path / "gain.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8), path)
    return path


def save_wav(path, samples, *, rate=16000, width=2, channels=1):
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return path


def read_json(capsys):
    return json.loads(capsys.readouterr().out)


def sequence(length=12):
    return np.random.default_rng(0).standard_normal((length, 1, SIZE)).astype(np.float32)


# ---- info ----


def test_info_json_names_everything(lstm, capsys):
    assert main(["info", str(lstm), "--shape", "x=10,1,6", "--json"]) == 0
    found = read_json(capsys)
    assert [row["op"] for row in found["rows"]] == ["LSTM"]
    assert found["macs"] == 10 * 4 * HIDDEN * (SIZE + HIDDEN)
    assert len(found["inputs"]) == 3 and len(found["states"]) == 2
    assert found["packed_bytes"] > 0 and found["isa"] in gi.isa_names()


@pytest.mark.parametrize("style", [[], ["--plain"]])
def test_info_table(lstm, capsys, style):
    assert main(["info", str(lstm), *style]) == 0
    out = capsys.readouterr().out
    assert "LSTM" in out and "layer" in out and "multiply-adds" in out


def windows() -> bytes:
    """x [b, 1, T] -> y [b, 2, T - 49]."""
    weights = numpy_helper.from_array(np.ones((2, 1, 50), np.float32), "W")
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", c, t])
        for name, c, t in [("x", 1, "T"), ("y", 2, "U")]
    )
    node = helper.make_node("Conv", ["x", "W"], ["y"])
    graph = helper.make_graph([node], "windows", [x], [y], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    return model.SerializeToString()


def test_figures_where_a_window_needs_more_than_one_frame(tmp_path, capsys):
    """Open extents that count as 1 would leave no program; the batch stays 1."""
    summary = gi.load(windows()).summary()
    assert summary.macs and "(1, 1, 512)" in summary.note
    (tmp_path / "windows.onnx").write_bytes(windows())
    assert main(["validate", str(tmp_path / "windows.onnx"), "--steps", "2"]) == 0
    assert "agrees" in capsys.readouterr().out


def test_summary_prints(lstm):
    assert "LSTM" in str(gi.load(lstm).summary())


@pytest.fixture
def sequence_gru(tmp_path):
    """x [N, T, 2] -> y [T, 1, N, 3], the state inside."""
    rng = np.random.default_rng(0)
    weights = {"W": rng.normal(size=(1, 9, 2)).astype("f4"), "R": rng.normal(size=(1, 9, 3)).astype("f4")}
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node("GRU", ["t", "W", "R"], ["y"], hidden_size=3, name="layer"),
    ]
    ports = (("x", ["N", "T", 2]), ("y", None))
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ports)
    arrays = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    path = tmp_path / "sequence.onnx"
    graph = helper.make_graph(nodes, "g", [x], [y], arrays)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8), path)
    return path


def test_info_says_how_a_whole_sequence_model_is_used(sequence_gru, capsys):
    assert main(["info", str(sequence_gru), "--plain"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "frames along axis 1 of 'x' by stream()" in out and "layer.h (1, ?, 3), lifted" in out
    assert "GRU 2 -> 3 forward, 100 steps, batch 1: layer" in out and "x (1, 100, 2), picked" in out


def test_plain_tables_keep_to_the_width():
    text = plain_table(("a", "b", "n"), [("word " * 30, "x" * 50, "1,000")], [False, False, True], width=60)
    lines = text.splitlines()
    assert max(map(len, lines)) == 60 and "".join(lines[2:]).count("word") == 30
    assert "".join(lines[2:]).count("x") == 50 and sum("1,000" in line for line in lines) == 1


def test_info_keeps_to_a_hundred_columns(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    path = save_lstm(tmp_path / "lstm.onnx", seq_len="a_name_that_goes_on_and_on" * 5)
    assert main(["info", str(path), "--plain", "--time", "--all"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100


# ---- run ----


def test_run_equals_the_library(lstm, tmp_path):
    feeds = {"x": sequence(), "h": np.ones((1, 1, HIDDEN), np.float32), "c": np.zeros((1, 1, HIDDEN), np.float32)}
    np.savez(tmp_path / "in.npz", **feeds)
    assert main(["run", str(lstm), str(tmp_path / "in.npz"), "-o", str(tmp_path / "out.npz")]) == 0
    expected = gi.load(lstm).run(None, feeds)
    with np.load(tmp_path / "out.npz") as out:
        for name, value in zip(("y", "hn", "cn"), expected, strict=True):
            np.testing.assert_array_equal(out[name], value)


def test_stream_cut_in_chunks_equals_one_call(lstm, tmp_path):
    np.save(tmp_path / "in.npy", sequence())
    stream = [str(lstm), str(tmp_path / "in.npy"), "--stream", "-o"]
    assert main(["run", *stream, str(tmp_path / "whole.npz")]) == 0
    assert main(["run", *stream, str(tmp_path / "cut.npz"), "--chunk", "5"]) == 0
    with np.load(tmp_path / "whole.npz") as whole, np.load(tmp_path / "cut.npz") as cut:
        np.testing.assert_array_equal(whole["y"][0], cut["y"])


def test_stream_takes_one_frame_per_index(lstm, tmp_path):
    np.save(tmp_path / "in.npy", sequence()[:, None])
    assert main(["run", str(lstm), str(tmp_path / "in.npy"), "--stream", "-o", str(tmp_path / "out.npz")]) == 0
    with np.load(tmp_path / "out.npz") as out:
        assert out["y"].shape == (12, 1, 1, 1, HIDDEN)


def test_run_wav_with_a_set_input(gain, tmp_path, capsys):
    samples = np.arange(-10, 10, dtype="<i2") * 1000
    path = save_wav(tmp_path / "in.wav", samples)
    args = ["run", str(gain), str(path), "--set", "gain=0.5", "--stream", "-o", str(tmp_path / "out.npz")]
    assert main([*args, "--json"]) == 0
    assert read_json(capsys)["arrays"][0]["name"] == "y"
    with np.load(tmp_path / "out.npz") as out:
        assert out["y"].shape == (3, 1, 8)
        np.testing.assert_array_equal(out["y"].reshape(-1)[:20], samples.astype(np.float32) / 65536)


# ---- validate and bench ----


def test_validate_agrees(lstm, capsys):
    pytest.importorskip("onnxruntime")
    assert main(["validate", str(lstm), "--steps", "5", "--shape", "x=3,1,6", "--json"]) == 0
    found = read_json(capsys)
    assert found["ok"] and {row["oracle"] for row in found["rows"]} == {"onnxruntime", "reference"}
    assert {row["output"] for row in found["rows"]} == {"y", "hn", "cn"}


def test_validate_table_from_a_file(lstm, tmp_path, capsys):
    np.savez(tmp_path / "frames.npz", x=sequence())
    assert main(["validate", str(lstm), str(tmp_path / "frames.npz"), "--chunk", "4", "--against", "reference"]) == 0
    assert "3 steps: agrees" in capsys.readouterr().out


def test_bench_reports_every_engine(lstm, capsys):
    pytest.importorskip("onnxruntime")
    assert main(["bench", str(lstm), "--rounds", "5", "--json"]) == 0
    found = read_json(capsys)
    assert [row["name"] for row in found["rows"]] == ["gateinfer", "onnxruntime run", "onnxruntime io_binding"]
    assert all(0 < row["p50_us"] <= row["p99_us"] for row in found["rows"])


def test_validate_streams_a_whole_sequence_model(sequence_gru, capsys):
    pytest.importorskip("onnxruntime")
    assert main(["validate", str(sequence_gru), "--steps", "4"]) == 0
    assert "against one run on all frames" in capsys.readouterr().out
    assert main(["validate", str(sequence_gru), "--steps", "4", "--whole"]) == 0
    assert "every frame a run of its own" in capsys.readouterr().out


def test_bench_compares_whole_runs_and_adds_a_step(sequence_gru, capsys):
    pytest.importorskip("onnxruntime")
    assert main(["bench", str(sequence_gru), "--rounds", "3", "--json"]) == 0
    found = read_json(capsys)
    assert [row["name"] for row in found["rows"]] == [ENGINE, RUN, BOUND, STEP]
    assert "whole run on x (1, 100, 2)" in found["what"]


def test_a_step_carries_state_and_a_whole_run_starts_anew(sequence_gru):
    model = gi.load(sequence_gru)
    frames = [{"x": np.full((1, 4, 2), value, np.float32)} for value in (1, 2)]
    steps = single_steps(model, frames, {})
    assert [step["x"].tolist() for step in steps] == [[[[1, 1]]], [[[2, 2]]]]
    assert single_steps(model, steps, {}) == []


def test_bound_onnxruntime_carries_state(lstm):
    """The fastest way to call onnxruntime must do the same work, or it is no comparison."""
    pytest.importorskip("onnxruntime")
    from gateinfer.bench import OnnxruntimeBound, OnnxruntimeRun

    model = gi.load(lstm)
    frames = [{"x": frame[None]} for frame in sequence()]
    bound, plain = OnnxruntimeBound(model, frames, {}), OnnxruntimeRun(model, frames, {})
    for index in range(len(frames)):
        bound(index)
        np.testing.assert_array_equal(bound.outputs["y"], plain(index)["y"])


def test_open_extents_are_explained(zoo, capsys):
    """Silero pads by reflection: a frame of length 1 cannot work, a longer one is picked. It wants to know sr."""
    model = str(zoo("silero-vad").model)
    assert main(["validate", model, "--set", "sr=16000", "--steps", "2"]) == 0
    assert main(["validate", model, "--set", "sr=16000", "--shape", "input=1,3"]) == 2
    capsys.readouterr()
    assert main(["validate", model]) == 2
    assert_one_line_error(capsys, "--set sr=")


def test_demo(zoo, capsys):
    """The demo on a copy of its model: it finds speech where the clip has speech, and checks itself."""
    pytest.importorskip("onnxruntime")
    wav = Path(__file__).resolve().parents[1] / "examples" / "speech.wav"
    args = ["demo", "--model", str(zoo("silero-vad").model), "--wav", str(wav), "--laps", "1"]
    assert main([*args, "--json"]) == 0
    found = read_json(capsys)
    assert found["ok"] and found["max_difference"] < 1e-4 and found["frames"] == 375
    assert 4 <= len(found["segments"]) <= 6 and 0.6 < found["segments"][0][0] < 1.0
    assert main([*args, "--plain"]) == 0
    assert "speech from" in capsys.readouterr().out


def test_demo_fails_when_engines_differ():
    outcome = Outcome(1.0, np.zeros(3), [], 2e-4, interleave({"a": lambda _: None}, rounds=1))
    assert not outcome.ok


def test_interleaving_gives_everyone_the_same_turns():
    seen = []
    result = interleave(
        {"a": lambda i: seen.append(("a", i)), "b": lambda i: seen.append(("b", i))}, rounds=30, burst=2
    )
    assert result["a"].samples.shape == result["b"].samples.shape == (30, 2)
    assert seen[:8] == [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2), ("b", 3), ("a", 2), ("a", 3)]
    assert sorted(i for name, i in seen if name == "a") == list(range(100))
    assert result.ratio("a", "a") == 1.0


def test_a_turn_goes_on_where_its_lead_ended():
    seen = []
    result = interleave({"a": seen.append}, rounds=1, burst=3, lead=1e-3)
    assert result["a"].samples.shape == (1, 3)
    timed = seen[max(place for place, number in enumerate(seen) if number == 3) :]  # behind a turn of warm-up
    assert timed == list(range(3, 3 + len(timed))) and len(timed) > 3


# ---- failing ----


def assert_one_line_error(capsys, *parts):
    err = capsys.readouterr().err
    assert err.startswith("gateinfer: error: ") and err.count("\n") == 1 and "Traceback" not in err
    for part in parts:
        assert part in err


@pytest.mark.parametrize("command", ["info", "run", "validate", "bench"])
def test_a_missing_model_is_one_line(command, tmp_path, capsys):
    args = [command, str(tmp_path / "none.onnx")] + ([str(tmp_path / "in.npz")] if command == "run" else [])
    assert main(args) == 2
    assert_one_line_error(capsys, "none.onnx")


@pytest.mark.parametrize(
    "name, content", [("bad.npz", b"PK no zip"), ("bad.npy", b"\x93NUMPY\x01"), ("bad.wav", b"RIFF")]
)
def test_a_corrupt_input_is_one_line(lstm, tmp_path, capsys, name, content):
    (tmp_path / name).write_bytes(content)
    assert main(["run", str(lstm), str(tmp_path / name), "--stream"]) == 2
    assert_one_line_error(capsys)


def test_pickles_are_not_loaded(lstm, tmp_path, capsys):
    np.save(tmp_path / "in.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert main(["run", str(lstm), str(tmp_path / "in.npy"), "--stream"]) == 2
    assert_one_line_error(capsys)


def test_a_corrupt_model_is_one_line(tmp_path, capsys):
    (tmp_path / "bad.onnx").write_bytes(b"not a model at all")
    assert main(["info", str(tmp_path / "bad.onnx")]) == 2
    assert_one_line_error(capsys)


@pytest.mark.parametrize("option", [["--set", "nope=1"], ["--shape", "nope=1,2"], ["--isa", "mmx"]])
def test_unknown_names_are_refused(lstm, capsys, option):
    assert main(["validate", str(lstm), *option]) == 2
    assert_one_line_error(capsys, option[1].split("=")[0])


@pytest.mark.parametrize("option", [["--set", "sr"], ["--set", "sr=x y"], ["--shape", "x=a,b"], ["--steps", "0"]])
def test_bad_options_are_refused_by_the_parser(lstm, option):
    with pytest.raises(SystemExit) as caught:
        main(["validate", str(lstm), *option])
    assert caught.value.code == 2


@pytest.mark.parametrize("command", ["info", "run", "validate", "bench"])
def test_precision_and_threads_reach_the_model(command, lstm, tmp_path, monkeypatch):
    asked = []

    def load(source, **options):
        asked.append(options)
        raise gi.GateInferError("enough")

    monkeypatch.setattr("gateinfer.model.load", load)
    data = ["in.npz"] if command == "run" else []
    words = [command, str(lstm), *data, "--precision", "bf16", "--threads", "3", "--isa", "scalar"]
    assert main(words) == 2
    assert asked == [{"isa": "scalar", "precision": "bf16", "threads": 3}]


def test_bench_says_what_was_timed(lstm, capsys):
    words = ["bench", str(lstm), "--precision", "f16", "--threads", "2", "--rounds", "2", "--json"]
    assert main(words) == 0
    found = read_json(capsys)
    assert (found["precision"], found["threads"]) == ("f16", 2)
    assert main([*words[:-1], "--plain"]) == 0
    assert "2 threads (onnxruntime: one)" in capsys.readouterr().out


def test_bench_of_an_empty_chunk_is_refused(lstm, capsys):
    assert main(["bench", str(lstm), "--shape", f"x=0,1,{SIZE}"]) == 2
    assert_one_line_error(capsys, "nothing to time")


def test_a_model_shows_what_is_not_the_default(lstm):
    assert repr(gi.load(lstm)).endswith(f"{gi.load(lstm).isa}>")
    assert repr(gi.load(lstm, precision="bf16", threads=2)).endswith(", bf16 weights, 2 threads>")


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(Exception, match=r"none\.onnx"):
        main(["info", str(tmp_path / "none.onnx"), "--debug"])


@pytest.mark.parametrize("command", [[], ["info"], ["run"], ["validate"], ["bench"], ["demo"]])
def test_help_teaches(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    assert "exit codes" in capsys.readouterr().out


def test_the_module_is_a_program(lstm):
    done = subprocess.run(
        [sys.executable, "-m", "gateinfer", "info", str(lstm), "--json"], capture_output=True, text=True
    )
    assert done.returncode == 0 and json.loads(done.stdout)["rows"]


def test_tables_need_no_rich(lstm):
    """With rich out of reach the same commands print plain text."""
    call = f"from gateinfer.cli import main; sys.exit(main(['info', {str(lstm)!r}]))"
    code = f"import sys; sys.modules['rich'] = None; {call}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "LSTM" in done.stdout


# ---- sound and segments ----


@pytest.mark.parametrize(
    "width, raw, expected",
    [
        (1, np.array([0, 128, 255], "u1"), [-1, 0, 127 / 128]),
        (2, np.array([-32768, 0, 32767], "<i2"), [-1, 0, 32767 / 32768]),
        (4, np.array([-(2**31), 0, 2**30], "<i4"), [-1, 0, 0.5]),
    ],
)
def test_wav_widths(tmp_path, width, raw, expected):
    samples, rate = read_wav(save_wav(tmp_path / "a.wav", raw, rate=8000, width=width))
    assert rate == 8000 and samples.dtype == np.float32
    np.testing.assert_array_equal(samples, np.float32(expected))


def test_wav_channels_are_averaged(tmp_path):
    samples, _ = read_wav(save_wav(tmp_path / "a.wav", np.array([[16384, 0], [0, -16384]], "<i2"), channels=2))
    np.testing.assert_array_equal(samples, np.float32([0.25, -0.25]))


def test_frames_overlap_by_their_context():
    np.testing.assert_array_equal(
        frames_of(np.arange(1.0, 8.0), 3, 2), [[0, 0, 1, 2, 3], [2, 3, 4, 5, 6], [5, 6, 7, 0, 0]]
    )
    assert frames_of(np.zeros(0), 3).shape == (0, 3)
    with pytest.raises(gi.ShapeError):
        frames_of(np.zeros(4), 0)


def test_segments_close_short_gaps_and_drop_short_speech():
    p = np.array([0, 0.9, 0.9, 0.9, 0.4, 0.1, 0.9, 0.9, 0, 0, 0, 0, 0.9, 0, 0, 0, 0.9, 0.9, 0.9, 0.9])
    found = segments_of(p, 0.08)
    np.testing.assert_allclose(found, [(0.08, 0.64), (1.28, 1.6)])


# ---- while it takes long ---------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """Standard error with somebody in front of it."""

    def isatty(self):
        return True

    def wait_for(self, text):
        deadline = time.monotonic() + 30
        while text not in self.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
        return text in self.getvalue()


@pytest.mark.parametrize("plain", [True, False])
def test_what_takes_long_says_so_and_leaves_nothing_behind(monkeypatch, plain):
    if not plain:
        pytest.importorskip("rich")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(render, "PATIENCE", 0)
    with pytest.raises(KeyError), render.Screen(plain=plain).waiting("loading big.onnx"):
        assert terminal.wait_for("loading big.onnx")
        raise KeyError
    written = terminal.getvalue()
    assert "\n" not in written or not plain
    assert not plain or written.endswith(" \r")


@pytest.mark.parametrize("command", [["info"], ["validate", "--steps", "3"]])
def test_commands_say_that_they_load(monkeypatch, lstm, command):
    said = []
    monkeypatch.setattr(render, "PATIENCE", 0)
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(render._Notice, "start", lambda self: said.append(self._text))
    monkeypatch.setattr("gateinfer.model.load", _slowly(said, gi.load))
    assert main([command[0], str(lstm), "--plain", *command[1:]]) == 0
    assert said[0] == f"loading {lstm} ..."


def _slowly(said, function):
    def call(*args, **kwargs):
        deadline = time.monotonic() + 30
        while not said and time.monotonic() < deadline:
            time.sleep(0.01)
        return function(*args, **kwargs)

    return call


@pytest.mark.parametrize(
    ("quiet", "is_terminal", "patience"), [(True, True, 0), (False, False, 0), (False, True, 3600)]
)
def test_nothing_is_said_to_nobody_or_of_what_is_quick(monkeypatch, quiet, is_terminal, patience):
    stderr = Terminal() if is_terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(render, "PATIENCE", patience)
    with render.Screen(plain=True, quiet=quiet).waiting("loading"):
        time.sleep(0.05)
    assert stderr.getvalue() == ""
