"""What a figure depends on besides the code: processor, caches, clock policy, load, versions, revision."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

from bench.peers import PACKAGES

ROOT = Path(__file__).resolve().parents[1]
CPU = Path("/sys/devices/system/cpu")
TELLING_FLAGS = ("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "asimd", "sve")


def facts() -> dict:
    return {
        "machine": {
            "cpu": cpu_model(),
            "cpus": os.cpu_count(),
            "flags": [flag for flag in TELLING_FLAGS if flag in _cpuinfo_words("flags|Features")],
            "caches": caches(),
            "governor": _read(CPU / "cpu0/cpufreq/scaling_governor") or "not readable",
            "virtual": "hypervisor" in _cpuinfo_words("flags"),
            "kernel": platform.release().split("-")[0],
            "architecture": platform.machine(),
        },
        "versions": {"python": platform.python_version()} | {n: v for n in PACKAGES if (v := version(n))},
        "revision": revision(),
    }


def slug() -> str:
    """A file name for this kind of machine."""
    words = re.sub(r"\((r|tm)\)|processor|cpu|@.*", " ", cpu_model().lower())
    kind = "avx512" if "avx512f" in _cpuinfo_words("flags") else platform.machine()
    return "-".join([*re.findall(r"[a-z0-9]+", words), kind, f"{os.cpu_count()}cpu"])


def load_average() -> float:
    """Mean number of runnable processes over the last minute, this one included."""
    return round(os.getloadavg()[0], 2)


def cpu_model() -> str:
    """Name, with family and model where there are some: virtual machines may call all of a maker's alike."""
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    family, model = _cpuinfo("cpu family"), _cpuinfo("model")
    return f"{name}, family {family} model {model}" if family and model else name


def caches() -> dict[str, str]:
    """Size of each cache of the first CPU, for example {"L2": "1024K"}."""
    found = {}
    for index in sorted((CPU / "cpu0/cache").glob("index*")):
        kind = {"Data": "d", "Instruction": "i"}.get(_read(index / "type"), "")
        found[f"L{_read(index / 'level')}{kind}"] = _read(index / "size")
    return found


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def revision() -> str:
    """The commit, with a plus when the work tree differs from it in what is measured."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    changed = git("status", "--porcelain", "--", "gateinfer", "src_c", "setup.py")
    return (git("rev-parse", "--short=10", "HEAD") or "unknown") + ("+" if changed else "")


def _cpuinfo_words(key: str) -> set[str]:
    return set(_cpuinfo(key).split())


def _cpuinfo(key: str) -> str:
    """What it says of the first CPU, or nothing."""
    found = re.search(rf"^(?:{key})\s*: (.*)$", _read(Path("/proc/cpuinfo")), re.MULTILINE)
    return found.group(1) if found else ""


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
