"""How files made to hurt are judged: a GateInferError, within two seconds, without a large allocation."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gateinfer.errors import GateInferError
from gateinfer.graph.fold import fold_constants, specialize
from gateinfer.graph.ir import Graph
from gateinfer.loaders.onnx import load_onnx

SECONDS = 2.0
BYTES = 64 << 20

Source = bytes | Path


def ingest(source: Source) -> Graph:
    """Everything that happens before code is generated; open dimensions become 1."""
    graph = fold_constants(load_onnx(source))
    shapes = {p.name: tuple(d if isinstance(d, int) else 1 for d in p.shape or ()) for p in graph.inputs}
    return specialize(graph, shapes)


def damaged_copies(content: bytes, count: int = 300) -> Iterator[bytes]:
    """`content` with one to three bytes replaced, and now and then its end cut off."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        damaged = bytearray(content)
        for position in rng.integers(0, len(content), rng.integers(1, 4)):
            damaged[position] = rng.integers(0, 256)
        if rng.random() < 0.2:
            del damaged[rng.integers(0, len(content)) :]
        yield bytes(damaged)


def assert_refused(source: Source) -> None:
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(GateInferError) as caught:
            ingest(source)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < SECONDS
    assert peak < BYTES
    assert str(caught.value)
