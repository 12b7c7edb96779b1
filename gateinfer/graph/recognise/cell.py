"""A recognised cell: its gates in ONNX order and the values it reads and makes."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateinfer.graph.recognise.affine import Affine
from gateinfer.graph.recognise.gate import Activation


@dataclass(slots=True)
class Cell:
    """One step of an LSTM, GRU or RNN.

    Attributes
    ----------
    kind : "LSTM", "GRU" or "RNN"
    rows, hidden : N, H
    gates : pre-activations [N, H] in the order i o f c or z r h, or the only one
    activations : as the ONNX attribute lists them
    xs : roots of the inputs [N, I_j], side by side
    h, c : roots of the previous state [N, H]; c is None for a GRU or RNN, h is "" and c None where both are zero
    next_h, next_c : the values it makes
    recurrent : of a GRU with linear_before_reset, the sum inside r * (h R + b), else None
    candidates : sources that may be h when the graph does not tell which, or whether there is one, else ()
    """

    kind: str
    rows: int
    hidden: int
    gates: tuple[Affine, ...]
    activations: tuple[Activation, ...]
    xs: tuple[str, ...]
    h: str
    c: str | None
    next_h: str
    next_c: str | None
    recurrent: Affine | None = None
    candidates: tuple[str, ...] = ()
    products: frozenset[str] = field(init=False)
    """Outputs of the product nodes that must become useless."""

    def __post_init__(self) -> None:
        sums = (*self.gates, self.recurrent) if self.recurrent else self.gates
        self.products = frozenset().union(*(affine.products for affine in sums))

    @property
    def made(self) -> tuple[str, ...]:
        """The values that the fused node makes."""
        return (self.next_h,) if self.next_c is None else (self.next_h, self.next_c)
