"""Readers of model files. Each returns the neutral graph; nothing here imports the compiled engine."""

from __future__ import annotations

import os

from gateinfer.graph.ir import Graph
from gateinfer.loaders.onnx import load_onnx


def load_graph(source: str | os.PathLike[str] | bytes, *, allow_nonfinite: bool = False) -> Graph:
    """Read a model from a file's path or its content.

    Raises
    ------
    ModelError
        For anything that is not a usable model.
    """
    return load_onnx(source, allow_nonfinite=allow_nonfinite)
