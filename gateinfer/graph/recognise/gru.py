"""Finds GRU cells: h' = z h + (1 - z) n in any arrangement, the reset gate before or after the recurrent product."""

from __future__ import annotations

from collections.abc import Iterator

from gateinfer.graph.ir import Node
from gateinfer.graph.recognise.affine import Affine
from gateinfer.graph.recognise.cell import Cell
from gateinfer.graph.recognise.flow import Flow, ways
from gateinfer.graph.recognise.gate import Gate, complement, same_activation
from gateinfer.graph.recognise.readers import Readers

Blend = tuple[str, bool, str, str]
"""(p, flipped, a, b): the value is p a + (1 - p) b, or (1 - p) a + p b when flipped."""


def match_gru(readers: Readers, node: Node) -> Cell | None:
    """The cell whose h' is the sum or difference that `node` computes."""
    total = node.outputs[0]
    if not _may_blend(readers.flow, node):
        return None
    for p, flipped, h, n in blends(readers, total):
        for rows, _ in readers.layouts(total):
            z = readers.gates.read(p, rows)
            if z is None or z.affine.diagonals:
                continue
            cell = _with_candidate(readers, complement(z) if flipped else z, h, n, total, rows)
            if cell is not None:
                return cell
    return None


# ---- z h + (1 - z) n ------------------------------------------------------------------------------------------------


def _may_blend(flow: Flow, node: Node) -> bool:
    made = [flow.node(name) for name in node.inputs if name]
    return any(n is not None and n.op in ("Mul", "Add", "Sub") for n in made)


def blends(readers: Readers, total: str) -> Iterator[Blend]:
    """Every reading of `total` as a blend of two values, in both roles of h and n."""
    for p, a, b in (*_two_products(readers, total), *_one_product(readers.flow, total), *_three(readers.flow, total)):
        yield p, False, a, b
        yield p, True, b, a


def _two_products(readers: Readers, total: str) -> Iterator[tuple[str, str, str]]:
    """P a + q b with q = 1 - p."""
    flow = readers.flow
    pair = flow.operands(total, "Add")
    if pair is None:
        return
    for p, a in ways(flow.operands(pair[0], "Mul")):
        for q, b in ways(flow.operands(pair[1], "Mul")):
            if _are_complements(readers, p, q):
                # The one that is written as 1 - gate is not the gate.
                if readers.gates.scaled(p)[1] < 0.0:
                    yield q, b, a
                else:
                    yield p, a, b


def _are_complements(readers: Readers, p: str, q: str) -> bool:
    (core_p, a_p, b_p), (core_q, a_q, b_q) = readers.gates.scaled(p), readers.gates.scaled(q)
    return core_p == core_q and a_p == -a_q != 0.0 and b_p + b_q == 1.0


def _one_product(flow: Flow, total: str) -> Iterator[tuple[str, str, str]]:
    """B + p (a - b), or b - p (b - a)."""
    for b, product in ways(flow.operands(total, "Add")):
        for p, difference in ways(flow.operands(product, "Mul")):
            minuend, subtrahend = flow.operands(difference, "Sub") or ("", "")
            if subtrahend and flow.root(subtrahend) == flow.root(b):
                yield p, minuend, b
    b, product = flow.operands(total, "Sub") or ("", "")
    for p, difference in ways(flow.operands(product, "Mul")) if product else ():
        minuend, subtrahend = flow.operands(difference, "Sub") or ("", "")
        if minuend and flow.root(minuend) == flow.root(b):
            yield p, subtrahend, b


def _three(flow: Flow, total: str) -> Iterator[tuple[str, str, str]]:
    """B, minus p b, plus p a, added up in any order."""
    for b, plus, minus in _signed(flow, total):
        for p, a in ways(flow.operands(plus, "Mul")):
            for q, again in ways(flow.operands(minus, "Mul")):
                if flow.root(p) == flow.root(q) and flow.root(again) == flow.root(b):
                    yield p, a, b


def _signed(flow: Flow, total: str) -> Iterator[tuple[str, str, str]]:
    """(x, y, w) for total = x + y - w."""
    for x, difference in ways(flow.operands(total, "Add")):
        y, w = flow.operands(difference, "Sub") or ("", "")
        if w:
            yield x, y, w
            yield y, x, w
    whole, w = flow.operands(total, "Sub") or ("", "")
    for x, y in ways(flow.operands(whole, "Add")) if w else ():
        yield x, y, w


# ---- n --------------------------------------------------------------------------------------------------------------


def _with_candidate(readers: Readers, z: Gate | None, h: str, n: str, total: str, rows: int) -> Cell | None:
    h = readers.flow.root(h)
    if z is None or h not in z.affine.matrices or readers.width(h, rows) != z.affine.columns:
        return None
    candidate = readers.gates.read(n, rows)
    xs = tuple(name for name in z.affine.matrices if name != h)
    if candidate is None or not xs:
        return None
    for r, affine, recurrent in (*_reset_first(readers, candidate, h, rows), *_reset_last(readers, candidate, h, rows)):
        fits = (
            same_activation(r.act, z.act) and r.sources == z.sources and not r.affine.diagonals and not affine.diagonals
        )
        if fits and set(affine.matrices) == {*xs, h}:
            return Cell(
                "GRU",
                rows,
                z.affine.columns,
                (z.affine, r.affine, affine),
                (z.act, candidate.act),
                xs,
                h,
                None,
                total,
                None,
                recurrent,
            )
    return None


Reset = tuple[Gate, Affine, Affine | None]
"""(r, products of the candidate with x and h, the sum inside r * (...) or None)."""


def _reset_first(readers: Readers, candidate: Gate, h: str, rows: int) -> Iterator[Reset]:
    """N = act(x W + (r h) R + b)."""
    affine = candidate.affine
    for name in affine.matrices if h not in affine.matrices else ():
        for reset, state in ways(readers.flow.operands(name, "Mul")):
            r = readers.gates.read(reset, rows) if readers.flow.root(state) == h else None
            if r is not None:
                matrices = {h if key == name else key: matrix for key, matrix in affine.matrices.items()}
                yield r, Affine(affine.columns, matrices, affine.diagonals, affine.rows, affine.products), None


def _reset_last(readers: Readers, candidate: Gate, h: str, rows: int) -> Iterator[Reset]:
    """N = act(x W + b + r (h R + b'))."""
    affine = candidate.affine
    if len(affine.diagonals) != 1 or h in affine.matrices:
        return
    ((name, diagonal),) = affine.diagonals.items()
    for reset, product in ways(readers.flow.operands(name, "Mul")):
        r, inner = readers.gates.read(reset, rows), readers.affine.read(product, rows)
        if r is not None and inner.matrices.keys() == {h} and not inner.diagonals:
            inner = inner.times(diagonal) if (diagonal != 1.0).any() else inner
            matrices = affine.matrices | inner.matrices
            yield r, Affine(affine.columns, matrices, {}, affine.rows, affine.products), inner
