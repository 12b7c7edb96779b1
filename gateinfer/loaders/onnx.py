"""Reads .onnx files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from gateinfer.errors import ModelError
from gateinfer.graph.checks import check_graph, refuse_nonfinite_weights
from gateinfer.graph.infer.recurrent import check_recurrent_nodes
from gateinfer.graph.ir import Graph
from gateinfer.loaders.files import read_source, refuse_others
from gateinfer.loaders.onnx_functions import check_functions
from gateinfer.loaders.onnx_graph import GraphReader
from gateinfer.loaders.onnx_messages import new_model
from gateinfer.loaders.onnx_tensors import TensorReader

_FIRST_IR_WITH_OPSET: Final = 3
_FIRST_IR_WITH_OPTIONAL_INITIALIZER_INPUTS: Final = 4
_OPSET_OF_ANY_PACKAGE: Final = 21
"""The operator set of the oldest `onnx` package that is supported."""


def load_onnx(source: str | os.PathLike[str] | bytes, *, allow_nonfinite: bool = False) -> Graph:
    """Read an ONNX model into the neutral graph.

    Parameters
    ----------
    source : path of the file, or its content. Content cannot refer to external data.
    allow_nonfinite : keep NaN and infinity in the weights of recurrent, product and convolution nodes. Elsewhere they
        are always kept: limits of Clip and values of masks are often infinite.

    Raises
    ------
    ModelError
        For a file that is corrupt, contradictory, hostile or too large. No other exception escapes.
    UnsupportedOp
        For element types, attribute types and sparse tensors that are not implemented.
    GateInferError
        When the `onnx` package is missing.
    """
    content, folder = read_source(source)
    try:
        model = _inline_functions(_parse(new_model(), content))
        graph = _read(model, folder)
        if not allow_nonfinite:
            refuse_nonfinite_weights(graph)
        return graph
    except (RecursionError, MemoryError) as error:
        raise ModelError(f"the model is too deep or too large to read ({type(error).__name__})") from None


def _parse(model: Any, content: bytes) -> Any:
    from google.protobuf.message import DecodeError

    if not content:
        raise ModelError("the model is empty (0 bytes)")
    try:
        model.ParseFromString(content)
    except (DecodeError, UnicodeDecodeError, ValueError) as error:
        refuse_others(content)
        raise ModelError(
            f"not an ONNX model, or a truncated or too deeply nested one: {str(error)[:200] or 'cannot be parsed'}"
        ) from None
    if not model.HasField("graph") or model.ir_version < 1:
        refuse_others(content)
        raise ModelError("not an ONNX model: it has no graph or no ir_version")
    return model


def _inline_functions(model: Any) -> Any:
    if not model.functions:
        return model
    check_functions(model)
    from onnx import inliner

    try:
        return inliner.inline_local_functions(model)
    except Exception as error:  # the inliner is C++ and raises what it likes
        raise ModelError(f"the model's local functions cannot be inlined: {str(error)[:300]}") from None


def _read(model: Any, folder: Path | None) -> Graph:
    opset = _default_opset(model)
    overridable = model.ir_version >= _FIRST_IR_WITH_OPTIONAL_INITIALIZER_INPUTS
    graph = GraphReader(TensorReader(folder), opset).read_main(model.graph, overridable)
    if not graph.outputs:
        raise ModelError("the graph has no outputs")
    graph.domains = {o.domain: o.version for o in model.opset_import if o.domain not in ("", "ai.onnx")}
    check_graph(graph)
    check_recurrent_nodes(graph)
    return graph


def _default_opset(model: Any) -> int:
    versions = {o.version for o in model.opset_import if o.domain in ("", "ai.onnx")}
    if not versions:
        if model.ir_version < _FIRST_IR_WITH_OPSET or model.opset_import:
            return 1
        raise ModelError("the model has no opset_import, so the meaning of its nodes is unknown")
    if len(versions) > 1:
        raise ModelError(f"opset_import names the default domain with different versions: {sorted(versions)}")
    version = versions.pop()
    newest = _OPSET_OF_ANY_PACKAGE if version <= _OPSET_OF_ANY_PACKAGE else _newest_opset()
    if not 1 <= version <= newest:
        raise ModelError(f"operator set version {version}: the installed onnx package knows 1 to {newest}")
    return version


def _newest_opset() -> int:
    from onnx import defs

    return int(defs.onnx_opset_version())
