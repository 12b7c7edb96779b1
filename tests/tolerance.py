"""Named tolerances with their derivation. None of them is widened to make a test pass.

u = 2^-24 is the unit roundoff of float32: a rounded result is within u of the exact one, relative to it.
"""

from __future__ import annotations

import numpy as np

U = 2.0**-24
MEDIAN = 2e-7
"""What the median error of a random grid of cells may be: three to four ULP of values near one half."""


def product(K: int, magnitude: float) -> float:
    """Error of one chain of K fused multiply-adds whose partial sums stay below `magnitude`.

    Each link rounds once, so K u magnitude in the worst case. Rounding errors are close to independent with mean zero,
    and then |error| <= lambda sqrt(K) u magnitude fails with probability below 2 exp(-lambda^2 / 2) per element (Higham
    and Mary, "A new approach to probabilistic rounding error analysis", SIAM J. Sci. Comput. 41(5), 2019); lambda = 6
    makes that 3e-8.
    """
    return min(float(K), 6.0 * np.sqrt(K)) * U * magnitude


def recurrent(K: int, steps: int, magnitude: float = 1.0) -> float:
    """Absolute error of a recurrent layer after `steps` steps, with K = I + H + 2 terms per pre-activation.

    Each step makes K roundings in a product, and at most 3 activations of 2 ULP (4 u each) and 6 roundings in the
    update of the state. Activations have slope <= 1 and the cells of the grid do not amplify their state (see grid.py),
    so what earlier steps left behind adds up at most: the products of all steps as one chain of steps * K links, the
    rest, which may be biased, linearly. `magnitude` bounds inputs, partial sums and states; it is at least one.
    """
    steps, scale = max(1, steps), max(1.0, magnitude)
    return product(K * steps, scale) + 18.0 * steps * U * scale
