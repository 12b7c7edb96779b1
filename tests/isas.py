"""Instruction sets of this CPU, as the CPU tells: that the engine cannot load one is no excuse for skipping it."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

ISAS = {
    "avx2": ("avx2", "fma"),
    "avx512": ("avx512f", "avx512bw", "avx512dq", "avx512vl"),
}
"""Name of a kernel table -> CPU flags it needs."""
CPU_INFO = Path("/proc/cpuinfo")


@functools.cache
def can_run(isa: str) -> bool:
    flags = CPU_INFO.read_text().split() if CPU_INFO.exists() else []
    return set(ISAS.get(isa, ())) <= set(flags)


def require_isa(isa: str) -> None:
    if not can_run(isa):
        pytest.skip(f"this CPU has no {isa}, or does not say so in {CPU_INFO}")
