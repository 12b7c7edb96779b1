"""Engines behind one small interface: made from a case, called with the number of the call, asked for the last answer.

Each lives in its own file and is imported only when it is wanted. What an engine cannot do, it says by raising Skip.
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol

import numpy as np

from bench.cases import Case

PEERS = {
    "gateinfer": ("gateinfer", "plain"),
    "gateinfer keep_hot": ("gateinfer", "hot"),
    "onnxruntime run": ("onnxruntime", "Run"),
    "onnxruntime io_binding": ("onnxruntime", "Bound"),
    "OpenVINO": ("openvino", "Bound"),
    "LiteRT": ("litert", "Interpreter"),
    "PyTorch": ("torch", "Module"),
    "NumPy": ("numpy", "Loops"),
}
"""Name to the file in this folder and what makes the engine in it. The first is what the others are compared with."""

OURS, HOT = "gateinfer", "gateinfer keep_hot"
PACKAGES = ("gateinfer", "onnxruntime", "openvino", "ai-edge-litert", "torch", "numpy", "onnx")


class Skip(Exception):
    """Why an engine takes no part in a case."""


class Peer(Protocol):
    def __init__(self, case: Case, threads: int) -> None: ...

    def __call__(self, index: int) -> None:
        """Compute call `index`: frame copied in, state carried on."""

    def answer(self) -> np.ndarray:
        """A copy of the first output of the last call."""


def taking_part(threads: int) -> list[str]:
    """One thread has no others to keep hot."""
    return [name for name in PEERS if name != HOT or threads > 1]


def make(name: str, case: Case, threads: int = 1) -> Peer:
    """The engine on that case.

    Raises
    ------
    Skip
        It is not installed, or cannot run the case.
    """
    file, cls = PEERS[name]
    try:
        module = import_module(f"bench.peers.{file}")
    except ModuleNotFoundError as error:
        raise Skip(f"{error.name} is not installed (make bench-peers)") from None
    try:
        return getattr(module, cls)(case, threads)
    except Skip:
        raise
    except Exception as error:  # each engine has its own family of exceptions
        raise Skip(f"refuses the model: {first_line(error)}") from None


def first_line(error: Exception) -> str:
    """What the error says first, places in its own sources left out."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (telling or lines or [type(error).__name__])[0][:160]


def needs_layer(case: Case, engine: str):
    """The case's single layer, for engines that do not read ONNX."""
    if case.layer is None:
        raise Skip(f"{engine} reads no ONNX files; single layers are built from their weights")
    return case.layer
