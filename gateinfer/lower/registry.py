"""Which operators are lowered, by which function, with which attributes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from gateinfer.errors import UnsupportedOp
from gateinfer.graph.ir import Node

if TYPE_CHECKING:
    from gateinfer.lower.context import Lowering

    LowerFn = Callable[[Lowering, Node], None]


class Rule(NamedTuple):
    """How one operator is lowered, and the attributes its function reads."""

    lower: LowerFn
    attrs: frozenset[str] | None


RULES: dict[str, Rule] = {}

HARMLESS = frozenset({"consumed_inputs"})
"""Attributes that only ever were hints to a runtime."""


def lowers(*ops: str, attrs: Sequence[str] | None = ()) -> Callable[[LowerFn], LowerFn]:
    """Registers `fn(ctx, node)` for the operators `ops` of the default domain.

    `attrs` lists every attribute the function honours: a node with any other one is refused by name. None leaves that
    check to the function.
    """

    def register(fn: LowerFn) -> LowerFn:
        for op in ops:
            RULES[op] = Rule(fn, None if attrs is None else frozenset(attrs))
        return fn

    return register


def rule_for(node: Node) -> Rule | None:
    """The rule of `node`, or None when the engine has no such operator."""
    return RULES.get(node.op) if node.domain == "" else None


def check_attrs(node: Node, rule: Rule) -> None:
    """Raises UnsupportedOp when `node` has an attribute its rule does not honour."""
    if rule.attrs is None:
        return
    unknown = sorted(set(node.attrs) - rule.attrs - HARMLESS)
    if unknown:
        raise UnsupportedOp(f"attribute {unknown[0]!r} is not implemented; export the model without it")
