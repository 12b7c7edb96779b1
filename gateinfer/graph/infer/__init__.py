"""Types and shapes of node outputs, one rule per operator family."""

from gateinfer.graph.infer import (  # noqa: F401  # importing a family registers its rules
    creation,
    elementwise,
    indexing,
    normalization,
    products,
    recurrent,
    reductions,
    views,
    windows,
)
from gateinfer.graph.infer.registry import MAX_VALUE_ELEMENTS, has_rule, infer

__all__ = ["MAX_VALUE_ELEMENTS", "has_rule", "infer"]
