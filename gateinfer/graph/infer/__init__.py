"""Types and shapes of node outputs, one rule per operator family."""

from gateinfer.graph.infer import creation, elementwise, indexing, normalization, products, recurrent, reductions, views, windows
from gateinfer.graph.infer.registry import MAX_VALUE_ELEMENTS, has_rule, infer

__all__ = [
    "MAX_VALUE_ELEMENTS", "creation", "elementwise", "has_rule", "indexing", "infer", "normalization", "products",
    "recurrent", "reductions", "views", "windows",
]  # fmt: skip
