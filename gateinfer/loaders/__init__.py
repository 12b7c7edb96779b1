"""Readers of model files. Each returns the neutral graph; nothing here imports the compiled engine."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from gateinfer.errors import GateInferError, ModelError
from gateinfer.graph.ir import Graph
from gateinfer.loaders.archive import Archive
from gateinfer.loaders.files import KERAS_ADVICE, Source, as_path, read_source, refuse_others
from gateinfer.loaders.npz import read_npz
from gateinfer.loaders.onnx import load_onnx
from gateinfer.loaders.safetensors import is_safetensors, read_safetensors
from gateinfer.loaders.saved import DESCRIPTION, graph_from_arrays
from gateinfer.loaders.torch_legacy import is_legacy
from gateinfer.loaders.torch_zip import is_torch, read_torch

_ZIPS: Final = (b"PK\x03\x04", b"PK\x05\x06")
_SUFFIXES: Final = {".npz": "npz", ".safetensors": "safetensors", ".pt": "torch", ".pth": "torch", ".onnx": "onnx"}
_READERS: Final = {"npz": read_npz, "safetensors": read_safetensors, "torch": read_torch}


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
    form, content = _form(source)
    if form == "onnx":
        if weights:
            raise GateInferError(f"{', '.join(weights)}: for weight files only, this is an ONNX model")
        return load_onnx(source, allow_nonfinite=allow_nonfinite)
    arrays = _READERS[form](content)
    if DESCRIPTION in arrays:
        if weights:
            raise GateInferError(f"{', '.join(weights)}: for weight files only, this is a saved model")
        return graph_from_arrays(arrays, allow_nonfinite=allow_nonfinite)
    from gateinfer.layers.graphs import weights_graph

    return weights_graph(arrays, allow_nonfinite=allow_nonfinite, **weights)


def load_arrays(source: Source) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz, .safetensors or .pt file. See `gateinfer.load_arrays`."""
    form, content = _form(source)
    if form == "onnx":
        refuse_others(content)
        raise ModelError("not a weight file: expected .npz, .safetensors or .pt")
    return _READERS[form](content)


def is_onnx(source: Source) -> bool:
    """Whether `load_graph` reads `source` as ONNX."""
    return _form(source)[0] == "onnx"


def _form(source: Source) -> tuple[str, bytes]:
    """What kind of file it is, by its name or else by its first bytes; the content unless it is ONNX."""
    suffix = "" if isinstance(source, (bytes, bytearray, memoryview)) else as_path(source).suffix
    form = _SUFFIXES.get(suffix.lower())
    if form == "onnx":
        return form, b""
    content, _ = read_source(source)
    return form or _guess(content), content


def _guess(content: bytes) -> str:
    if content.startswith(_ZIPS):
        return _kind_of_zip(Archive(content).names)
    if is_legacy(content):
        return "torch"
    return "safetensors" if is_safetensors(content) else "onnx"


def _kind_of_zip(names: list[str]) -> str:
    if "model.weights.h5" in names:
        raise ModelError(f"this is a Keras model; {KERAS_ADVICE}")
    return "torch" if is_torch(names) else "npz"
