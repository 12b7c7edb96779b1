"""CPU inference for gated recurrent networks: load a trained model, stream frames through it, state kept by the engine.

>>> import gateinfer as gi
>>> model = gi.load("vad.onnx")
>>> stream = model.stream(sr=16000)
>>> probability = stream(frame)
"""

from typing import TYPE_CHECKING, Any

from gateinfer._core import best_isa, isa_names
from gateinfer.errors import (
    GateInferError,
    ModelError,
    PoolFull,
    ShapeError,
    StateMismatch,
    StreamClosed,
    UnsupportedOp,
    ValidationError,
)
from gateinfer.graph.ir import Port
from gateinfer.graph.states import State
from gateinfer.model import Model, load
from gateinfer.stream import Stream
from gateinfer.validate import Report, validate

if TYPE_CHECKING:
    from gateinfer import layers
    from gateinfer.compose import Sequential, from_weights, load_arrays

__version__ = "0.1.0"

__all__ = [
    "GateInferError",
    "Model",
    "ModelError",
    "PoolFull",
    "Port",
    "Report",
    "Sequential",
    "ShapeError",
    "State",
    "StateMismatch",
    "Stream",
    "StreamClosed",
    "UnsupportedOp",
    "ValidationError",
    "best_isa",
    "from_weights",
    "isa_names",
    "layers",
    "load",
    "load_arrays",
    "validate",
]

_COMPOSING = ("Sequential", "from_weights", "load_arrays")


def __getattr__(name: str) -> Any:
    """What builds networks from arrays is imported when first named: loading a file does without."""
    from importlib import import_module

    if name == "layers":
        return import_module("gateinfer.layers")
    if name in _COMPOSING:
        found = globals()[name] = getattr(import_module("gateinfer.compose"), name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
