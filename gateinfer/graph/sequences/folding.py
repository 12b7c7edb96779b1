"""Writes what sequence operators come down to, or keeps them for onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from gateinfer.errors import UnsupportedOp
from gateinfer.graph.checks import makers
from gateinfer.graph.ir import SEQUENCE, Node
from gateinfer.graph.sequences.operators import resolve
from gateinfer.graph.sequences.pieces import made_of

if TYPE_CHECKING:
    from gateinfer.graph.rewriter import Rewriter, Scope

_MAKES_LISTS: Final = ("SplitToSequence", "SequenceConstruct", "SequenceEmpty", "SequenceInsert", "SequenceErase")


def fold_sequence(rewriter: Rewriter, node: Node, scope: Scope, nodes: list[Node]) -> None:
    """Writes a sequence operator as nodes on tensors, if its list is known well enough."""
    found = resolve(rewriter, node, nodes)
    if isinstance(found, str):
        scope[node.outputs[0]] = found
        return
    if not found and (found is None or not rewriter.static or rewriter.foreign):
        keep_sequence(rewriter, node, scope, nodes)  # an empty list as well: it cannot be made of anything
    else:
        rewriter.define(scope, node.outputs[0])
    if found is not None:
        rewriter.sequences[scope[node.outputs[0]]] = found


def keep_sequence(rewriter: Rewriter, node: Node, scope: Scope, nodes: list[Node]) -> None:
    """Writes a node that reads or makes a list which stays one: for onnxruntime, once shapes are known."""
    if not rewriter.static:
        rewriter.emit(node, scope, nodes)
        return
    if rewriter.foreign is None:
        raise UnsupportedOp(
            f"{node.label()}: its sequence does not come down to tensors of known shape; "
            "export the model without it, or load it with fallback='onnxruntime'"
        )
    node = replace(node, inputs=tuple(made_of(rewriter, name, nodes, node.label()) for name in node.inputs))
    types = [SEQUENCE]
    if node.op not in _MAKES_LISTS or node.domain:
        types = rewriter.foreign([*makers(node, rewriter.opaque), node], rewriter.types, rewriter.values)
    rewriter.emit(node, scope, nodes)
    for output, found in zip(node.outputs, types, strict=True):
        if output:
            rewriter.types[scope[output]] = found
            if found == SEQUENCE:
                rewriter.opaque[scope[output]] = nodes[-1]


def refuse_list_outputs(rewriter: Rewriter, outputs: Mapping[str, str]) -> None:
    """Raise UnsupportedOp for graph outputs, name -> value, that are lists although the file calls them tensors."""
    for name, source in outputs.items():
        if source in rewriter.sequences or source in rewriter.opaque:
            raise UnsupportedOp(f'graph output "{name}" is a sequence; join its members with ConcatFromSequence')
