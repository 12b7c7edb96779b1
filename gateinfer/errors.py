"""The errors gateinfer raises. Each names the thing that is wrong, what was expected, what came, and what to do."""

from __future__ import annotations

from typing import Final

MAX_SHOWN: Final = 200
"""Characters of a caller's value in a message."""


def shown(value: object) -> str:
    """`value` of a caller, as messages quote it: short, and without an error of its own."""
    try:
        text = repr(value)
    except Exception:  # of a caller's class, or for what is nested too deeply
        return f"a {type(value).__name__} that has no text"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


class GateInferError(Exception):
    """Base of every error of this package."""


class ModelError(GateInferError, ValueError):
    """A model file or weight set that cannot be used: corrupt, contradictory, hostile, or too large."""


class UnsupportedOp(ModelError):
    """A valid model that uses nodes or attributes the engine does not implement. The text lists every one.

    Attributes
    ----------
    nodes : tuple of str
        First outputs of the refused nodes, where the error lists nodes of a graph.
    """

    nodes: tuple[str, ...] = ()


class ShapeError(GateInferError, ValueError):
    """An input, state or constant whose name, rank, shape or dtype does not fit the model, or values out of range."""


class StateMismatch(GateInferError, ValueError):
    """State inputs and outputs that cannot be paired, or a state value that does not fit its port."""


class PoolFull(GateInferError, RuntimeError):
    """No free slot in a stream pool."""


class StreamClosed(GateInferError, RuntimeError):
    """A stream or slot used after it was closed."""


class ValidationError(GateInferError, AssertionError):
    """Outputs differ from the oracle by more than the stated tolerance."""
