"""A loop as its turns in a row, where they differ in more than values, or where there is only one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gateinfer.errors import GateInferError, ShapeError, UnsupportedOp
from gateinfer.graph.ir import Node
from gateinfer.graph.loops.counting import MAX_TURNS
from gateinfer.graph.loops.folding import Folding
from gateinfer.graph.loops.nodes import Loop, Stacked

if TYPE_CHECKING:
    from gateinfer.graph.rewriter import Rewriter, Scope

MAX_UNROLLED: Final = 256
"""Turns that are written out."""


class Unrolling:
    """Writes out every turn, if the condition of each is known before the first frame and there are not too many."""

    def __init__(
        self, rewriter: Rewriter, loop: Loop, scope: Scope, nodes: list[Node], refusal: GateInferError
    ) -> None:
        self.rewriter = rewriter
        self.loop = loop
        self.scope = scope
        self.nodes = nodes
        self.refusal = refusal

    def write(self) -> None:
        values = [c.initial for c in self.loop.carried]
        rows: list[list[str]] = [[] for _ in self.loop.stacked]
        written: list[Node] = []
        condition, turn, limit = self.loop.condition, 0, self._limit()
        while turn < limit and self._goes_on(condition):
            if turn == MAX_UNROLLED:
                raise self.refusal
            inner = self._turn(turn, values, written)
            values = [inner[c.after] for c in self.loop.carried]
            for row, s in zip(rows, self.loop.stacked, strict=True):
                row.append(inner[s.inner])
            condition = inner[self.loop.condition_after] if self.loop.condition_after else ""
            turn += 1
        self.nodes.extend(written)
        self._define(values, rows)

    def _limit(self) -> int:
        limit = Folding(self.rewriter, self.loop, self.scope, self.nodes).limit()
        if limit is None and self.loop.trip_count:
            raise self.refusal
        return MAX_TURNS if limit is None else limit

    def _turn(self, turn: int, values: list[str], written: list[Node]) -> Scope:
        loop, rewriter = self.loop, self.rewriter
        inner = self.scope.new_child()
        inner.update((inside, outside) for outside, inside in loop.fixed)
        for name, value in ((loop.turn, np.int64(turn)), (loop.condition_before, np.True_)):
            if name:
                rewriter.set_constant(rewriter.define(inner, name), np.full(loop.scalar_shape(name), value))
        inner.update((c.before, value) for c, value in zip(loop.carried, values, strict=True))
        try:
            for outside, inside in loop.scanned:
                inner[inside] = rewriter.insert("Gather", (outside, rewriter.constant(np.array(turn))), written, axis=0)
            written += rewriter.read(loop.body, inner)
            rewriter.raise_failures([inner[c.after] for c in loop.carried] + [inner[s.inner] for s in loop.stacked])
        except (UnsupportedOp, ShapeError):
            raise self.refusal from None
        return inner

    def _goes_on(self, condition: str) -> bool:
        if not condition:
            return True
        self.rewriter.raise_failures([condition])
        if condition not in self.rewriter.values:
            raise self.refusal
        return bool(self.rewriter.values[condition].reshape(-1)[0])

    def _define(self, values: list[str], rows: list[list[str]]) -> None:
        for c, value in zip(self.loop.carried, values, strict=True):
            if c.result:
                self.scope[c.result] = value
        for s, row in zip(self.loop.stacked, rows, strict=True):
            if s.result:
                self.scope[s.result] = self._stack(s, row)

    def _stack(self, s: Stacked, row: list[str]) -> str:
        rewriter = self.rewriter
        if not row:
            return self._no_rows(s)
        axes = [rewriter.integers([s.axis])] if rewriter.opset >= 13 else []
        attrs: dict[str, Any] = {} if axes else {"axes": [s.axis]}
        lifted = [rewriter.insert("Unsqueeze", (n, *axes), self.nodes, **attrs) for n in row]
        if s.reverse:
            lifted = lifted[::-1]
        return lifted[0] if len(lifted) == 1 else rewriter.insert("Concat", tuple(lifted), self.nodes, axis=s.axis)

    def _no_rows(self, s: Stacked) -> str:
        once = Folding(self.rewriter, self.loop, self.scope, [])
        once.read()
        found = self.rewriter.types[once.inner[s.inner]]
        shape = list(found.extents)
        shape.insert(s.axis % (len(shape) + 1), 0)
        return self.rewriter.constant(np.empty(shape, found.dtype))
