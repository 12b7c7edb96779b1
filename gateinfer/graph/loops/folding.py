"""A loop as one node: its body is folded once for all turns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from gateinfer.errors import ModelError, ShapeError, UnsupportedOp
from gateinfer.graph.ir import Node, Port, TensorType
from gateinfer.graph.loops.counting import MAX_TURNS, Counts, count_turns
from gateinfer.graph.loops.nodes import Loop, Stacked, first_axis, turned_around

if TYPE_CHECKING:
    from gateinfer.graph.rewriter import Rewriter, Scope


class Folding:
    """Folds the body of one loop and writes the node. Names of `carried` and `stacked` become those being written."""

    def __init__(self, rewriter: Rewriter, loop: Loop, scope: Scope, nodes: list[Node]) -> None:
        self.rewriter = rewriter
        self.loop = loop
        self.node = loop.node
        self.outer = scope
        self.nodes = nodes
        self.inner = scope.new_child()

    def write(self) -> bool:
        """Writes nothing and returns False when there is one turn or none for sure."""
        rewriter = self.rewriter
        limit, surely = self.limit(), self._starts() is not None
        if limit == 0 or self._starts() is False or (surely and limit == 1):
            return False
        body = self.read()
        counts = Counts(body, rewriter.values, rewriter.types, self.turn, rewriter.budget.spend_turns)
        counts.find([(c.initial, c.before, c.after) for c in self.carried])
        trips = self._count(counts)
        if surely and trips == 1:
            return False
        if trips >= 0:
            body = self._scan_counts(counts, body, trips, surely)
        self._emit(body, trips, surely)
        return True

    def read(self) -> list[Node]:
        """Folds the body."""
        self._enter()
        body = self.rewriter.read(self.loop.body, self.inner)
        self._leave()
        return body

    def _enter(self) -> None:
        loop, types = self.loop, self.rewriter.types
        define = self.rewriter.define
        self.inner.update((inside, outside) for outside, inside in loop.fixed)
        self.turn = define(self.inner, loop.turn) if loop.turn else self.rewriter.fresh("turn")
        types[self.turn] = TensorType(np.dtype("i8"), loop.scalar_shape(loop.turn))
        if loop.condition_before:
            going_on = np.ones(loop.scalar_shape(loop.condition_before), bool)
            self.rewriter.set_constant(define(self.inner, loop.condition_before), going_on)
        self.carried = []
        for c in loop.carried:
            if c.initial in self.rewriter.sequences or c.initial in self.rewriter.opaque:
                raise UnsupportedOp(
                    f'{self.node.label()}: it carries the sequence "{c.before}" and does more to it than append one '
                    "tensor in each turn; stack what each turn yields instead, or feed fewer steps"
                )
            before = define(self.inner, c.before)
            types[before] = types[c.initial]
            self.carried.append(dataclasses.replace(c, before=before))
        self.scanned = []
        for outside, inside in loop.scanned:
            name = define(self.inner, inside)
            found = types[outside]
            types[name] = TensorType(found.dtype, found.extents[1:])
            self.scanned.append((outside, name))

    def _leave(self) -> None:
        """Looks up what comes out of a turn, and makes sure that it fits the next one."""
        names = [c.after for c in self.loop.carried] + [s.inner for s in self.loop.stacked]
        self.after_condition = self._after(self.loop.condition_after) if self.loop.condition_after else ""
        self.rewriter.raise_failures([self.inner[n] for n in names])
        for c in self.carried:
            c.after = self.inner[c.after]
            first, later = self.rewriter.types[c.before], self.rewriter.types[c.after]
            if first != later:
                raise UnsupportedOp(
                    f'{self.node.label()}: its carried value "{c.before}" is {first.dtype} {list(first.extents)} '
                    f"before and {later.dtype} {list(later.extents)} behind a turn; it must keep its type and shape"
                )
        self.stacked = [dataclasses.replace(s, inner=self.inner[s.inner]) for s in self.loop.stacked if s.result]

    def _after(self, name: str) -> str:
        self.rewriter.raise_failures([self.inner[name]])
        return self.inner[name]

    # ---- turns ----

    def _constant(self, name: str) -> np.ndarray | None:
        value = self.rewriter.values.get(name)
        if value is not None and value.size != 1:
            raise ShapeError(f'{self.node.label()}: "{name}" must be one value, got {list(value.shape)}')
        return value

    def limit(self) -> int | None:
        """Turns that the trip count, or scanned values, allow; None when that is not known."""
        if self.loop.scanned:
            extents = {self.rewriter.types[outside].extents[:1] for outside, _ in self.loop.scanned}
            if len(extents) > 1 or () in extents:
                raise ShapeError(f"{self.node.label()}: scanned values must have equally many elements, got {extents}")
            return int(extents.pop()[0])
        value = self._constant(self.loop.trip_count) if self.loop.trip_count else None
        return None if value is None else max(int(value.item()), 0)

    def _starts(self) -> bool | None:
        """What the condition says about the first turn; None when that is not known."""
        if not self.loop.condition:
            return True
        value = self._constant(self.loop.condition)
        return None if value is None else bool(value.item())

    def _count(self, counts: Counts) -> int:
        """The exact number of turns if there is a first one, or -1."""
        limit = self.limit()
        if self.loop.trip_count and limit is None:
            return -1
        trips = limit
        if self.after_condition:
            trips = count_turns(counts, self.after_condition, limit)
            if trips is None:
                return -1
        if trips is None or trips > MAX_TURNS:
            raise ModelError(f"{self.node.label()}: it does not end within {MAX_TURNS} turns")
        return trips

    # ---- counts ----

    def _scan_counts(self, counts: Counts, body: list[Node], trips: int, surely: bool) -> list[Node]:
        """Makes counting values, and elements that are picked by counts, scanned ones."""
        kept = []
        for c in self.carried:
            series = counts.series(c.before, trips)
            if series is None or (c.result and not surely):
                kept.append(c)
                continue
            shape = self.rewriter.types[c.before].extents
            self.scanned.append((self.rewriter.constant(series.reshape(trips, *shape)), c.before))
            if c.result:
                last = counts.series(c.before, trips + 1)
                assert last is not None  # as above
                self.rewriter.set_constant(self.rewriter.define(self.outer, c.result), last[-1:].reshape(shape))
        self.carried = kept
        self.inside = {self.turn, *(c.before for c in kept), *(inside for _, inside in self.scanned)}
        self.inside.update(o for node in body for o in node.outputs)
        return [kept for node in body for kept in self._scan_picked(counts, node, trips)]

    def _scan_picked(self, counts: Counts, node: Node, trips: int) -> list[Node]:
        """A Gather of one element of a captured value at a place that only depends on the turn."""
        if node.op != "Gather" or node.domain or node.inputs[0] in self.inside:
            return [node]
        data, out = self.rewriter.types[node.inputs[0]], self.rewriter.types[node.outputs[0]]
        axis = node.attrs.get("axis", 0) % len(data.extents)
        places = counts.series(node.inputs[1], trips)
        if places is None or places.min() < -data.extents[axis] or places.max() >= data.extents[axis]:
            return [node]
        index = self.rewriter.integers(places % data.extents[axis])
        picked = self.rewriter.insert("Gather", (node.inputs[0], index), self.nodes, axis=axis)
        picked = first_axis(self.rewriter, node, picked, axis, self.nodes)
        found = TensorType(data.dtype, data.extents[:axis] + data.extents[axis + 1 :])
        if found == out:
            self.scanned.append((picked, node.outputs[0]))
            return []
        inside = self.rewriter.fresh(node.outputs[0])
        self.rewriter.types[inside] = found
        self.scanned.append((picked, inside))
        return [Node("Reshape", (inside, self.rewriter.integers(out.extents)), node.outputs, name=node.name)]

    # ---- writing ----

    def _emit(self, body: list[Node], trips: int, surely: bool) -> None:
        rewriter = self.rewriter
        if trips < 0 or not surely:
            self._refuse_stacking()
        results = [rewriter.define(self.outer, c.result) if c.result else "" for c in self.carried]
        for name, c in zip(results, self.carried, strict=True):
            if name:
                rewriter.types[name] = rewriter.types[c.initial]
        raw = self._raw_outputs(trips)
        if not any(results) and not raw:
            return
        ends = [self.after_condition] if trips < 0 else []
        graph = dataclasses.replace(
            self.loop.body,
            inputs=self._ports([self.turn, *(c.before for c in self.carried)])
            + self._ports([inside for _, inside in self.scanned]),
            outputs=self._ports([*ends, *(c.after for c in self.carried), *raw]),
            nodes=body,
            constants={},
        )
        inputs = [self.loop.trip_count if trips < 0 else "", "" if surely else self.loop.condition]
        inputs += [c.initial for c in self.carried] + [outside for outside, _ in self.scanned]
        attrs = {"body": graph, "trips": trips, "scanned": len(self.scanned)}
        written = dataclasses.replace(self.node, inputs=tuple(inputs), outputs=(*results, *raw.values()), attrs=attrs)
        self.nodes.append(written)
        for s in self.stacked:
            self._place(raw[s.inner], s)

    def _refuse_stacking(self) -> None:
        """An error for whoever needs a result whose length nobody knows."""
        refusal = UnsupportedOp(
            f"{self.node.label()}: it stacks what each turn yields, and how many there are depends on run-time values; "
            "pass the graph input that decides it as a constant keyword"
        )
        for s in self.stacked:
            self.rewriter.fail(self.outer, s.result, refusal)
        self.stacked = []

    def _ports(self, names: Iterable[str]) -> list[Port]:
        return [Port(n, self.rewriter.types[n]) for n in names]

    def _raw_outputs(self, trips: int) -> dict[str, str]:
        """For each value inside that is stacked, the name of the stack: once, however many results it makes."""
        raw = {}
        for s in self.stacked:
            if s.inner not in raw:
                found = self.rewriter.types[s.inner]
                stack = TensorType(found.dtype, (trips, *found.extents))
                self.rewriter.check_size(self.node, stack)
                raw[s.inner] = self.rewriter.fresh(s.result)
                self.rewriter.types[raw[s.inner]] = stack
        return raw

    def _place(self, name: str, s: Stacked) -> None:
        """Puts a stacked output where a Scan wants it."""
        if s.reverse:
            name = turned_around(self.rewriter, name, self.nodes)
        if s.axis:
            rank = len(self.rewriter.types[name].extents)
            if not -rank <= s.axis < rank:
                raise ShapeError(f"{self.node.label()}: it stacks along axis {s.axis} of a result of rank {rank}")
            perm = list(range(1, rank))
            perm.insert(s.axis % rank, 0)
            name = self.rewriter.insert("Transpose", (name,), self.nodes, perm=perm)
        self.outer[s.result] = name
