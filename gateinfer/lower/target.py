"""What programs are made for: kernels, the format of their weights, and who may help with large layers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gateinfer import _core
from gateinfer.errors import GateInferError, shown

SMALL_WEIGHTS = 8 * 1024
"""Elements. Panels of that many float32 stay in the nearest cache (32 KiB), where 16 bits save nothing and cost their
unpacking: such weights are rounded as all others, but kept in 32 bits."""


MAX_KEEP_HOT = 3600
"""Seconds."""


class Target(NamedTuple):
    """Kernel table, precision of weights ("f32", "bf16", "f16") and threads of all programs of a model."""

    isa: str
    precision: str = "f32"
    team: _core.Team | None = None

    def format(self, elements: int) -> str:
        """How a weight of so many elements is stored."""
        return "f32" if elements <= SMALL_WEIGHTS else self.precision

    def rounded(self, weights: np.ndarray) -> np.ndarray:
        """The float32 values that weights of this precision have: nearest, ties to even.

        Raises
        ------
        ModelError
            A finite weight is beyond the range of 16 bits.
        """
        return weights if self.precision == "f32" else _core.round_weights(weights, self.precision)


def make_target(isa: str, precision: str, threads: int, keep_hot: float) -> Target:
    """The target a caller asks for.

    Raises
    ------
    GateInferError
        Names the argument, what came and what there is.
    """
    if not isinstance(isa, str) or (isa != "auto" and isa not in _core.isa_names()):
        raise GateInferError(f"isa={shown(isa)}: this build has auto, {', '.join(_core.isa_names())}")
    if not isinstance(precision, str) or precision not in _core.WEIGHTS:
        raise GateInferError(f"precision={shown(precision)}: expected one of {', '.join(_core.WEIGHTS)}")
    if not isinstance(threads, (int, np.integer)) or isinstance(threads, bool) or not 1 <= threads <= _core.MAX_THREADS:
        raise GateInferError(f"threads={shown(threads)}: expected a number from 1 to {_core.MAX_THREADS}")
    if (
        not isinstance(keep_hot, (int, float, np.integer, np.floating))
        or isinstance(keep_hot, bool)
        or not 0 <= keep_hot <= MAX_KEEP_HOT
    ):
        raise GateInferError(f"keep_hot={shown(keep_hot)}: expected seconds from 0 to {MAX_KEEP_HOT}")
    team = _core.Team(int(threads), float(keep_hot)) if threads > 1 else None
    return Target(_core.best_isa() if isa == "auto" else isa, precision, team)
