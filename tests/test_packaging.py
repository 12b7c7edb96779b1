"""The package as others get it: the source archive holds what a build needs, builds, installs and runs elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

import gateinfer

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(*command, cwd, **env):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=os.environ | env)
    assert done.returncode == 0, f"{command}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def sdist(tmp_path_factory):
    """The source archive, built from a copy of the files a checkout holds, so that no leftover of a build gets in."""
    pytest.importorskip("build")
    checkout, out = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("sdist")
    kept = ["pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "src_c", "gateinfer"]
    leftovers = ("--exclude=*.so", "--exclude=_core.c", "--exclude=__pycache__")
    archive = tmp_path_factory.mktemp("tar") / "tree.tar"
    run("tar", "cf", str(archive), *leftovers, *(name for name in kept if (ROOT / name).exists()), cwd=ROOT)
    run("tar", "xf", str(archive), cwd=checkout)
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(out), cwd=checkout)
    (path,) = out.glob("*.tar.gz")
    return path


def test_versions_agree():
    assert gateinfer.__version__ == PROJECT["version"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_numpy_is_the_only_hard_dependency():
    assert [d.split(">")[0] for d in PROJECT["dependencies"]] == ["numpy"]


def test_the_package_is_typed():
    assert (Path(gateinfer.__file__).parent / "py.typed").is_file()


@pytest.mark.slow
def test_sdist_holds_sources_and_nothing_generated(sdist):
    with tarfile.open(sdist) as tar:
        names = {name.split("/", 1)[1] for name in tar.getnames() if "/" in name}
    kinds = {"*.c", "*.h"}
    expected = {str(p.relative_to(ROOT)) for kind in kinds for p in (ROOT / "src_c").rglob(kind)}
    expected |= {f"gateinfer/_core.{kind}" for kind in ("pyx", "pxd", "pyi")} | {
        "gateinfer/_runner.pxi",
        "gateinfer/py.typed",
        "LICENSE",
        "setup.py",
    }
    assert expected <= names
    assert not [name for name in names if name.endswith((".so", ".o", ".pyc")) or name == "gateinfer/_core.c"]


@pytest.mark.slow
def test_sdist_installs_and_runs(sdist, tmp_path):
    """Installed from the archive into an empty folder, the package works away from the checkout."""
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    run(*pip, "--no-build-isolation", "--target", str(target), str(sdist), cwd=tmp_path)
    code = "import gateinfer, gateinfer._core as c; print(gateinfer.__file__, c.__file__, *gateinfer.isa_names())"
    out = run(sys.executable, "-P", "-c", code, cwd=tmp_path, PYTHONPATH=str(target)).split()
    assert all(path.startswith(str(target)) for path in out[:2])
    assert "scalar" in out[2:]
    assert run(sys.executable, "-P", "-m", "gateinfer", "--help", cwd=tmp_path, PYTHONPATH=str(target))
    assert (target / "gateinfer" / "_core.pyi").is_file() and (target / "gateinfer" / "py.typed").is_file()


@pytest.mark.slow
def test_sdist_types_check_for_users(sdist, tmp_path):
    """A user's mypy sees the types of the public API."""
    pytest.importorskip("mypy")
    (tmp_path / "use.py").write_text(
        "import gateinfer as gi\nmodel = gi.load('m.onnx')\nstream = model.stream()\nreveal_type(model.isa)\n"
    )
    out = run(
        sys.executable,
        "-m",
        "mypy",
        "--no-incremental",
        "--follow-imports=silent",
        "use.py",
        cwd=tmp_path,
        MYPYPATH=str(ROOT),
    )
    assert 'Revealed type is "str"' in out.replace("builtins.str", "str")
