"""ModelProto of the `onnx` package, which is found when the first model is loaded."""

from __future__ import annotations

import sys
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import Any

from gateinfer.errors import GateInferError


def new_model() -> Any:
    """An empty onnx.ModelProto.

    Raises
    ------
    GateInferError
        When the `onnx` package is missing.
    """
    return (_declared() or _package()).ModelProto()


@cache
def _declared() -> Any:
    """The package's module of messages alone, or None where it is not as expected.

    The package's `__init__` imports its checker, helpers and converters, which takes four times as long as messages and
    protobuf together. Messages are registered once per process, so an `import onnx` later on has the same classes.
    """
    package = None if sys.modules.get("onnx") else find_spec("onnx")
    found = PathFinder.find_spec("onnx_ml_pb2", package.submodule_search_locations) if package else None
    if found is None or found.loader is None:
        return None
    module = module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except Exception:  # whatever is wrong with it, the package itself says it better
        return None
    return module if hasattr(module, "ModelProto") else None


def _package() -> Any:
    try:
        import onnx
    except ImportError:
        raise GateInferError("reading .onnx files needs the onnx package: pip install gateinfer[onnx]") from None
    return onnx
