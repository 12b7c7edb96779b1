"""A fresh process imports what its model needs and nothing else: modules are counted here, seconds in bench/cold.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from nets import recurrent_net
from onnx_models import model, node

import gateinfer as gi
from gateinfer import plan

ROOT = Path(__file__).resolve().parents[1]


def fresh(code: str, *args: object, path: Path = ROOT) -> list[str]:
    """Words that a fresh process prints; `path` comes first where modules are looked for."""
    start = f"import sys; sys.path[:0] = [{str(path)!r}, {str(ROOT)!r}]\n"
    command = [sys.executable, "-c", start + code, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def modules(code: str, *args: object) -> set[str]:
    """What is imported after `code`, NumPy's own imports aside."""
    return set(fresh(f"import numpy; before = set(sys.modules)\n{code}\nprint(*set(sys.modules) - before)", *args))


@pytest.fixture
def lstm(tmp_path: Path) -> Path:
    path = tmp_path / "lstm.onnx"
    path.write_bytes(recurrent_net("LSTM", seq=1, batch=1, dense=0))
    return path


STEP = """
import gateinfer as gi
stream = gi.load(sys.argv[1]).stream()
stream(stream.inputs["x"])
"""


def test_import_brings_what_every_load_needs():
    found = modules("import gateinfer")
    assert "gateinfer.model" in found
    packages = {"layers", "weights", "compose", "loaders.onnx", "loaders.npz", "loaders.torch_zip", "loaders.saved"}
    unused = {f"gateinfer.{name}" for name in packages | {"stages", "summary", "bench", "cli", "reference"}}
    assert not found & (unused | {"zipfile", "json", "pickletools", "ctypes", "numpy.ma", "numpy.random"})


def test_a_recurrent_layer_needs_no_helper_of_onnx(lstm: Path):
    """Messages alone are read; no other engine, no search for cells, loops or lost states, no masked arrays."""
    found = modules(STEP, lstm)
    assert "gateinfer.loaders.onnx" in found
    searches = {"recognise.search", "loops.folding", "loops.unrolling", "time_search", "time_rules"}
    unused = {f"gateinfer.graph.{name}" for name in searches} | {"gateinfer.stages", "gateinfer.layers"}
    assert not found & (unused | {"onnx", "ml_dtypes", "onnxruntime", "numpy.ma", "google.protobuf.json_format"})


def test_names_that_build_networks_come_when_asked_for():
    names = "layers Sequential from_weights load_arrays".split()
    code = f"import gateinfer as gi\nfor n in {names}: print(n in dir(gi), n in vars(gi), getattr(gi, n).__name__)"
    lines = fresh(code)
    assert lines[0::3] == ["True"] * 4 and lines[1::3] == ["False"] * 4
    assert lines[2::3] == ["gateinfer.layers", *names[1:]]
    assert fresh("from gateinfer import *; print(layers.__name__, Sequential.__name__)")[1] == "Sequential"
    assert fresh("import gateinfer\ntry: gateinfer.nothing\nexcept AttributeError as e: print(e)")[-1] == "'nothing'"


@pytest.mark.parametrize("implementation", ["upb", "python"])
def test_onnx_imported_later_has_the_same_messages(lstm: Path, implementation: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", implementation)
    code = f"{STEP}\nfrom gateinfer.loaders.onnx_messages import new_model\nassert 'onnx' not in sys.modules\n"
    code += "import onnx; print(type(new_model()) is onnx.ModelProto, onnx.load(sys.argv[1]).graph.node[0].op_type)"
    assert fresh(code, lstm) == ["True", "LSTM"]
    assert fresh(f"import onnx\n{STEP}\nprint(len(stream.outputs))", lstm) == ["3"]


def test_an_onnx_package_of_another_build_is_imported_whole(lstm: Path, tmp_path: Path):
    """One whose messages are elsewhere, or do not load alone, still reads files."""
    import onnx

    real = Path(onnx.__file__).parent
    for broken in (None, "raise ImportError('not alone')"):
        package = tmp_path / f"with_{broken is None}" / "onnx"
        package.mkdir(parents=True)
        text = f"__path__ = [{str(real)!r}]\nexec(compile(open({str(real / '__init__.py')!r}).read(), 'onnx', 'exec'))"
        (package / "__init__.py").write_text(text)
        if broken:
            (package / "onnx_ml_pb2.py").write_text(broken)
        code = f"{STEP}\nprint('onnx.helper' in sys.modules)"
        assert fresh(code, lstm, path=package.parent) == ["True"]


def test_a_broken_onnxruntime_is_named_only_where_it_is_needed(lstm: Path, tmp_path: Path):
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('wrong libc')")
    assert fresh(f"{STEP}\nprint('ran')", lstm, path=tmp_path) == ["ran"]
    island = tmp_path / "island.onnx"
    island.write_bytes(model([node("Det", "x", "y")], {"x": [3, 3]}, "y", opset=17).SerializeToString())
    code = "import gateinfer as gi\ntry: gi.load(sys.argv[1])\nexcept gi.UnsupportedOp as error: print(error)"
    assert "onnxruntime cannot be imported: wrong libc" in " ".join(fresh(code, island, path=tmp_path))


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[object]:
    """A list that grows with every call of `plan.<name>`."""
    calls: list[object] = []
    function = getattr(plan, name)
    monkeypatch.setattr(plan, name, lambda *args, **options: calls.append(name) or function(*args, **options))
    return calls


def test_a_file_with_states_is_folded_and_lowered_once_until_it_streams(monkeypatch: pytest.MonkeyPatch):
    folded, lowered = counted(monkeypatch, "specialize"), counted(monkeypatch, "lower")
    loaded = gi.load(recurrent_net("LSTM", seq=1, batch=1))
    stream = loaded.stream()
    stream(stream.inputs["x"])
    assert (len(folded), len(lowered)) == (1, 1)
    loaded.run(None, {port.name: np.zeros(port.shape, np.float32) for port in loaded.inputs})
    assert (len(folded), len(lowered)) == (1, 2)


def test_states_that_do_not_fit_are_told_by_the_stream_alone():
    """The file says nothing of the shape of `hn`, which grows."""
    proto = model([node("Concat", "h x", "hn", axis=1)], {"x": [1, 2], "h": [1, 4]}, "hn")
    loaded = gi.load(proto.SerializeToString())
    assert [state.output for state in loaded.states] == ["hn"]
    assert loaded.run(None, {"x": np.ones((1, 2)), "h": np.zeros((1, 4))})[0].shape == (1, 6)
    with pytest.raises(gi.GateInferError, match="cannot become the next state"):
        loaded.stream()
