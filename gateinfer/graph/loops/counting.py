"""Values in a loop's body that follow from the number of the turn alone: counters, and what is computed from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import numpy as np

from gateinfer.graph.ir import Node, TensorType
from gateinfer.graph.plain_ops import ARITY, ELEMENTWISE

MAX_TURNS: Final = 2**24
"""Turns of one loop: GI_LOOP_LIMIT of the C core."""

_FIRST_LOOK, _LONG_LOOK = 2**10, 2**18
"""Turns that are looked at together: few loops are long."""

MAX_STEPPED: Final = 2**12
"""Turns that are followed one by one, where a counter does not step evenly."""

_RENAMES: Final = frozenset("Identity Reshape Squeeze Unsqueeze Flatten Cast Expand".split())
"""Of one element: the same number, perhaps of another type."""

MAX_DEPTH: Final = 100
"""Operators in a row that a count may go through."""

Known = dict[str, "np.ndarray | None"]
"""Values of one element by name, [1] or [turns]; None for those that more than the turn decides."""


class Counts:
    """Which values of a body are known for every turn.

    Parameters
    ----------
    body : folded nodes
    values, types : of all values that are known, and of all
    turn : the body's input with its number
    spend : is told how many steps of arithmetic are made, and ends it when they are too many
    """

    def __init__(
        self,
        body: Iterable[Node],
        values: Mapping[str, np.ndarray],
        types: Mapping[str, TensorType],
        turn: str,
        spend: Callable[[int], None],
    ) -> None:
        self._producers = {o: node for node in body for o in node.outputs}
        self._values = values
        self._types = types
        self._spend = spend
        self._starts: dict[str, tuple[np.ndarray, np.ndarray]] = {turn: (np.array([0]), np.array([1]))}
        """Counters that step evenly: first value and step."""
        self._stepped: dict[str, tuple[np.ndarray, str]] = {}
        """Other carried values of one element that start from a constant: first value, and the value behind a turn."""

    def find(self, carried: Iterable[tuple[str, str, str]]) -> None:
        """Looks for counters among carried values (initial, before, after)."""
        for initial, before, after in carried:
            start = self._values.get(initial)
            if start is None or start.size != 1 or start.dtype.kind not in "ifb":
                continue
            step = self._step(start, before, after)
            if step is None:
                self._stepped[before] = start.reshape(1), after
            else:
                self._starts[before] = start.reshape(1), step.astype(start.dtype)

    def _step(self, start: np.ndarray, before: str, after: str) -> np.ndarray | None:
        """What each turn adds, if that is one whole number, and the first value is one too."""
        node = self._producers.get(after)
        if node is None or node.op not in ("Add", "Sub") or node.domain:
            return None
        lhs, rhs = node.inputs
        if node.op == "Add" and rhs == before:
            lhs, rhs = rhs, lhs
        step = self._values.get(rhs)
        if lhs != before or step is None or step.size != 1:
            return None
        if start.item() % 1 or step.item() % 1:
            return None
        return -step.reshape(1) if node.op == "Sub" else step.reshape(1)

    def series(self, name: str, count: int) -> np.ndarray | None:
        """[count]: `name` in the turns from the first on, or None when it depends on more than the turn."""
        return self._series(name, 0, count)

    def _series(self, name: str, first: int, count: int) -> np.ndarray | None:
        known = self._counters(first, count)
        with np.errstate(all="ignore"):
            found = self._evaluate(name, known, MAX_DEPTH)
        self._spend(count * len(known))
        return None if found is None else np.broadcast_to(found, (count,))

    def _counters(self, first: int, count: int) -> Known:
        turns = np.arange(first, first + count)
        return {n: _steps(start, step, turns) for n, (start, step) in self._starts.items()}

    def _evaluate(self, name: str, known: Known, depth: int) -> np.ndarray | None:
        """The value of `name` where those of `known` are given, [1] or [turns]; None beyond `depth` operators."""
        if name not in known:
            value = self._values.get(name)
            if value is not None:
                known[name] = value.reshape(1) if value.size == 1 else None
            else:
                known[name] = self._apply(self._producers.get(name), known, depth - 1) if depth else None
        return known[name]

    def _apply(self, node: Node | None, known: Known, depth: int) -> np.ndarray | None:
        if node is None or node.domain or self._types[node.outputs[0]].size != 1 or not all(node.inputs):
            return None
        function = ELEMENTWISE.get(node.op)
        names = node.inputs[:1] if node.op in _RENAMES else node.inputs
        if node.attrs.get("fmod", 0) or (function is None and node.op not in _RENAMES):
            return None
        arguments = [self._evaluate(name, known, depth) for name in names]
        if any(a is None for a in arguments) or (function and len(arguments) != ARITY.get(node.op, 2)):
            return None
        result = function(*arguments) if function else arguments[0]
        return np.asarray(result).astype(self._types[node.outputs[0]].dtype)

    # ---- the last turn ----

    def last_turn(self, condition: str, limit: int) -> int | None:
        """The first of `limit` turns behind which `condition` is false, `limit` if there is none; None: unknown."""
        first, count = 0, _FIRST_LOOK
        while first < limit:
            found = self._series(condition, first, min(count, limit - first))
            if found is None:
                return self._last_stepped(condition, limit) if first == 0 else None
            ended = np.flatnonzero(~found.astype(bool))
            if ended.size:
                return first + int(ended[0])
            first, count = first + count, _LONG_LOOK
        return limit

    def _last_stepped(self, condition: str, limit: int) -> int | None:
        state: Known = {n: start for n, (start, _) in self._stepped.items()}
        with np.errstate(all="ignore"):
            for turn in range(min(limit, MAX_STEPPED)):
                known = dict(state) | self._counters(turn, 1)
                goes_on = self._evaluate(condition, known, MAX_DEPTH)
                if goes_on is None:
                    return None
                if not goes_on.item():
                    return turn
                state = {n: self._evaluate(after, known, MAX_DEPTH) for n, (_, after) in self._stepped.items()}
                self._spend(len(known))
        return limit if limit <= MAX_STEPPED else None


def _steps(start: np.ndarray, step: np.ndarray, turns: np.ndarray) -> np.ndarray | None:
    """start + step * turns in the type of `start`; None where repeated addition may round."""
    if start.dtype.kind == "f":
        farthest = abs(start.item()) + abs(step.item()) * float(turns[-1])
        if not farthest <= 2 ** np.finfo(start.dtype).nmant:
            return None
    elif start.dtype.kind == "b":
        return None
    return (start + step * turns).astype(start.dtype)


def count_turns(counts: Counts, condition: str, limit: int | None) -> int | None:
    """Turns made, at most `limit`, when `condition` holds behind all but the last; None: only known at run time.

    More than MAX_TURNS stand for a loop without an end.
    """
    most = MAX_TURNS + 1 if limit is None else min(limit, MAX_TURNS + 1)
    last = counts.last_turn(condition, most)
    return None if last is None else min(last + 1, most)
