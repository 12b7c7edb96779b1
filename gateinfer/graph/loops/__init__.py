"""Loop and Scan while folding: how many turns, with which values in and out.

Both become nodes of one form, under their own operator name:

    inputs      trip count, condition, carried values (initial), scanned values (one element of axis 0 per turn)
    outputs     carried values (after the last turn), then what each turn yields, stacked along axis 0
    body        inputs: number of the turn, carried, scanned; outputs: whether to go on unless closed, carried, stacked
    trips       the exact number of turns of a closed loop, whose body decides nothing; -1 for an open-ended one
    scanned     number of scanned values

A closed loop has no trip count; its condition, if any, says whether there is a first turn. Carried values that no turn
changes are captured instead, those that count become scanned constants, and elements picked by a count are scanned.
What the body captures, constants included, belongs to the graphs around it; types are in the main graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateinfer.errors import GateInferError, ShapeError, UnsupportedOp
from gateinfer.graph.ir import Node
from gateinfer.graph.loops.plain import plain
from gateinfer.graph.loops.trim import trimmed

if TYPE_CHECKING:
    from gateinfer.graph.rewriter import Rewriter, Scope

__all__ = ["LOOPS", "fold_loop", "is_folded", "plain", "trimmed"]

LOOPS: Final = ("Loop", "Scan")


def is_folded(node: Node) -> bool:
    """True for a loop in the form of this package."""
    return node.op in LOOPS and not node.domain and "trips" in node.attrs


def fold_loop(rewriter: Rewriter, node: Node, scope: Scope, nodes: list[Node]) -> None:
    """Writes the loop `node`, or what it comes down to: its initial values, one turn, a few turns in a row."""
    from gateinfer.graph.loops.folding import Folding
    from gateinfer.graph.loops.nodes import parse_loop, parse_scan
    from gateinfer.graph.loops.unrolling import Unrolling

    loop = parse_loop(node) if node.op == "Loop" else parse_scan(rewriter, node, nodes)
    loop.release_constants(scope)
    refusal: GateInferError = UnsupportedOp(f"{node.label()}: its turns cannot be told before it runs")
    try:
        if Folding(rewriter, loop, scope, nodes).write():
            return
    except (UnsupportedOp, ShapeError) as error:
        refusal = error
    Unrolling(rewriter, loop, scope, nodes, refusal).write()
