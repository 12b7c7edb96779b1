"""CPU inference for gated recurrent networks: load a trained model, stream frames through it, state kept by the engine.

>>> import gateinfer as gi
>>> model = gi.load("vad.onnx")
>>> stream = model.stream(sr=16000)
>>> probability = stream(frame)
"""

from gateinfer import layers
from gateinfer._core import best_isa, isa_names
from gateinfer.compose import Sequential, from_weights, load_arrays
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
