"""Sequence values while folding: lists of tensors become the tensors they are made of.

A list is followed as pieces: single tensors, and tensors cut evenly along an axis, which may have any number of parts.
What reads a list becomes Gather, Slice, Concat, Shape; a list that a Loop appends to becomes what the loop stacks.
Without shapes some of it stays; then a list that a node really needs is made from its pieces in front of that node.
"""

from gateinfer.graph.sequences.folding import fold_sequence, keep_sequence, refuse_list_outputs
from gateinfer.graph.sequences.loops import without_grown_lists
from gateinfer.graph.sequences.operators import SEQUENCE_OPS
from gateinfer.graph.sequences.pieces import made_of

__all__ = [
    "SEQUENCE_OPS",
    "fold_sequence",
    "keep_sequence",
    "made_of",
    "refuse_list_outputs",
    "without_grown_lists",
]
