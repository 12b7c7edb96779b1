"""Inputs and outputs as onnxruntime describes them, for code that was written for its InferenceSession."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gateinfer.graph.ir import Port

_ONNX_TYPES = {"float32": "float", "float64": "double", "float16": "float16", "bool": "bool"}


class NodeArg(NamedTuple):
    """An input or output as onnxruntime describes it."""

    name: str
    shape: list[int | str | None]
    type: str


def node_arg(port: Port) -> NodeArg:
    """onnxruntime's spelling of a port."""
    name = np.dtype(port.dtype).name
    return NodeArg(port.name, list(port.shape or ()), f"tensor({_ONNX_TYPES.get(name, name)})")
