"""Lowering: a specialised graph becomes a program of the C core. One module per family of operators."""

from gateinfer.lower import (  # noqa: F401  (importing a family registers its operators)
    conv,
    conv_transpose,
    einsum,
    elementwise,
    indexing,
    loop,
    norm,
    order,
    pool,
    products,
    recurrent,
    reduce,
    resize,
    softmax,
    views,
)
from gateinfer.lower.program import Lowered, lower
from gateinfer.lower.registry import RULES, lowers

NATIVE_OPS = frozenset(RULES)
"""Operators of the default domain that run natively."""

__all__ = ["NATIVE_OPS", "Lowered", "lower", "lowers"]
