"""The rules of ARCHITECTURE.md, executed: who includes or imports whom, what may stand where, how long files may be."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import gateinfer

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "src_c"
PACKAGE = ROOT / "gateinfer"

C_FILES = sorted(p for p in CORE.rglob("*") if p.suffix in (".c", ".h"))
PYTHON_FILES = sorted(PACKAGE.rglob("*.py"))


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def strip_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.S)


each_c_file = pytest.mark.parametrize("path", C_FILES, ids=ids)
each_python_file = pytest.mark.parametrize("path", PYTHON_FILES, ids=ids)

# ---- the C core ----

MAY_INCLUDE = {
    "base": {"base"},
    "kernels": {"base", "kernels"},
    # A cell is an op: its builder makes records of program/, which itself knows no cell.
    "cells": {"base", "kernels", "cells", "program"},
    "program": {"base", "kernels", "program"},
    "stream": {"base", "kernels", "program", "stream"},
}
"""base <- kernels <- program <- cells, stream: a folder on the left includes only those on the right."""


def includes(path: Path) -> list[Path]:
    names = re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), flags=re.M)
    return [(path.parent / name).resolve() for name in names]


@each_c_file
def test_includes_point_left(path):
    parts = path.relative_to(CORE).parts
    for target in includes(path):
        assert target.is_file(), f"{ids(path)} includes {target}, which is not there"
        folder = target.relative_to(CORE).parts[0]
        if folder == "gateinfer.h":
            continue
        assert len(parts) > 1, f"the public header includes {folder}"
        assert folder in MAY_INCLUDE[parts[0]], f"{ids(path)} ({parts[0]}) includes {ids(target)} ({folder})"


def test_every_folder_of_the_core_has_a_rule():
    assert {p.name for p in CORE.iterdir() if p.is_dir()} == set(MAY_INCLUDE)


@each_c_file
def test_only_the_arena_allocates(path):
    if ids(path) == "src_c/base/arena.c":
        return
    calls = r"\b(?:malloc|calloc|realloc|aligned_alloc|posix_memalign|free|alloca)\s*\("
    found = re.findall(calls, strip_comments(path.read_text()))
    assert not found, f"{ids(path)} calls {found}"


@each_c_file
def test_the_core_never_prints_or_exits(path):
    text = strip_comments(path.read_text())
    found = re.findall(r"\b(?:printf|fprintf|puts|putchar|perror|exit|_exit|abort|assert)\s*\(", text)
    assert not found, f"{ids(path)} calls {found}"


@each_c_file
def test_the_core_knows_no_python(path):
    assert "Python.h" not in path.read_text()


WIDE = re.compile(
    r"\b(?:_mm\d*_\w+|__m(?:128|256|512)\w*|__mmask\d+|v\w+q_[fsu](?:8|16|32|64)|float32x4_t)\b|mmintrin\.h|arm_neon\.h"
)


@each_c_file
def test_wide_registers_stay_in_isa(path):
    if path.parent.name == "isa":
        return
    text = strip_comments(path.read_text())
    found = WIDE.findall(text)
    assert not found, f"{ids(path)} uses {sorted(set(found))}; vector words belong in kernels/isa"


@each_c_file
def test_no_mutable_globals(path):
    """File-scope variables are const: nothing is shared between models behind their backs."""
    depth, line_start = 0, True
    text = re.sub(r"^\s*#(?:.*\\\n)*.*$", "", strip_comments(path.read_text()), flags=re.M)
    top = []
    for char in text:
        depth += (char == "{") - (char == "}")
        if depth == 0 and not line_start:
            top.append(char)
        line_start = False
    for statement in "".join(top).split(";"):
        is_static = re.match(r"\s*}?\s*static\s+(?!inline)", statement)
        if is_static and "(" not in statement:
            assert re.search(r"\bconst\b", statement), f"{ids(path)}: mutable global {statement.strip()!r}"


@each_c_file
def test_c_files_are_short(path):
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.slow
def test_the_core_compiles_with_one_line(tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    sources = [str(p) for p in C_FILES if p.suffix == ".c"]
    line = [compiler, "-O0", "-shared", "-fPIC", *sources, "-lm", "-o", str(tmp_path / "libgateinfer.so")]
    subprocess.run(line, check=True)


def test_the_extension_exports_only_its_init():
    if shutil.which("nm") is None or "build/asan" in gateinfer._core.__file__:
        pytest.skip("needs nm and a build without sanitizers")
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", gateinfer._core.__file__], check=True, capture_output=True, text=True
    )
    names = {line.split()[-1] for line in listed.stdout.splitlines()}
    # Some linkers list the section symbols that every shared object has.
    assert names - {"_init", "_fini", "_edata", "_end", "__bss_start"} == {"PyInit__core"}


def test_build_flags_keep_results_the_same_everywhere():
    tree = ast.parse((ROOT / "setup.py").read_text())
    flags = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert "-ffp-contract=off" in flags
    forbidden = ("-march", "-mtune", "-mcpu", "-mavx", "-mfma", "-ffast-math", "-Ofast", "-funsafe-math")
    found = [flag for flag in flags if flag.startswith(forbidden)]
    assert not found


# ---- the Python side ----

FRONT_FOLDERS = [PACKAGE / name for name in ("graph", "loaders", "weights", "layers")]
FRONT_END = [p for p in PYTHON_FILES if any(p.is_relative_to(folder) for folder in FRONT_FOLDERS)]
FRONT_END += [PACKAGE / name for name in ("reference.py", "reference_graph.py", "errors.py", "feeds.py", "audio.py")]
RIGHT_OF_THE_FRONT_END = (
    "_core",
    "lower",
    "plan",
    "model",
    "stream",
    "validate",
    "oracles",
    "bench",
    "demo",
    "cli",
    "summary",
    "parts",
    "profile",
    "samples",
    "stages",
    "lifted_run",
)
EXTRAS = ("onnx", "onnxruntime", "matplotlib", "rich", "hypothesis", "pytest")


def imported(path: Path) -> set[str]:
    """Modules an import statement of the file names, those under TYPE_CHECKING aside."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = [ast.Pass()]
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{ids(path)}: imports are absolute"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FRONT_END, ids=ids)
def test_the_front_end_never_imports_the_engine(path):
    right = [f"gateinfer.{name}" for name in RIGHT_OF_THE_FRONT_END]
    found = [name for name in imported(path) if any(name == r or name.startswith(r + ".") for r in right)]
    assert not found, f"{ids(path)} imports {found}"


@each_python_file
def test_lowering_is_left_of_models(path):
    if not path.is_relative_to(PACKAGE / "lower"):
        return
    found = [
        n
        for n in imported(path)
        if n.startswith(("gateinfer.model", "gateinfer.stream", "gateinfer.loaders", "gateinfer.cli"))
    ]
    assert not found, f"{ids(path)} imports {found}"


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_front_end_works_without_the_extension():
    """Without the package's own __init__ and with the extension made unimportable, the front end still imports."""
    modules = [".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in FRONT_END]
    code = (
        "import sys, types, importlib\n"
        f"package = types.ModuleType('gateinfer'); package.__path__ = [{str(PACKAGE)!r}]\n"
        "sys.modules['gateinfer'] = package; sys.modules['gateinfer._core'] = None\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
    )
    run_python(code)


def test_import_is_cheap():
    """`import gateinfer` brings in NumPy and nothing else that is large."""
    loaded = run_python("import sys, gateinfer; print(*sorted({name.split('.')[0] for name in sys.modules}))").split()
    assert not set(EXTRAS) & set(loaded)


def test_import_starts_no_thread():
    assert run_python("import threading, gateinfer; print(threading.active_count())") == "1"


@each_python_file
def test_python_files_are_short(path):
    assert len(path.read_text().splitlines()) <= 450


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.px[dix]")) + sorted(PACKAGE.glob("*.pyx")), ids=ids)
def test_cython_files_are_short(path):
    assert len(path.read_text().splitlines()) <= 500


# ---- what the project says ----


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "bench/README.md"])
def test_make_targets_in_documents_exist(name):
    path = ROOT / name
    if not path.is_file():
        pytest.skip(f"no {name}")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    named = set(re.findall(r"(?:`|^\s+)make ([a-z-]+)", path.read_text(), flags=re.M))
    assert named <= targets
