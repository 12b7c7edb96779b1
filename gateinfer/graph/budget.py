"""What folding may cost: nothing in a file may make loading hang or memory explode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from gateinfer.errors import ModelError
from gateinfer.graph.checks import MAX_NODES
from gateinfer.graph.ir import Graph, Node, TensorType
from gateinfer.graph.weights import constant_elements

MAX_FOLDED: Final = 2**26
"""Elements of one folded value."""
MAX_FOLDED_TOTAL: Final = 2**28
"""Elements of all values folded in one pass."""
MAX_GROWN: Final = 2**24
"""Elements that folding may add to those it starts from: little in the file must not become much in memory."""
MAX_COPIES: Final = 4
"""How often constants may be transformed when the program is built, rather than by the program, every time."""
MAX_FOLDED_STEPS: Final = 2**26
"""Multiply-adds, or elements looked at, of one node that is worth folding; a larger one stays a node."""
MAX_FOLDED_STEPS_TOTAL: Final = 2**28
"""The same of all nodes folded in one pass: what comes when they are used up stays a node."""
MAX_COUNTED: Final = 2**28
"""Steps of arithmetic to find out how often loops turn."""
STEPS_PER_INDEX: Final = 2**8
"""What an index of a constant gather or scatter counts: the reference operators walk them in Python."""

PRODUCTS: Final = ("MatMul", "Gemm")
_WALKS_INDICES: Final = frozenset("GatherElements GatherND ScatterElements ScatterND".split())
# Nodes that look at all elements of their first input to make few.
_WALKS_DATA: Final = frozenset("ArgMax ArgMin Compress NonZero TopK".split())


class BudgetExceeded(ModelError):
    """Folding went past its limits: never a reason to try on."""


class Budget:
    """What is left for one pass over `graph`."""

    def __init__(self, graph: Graph) -> None:
        self._most = min(MAX_FOLDED_TOTAL, MAX_GROWN + MAX_COPIES * constant_elements(graph))
        self._folded = 0
        self._grown = 0
        self._counted = 0
        self._visited = 0
        self._steps_left = MAX_FOLDED_STEPS_TOTAL

    def take(self, node: Node, types: Sequence[TensorType], known: Sequence[np.ndarray | None]) -> bool:
        """Spends what it takes to compute `node`. False, and nothing spent, when the program does that better.

        Raises
        ------
        BudgetExceeded
            Little in the file would become much in memory.
        """
        elements = sum(found.size for found in types)
        over = elements > MAX_FOLDED or self._folded + elements > self._most
        given = sum(v.size for v in dict(zip(node.inputs, known, strict=True)).values() if v is not None)
        needed = steps(node, types, known)
        # Moving large weights about is no attack: the program will do it. Only what grows out of little is refused.
        if needed > min(MAX_FOLDED_STEPS, self._steps_left) or (over and elements <= given):
            return False
        self.spend(node, elements, elements - given)
        self._steps_left -= needed
        return True

    def spend(self, node: Node, elements: int, grown: int) -> None:
        """`elements` made by `node`, `grown` of them more than it was given."""
        self._folded += elements
        self._grown += max(grown, 0)
        if elements > MAX_FOLDED or self._folded > self._most or self._grown > MAX_GROWN:
            raise BudgetExceeded(
                f"{node.label()}: folding it takes {elements} elements, which exceeds the budget of {MAX_FOLDED} "
                f"for one value, of {self._most} for the model, or of {MAX_GROWN} more than the file holds"
            )

    def spend_visits(self, nodes: int) -> None:
        """Nodes that are looked at, or made, whether they are computed or not."""
        self._visited += nodes
        if self._visited > MAX_NODES:
            raise BudgetExceeded(f"folding visits more than {MAX_NODES} nodes")

    def spend_turns(self, count: int) -> None:
        """Steps of arithmetic to find out how often loops turn."""
        self._counted += count
        if self._counted > MAX_COUNTED:
            raise BudgetExceeded(f"finding out how often loops turn takes more than {MAX_COUNTED} steps")


def steps(node: Node, types: Sequence[TensorType], known: Sequence[np.ndarray | None]) -> int:
    """The arithmetic of a node beyond making each element of its results once."""
    first = known[0]
    if first is None:
        return 0
    if node.op in PRODUCTS:
        return max(first.shape, default=1) * types[0].size
    if node.op in _WALKS_INDICES:
        return known[1].size * STEPS_PER_INDEX  # type: ignore[union-attr]
    return first.size if node.op.startswith("Reduce") or node.op in _WALKS_DATA else 0
