"""Finds LSTM cells: c' = f c + i g, h' = o act(c'), every gate an activation of products with x and h."""

from __future__ import annotations

from collections.abc import Iterator

from gateinfer.graph.ir import Node
from gateinfer.graph.recognise.affine import same_matrix
from gateinfer.graph.recognise.cell import Cell
from gateinfer.graph.recognise.flow import ways
from gateinfer.graph.recognise.gate import IDENTITY, Activation, Gate, activation_of, same_activation
from gateinfer.graph.recognise.readers import Readers


def match_lstm(readers: Readers, add: Node, cells: dict[str, Cell]) -> Cell | None:
    """The cell whose c' is the sum that `add` computes.

    Parameters
    ----------
    readers : of the graph
    add : an Add node
    cells : found so far, by each value they make
    """
    flow, total = readers.flow, add.outputs[0]
    products = flow.operands(total, "Add")
    if products is None or any(flow.operands(p, "Mul") is None for p in products):
        return None
    for rows, _ in readers.layouts(total):
        for left, right in ways(products):
            for f, i, g, c in _input_side(readers, left, right, rows):
                cell = _with_output(readers, (f, i, g), c, total, rows, cells)
                if cell is not None:
                    return cell
    return None


def _input_side(readers: Readers, left: str, right: str, rows: int) -> Iterator[tuple[Gate, Gate, Gate, str]]:
    """(f, i, g, c) for left = f c and right = i g."""
    for forget, c in ways(readers.flow.operands(left, "Mul")):
        f = readers.gates.read(forget, rows)
        if f is None:
            continue
        for first, second in ways(readers.flow.operands(right, "Mul")):
            i, g = readers.gates.read(first, rows), readers.gates.read_linear(second, rows)
            if i and g and same_activation(i.act, f.act) and i.sources == f.sources == g.sources:
                yield f, i, g, readers.flow.root(c)


def _with_output(
    readers: Readers, gates: tuple[Gate, Gate, Gate], c: str, total: str, rows: int, cells: dict[str, Cell]
) -> Cell | None:
    f, i, g = gates
    next_c = readers.flow.root(total)
    peephole_fits = not g.affine.diagonals and f.affine.diagonals.keys() <= {c} and i.affine.diagonals.keys() <= {c}
    if not peephole_fits:
        return None
    for o, act, next_h in output_side(readers, next_c, rows):
        if not same_activation(o.act, f.act) or o.sources != f.sources or not o.affine.diagonals.keys() <= {next_c}:
            continue
        sizes = {name: readers.width(name, rows) for name in i.affine.matrices}
        candidates = [name for name, width in sizes.items() if width == i.affine.columns]
        h, certain = _previous_h(readers, candidates, c, cells)
        xs = tuple(name for name in sizes if name != h)
        if h is None or not xs:
            continue
        return Cell(
            "LSTM",
            rows,
            i.affine.columns,
            (i.affine, o.affine, f.affine, g.affine),
            (f.act, g.act, act),
            xs,
            h,
            c,
            next_h,
            next_c,
            candidates=() if certain else tuple(candidates),
        )
    return None


def output_side(readers: Readers, next_c: str, rows: int) -> Iterator[tuple[Gate, Activation, str]]:
    """(o, act, h') for h' = o act(c')."""
    flow = readers.flow
    bounded = [(next_c, IDENTITY)]
    for user in flow.users.get(next_c, ()):
        act = activation_of(user)
        if act is not None:
            bounded.insert(0, (user.outputs[0], act))
    for value, act in bounded:
        for user in flow.users.get(flow.root(value), ()):
            for gate, other in ways(flow.operands(user.outputs[0], "Mul")):
                o = readers.gates.read(gate, rows) if flow.root(other) == flow.root(value) else None
                if o is not None:
                    yield o, act, user.outputs[0]


def settle(cells: list[Cell]) -> None:
    """Lets a later step with the same weights tell which source of an open cell is h."""
    later = {cell.c: cell for cell in cells if cell.c and not cell.candidates}
    for cell in reversed(cells):
        step = later.get(cell.next_c) if cell.candidates and cell.next_c else None
        if step is None:
            continue
        recurrent = step.gates[0].matrices[step.h]
        found = [name for name in cell.candidates if same_matrix(cell.gates[0].matrices[name], recurrent)]
        if len(found) == 1:
            sources = (*cell.xs, cell.h)
            cell.h, cell.candidates = found[0], ()
            cell.xs = tuple(name for name in cell.gates[0].matrices if name in sources and name != cell.h)


def _previous_h(readers: Readers, candidates: list[str], c: str, cells: dict[str, Cell]) -> tuple[str | None, bool]:
    """Which source of width H is the previous h, and whether the graph leaves no doubt.

    Any of them gives the right figures, since a single step treats x and h alike. It matters for what is told about
    states, and for steps to share their weights.
    """
    before = cells.get(c)
    if before is not None and before.next_h in candidates:
        return before.next_h, True
    if len(candidates) < 2:
        return (candidates[0] if candidates else None), True
    carried = [name for name in candidates if name in readers.carried]
    if len(carried) == 1:
        return carried[0], True
    origin = readers.flow.origin(c)
    related = [name for name in candidates if readers.flow.origin(name) == origin and name != c]
    if len(related) == 1:
        return related[0], True
    return candidates[-1], False
