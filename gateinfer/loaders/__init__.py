"""Readers of model files. Each returns the neutral graph; nothing here imports the compiled engine."""

from __future__ import annotations

from typing import Any

import numpy as np

from gateinfer.errors import GateInferError, ModelError
from gateinfer.graph.ir import Graph
from gateinfer.loaders.files import Source, refuse_others
from gateinfer.loaders.forms import form_of


def load_graph(source: Source, *, allow_nonfinite: bool = False, **weights: Any) -> Graph:
    """Read a model from a file's path or its content.

    Parameters
    ----------
    source : ONNX, a saved model, or the weights of one recurrent module.
    **weights : what `weights_graph` takes besides the arrays.

    Raises
    ------
    ModelError
        For anything that is not a usable model.
    """
    form, content = form_of(source)
    if form == "onnx":
        if weights:
            raise GateInferError(f"{', '.join(weights)}: for weight files only, this is an ONNX model")
        from gateinfer.loaders.onnx import load_onnx

        return load_onnx(source, allow_nonfinite=allow_nonfinite)
    from gateinfer.loaders.saved import DESCRIPTION, graph_from_arrays

    arrays = _read_arrays(form, content)
    if DESCRIPTION in arrays:
        if weights:
            raise GateInferError(f"{', '.join(weights)}: for weight files only, this is a saved model")
        return graph_from_arrays(arrays, allow_nonfinite=allow_nonfinite)
    from gateinfer.layers.graphs import weights_graph

    return weights_graph(arrays, allow_nonfinite=allow_nonfinite, **weights)


def load_arrays(source: Source) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz, .safetensors or .pt file. See `gateinfer.load_arrays`."""
    form, content = form_of(source)
    if form == "onnx":
        refuse_others(content)
        raise ModelError("not a weight file: expected .npz, .safetensors or .pt")
    return _read_arrays(form, content)


def is_onnx(source: Source) -> bool:
    """Whether `load_graph` reads `source` as ONNX."""
    return form_of(source)[0] == "onnx"


def _read_arrays(form: str, content: bytes) -> dict[str, np.ndarray]:
    if form == "npz":
        from gateinfer.loaders.npz import read_npz

        return read_npz(content)
    if form == "safetensors":
        from gateinfer.loaders.safetensors import read_safetensors

        return read_safetensors(content)
    from gateinfer.loaders.torch_zip import read_torch

    return read_torch(content)
