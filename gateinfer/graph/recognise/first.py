"""The first of several steps, told by the one after it.

Where a state starts at zero its products are gone, folded into constants. What is left is a cell on a zero state if it
is the next step with everything that multiplies the state taken out: the same weights, the same biases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from gateinfer.graph.recognise.affine import Affine, same_matrix
from gateinfer.graph.recognise.cell import Cell
from gateinfer.graph.recognise.flow import F32, Flow, ways
from gateinfer.graph.recognise.gate import Gate, complement, same_activation
from gateinfer.graph.recognise.gru import blends
from gateinfer.graph.recognise.lstm import output_side
from gateinfer.graph.recognise.readers import Readers

ROUNDING: Final = 4 * np.finfo(F32).eps
"""How far two orders of adding the same few biases may be apart, in parts of the largest."""


def first_steps(readers: Readers, cells: Sequence[Cell]) -> Iterator[Cell]:
    """For each of `cells` that no other one comes before, the step before it, if there is one."""
    made = {value for cell in cells for value in cell.made}
    for cell in cells:
        if cell.h in made or cell.c in made or cell.candidates:
            continue
        found = {"LSTM": _first_lstm, "GRU": _first_gru, "RNN": _first_rnn}[cell.kind](readers, cell)
        if found is not None and made.isdisjoint(found.made):
            made.update(found.made)
            yield found


def inputs_like(
    readers: Readers, found: Affine, step: Cell, gate: Affine, wanted: Sequence[str] | None = None
) -> tuple[str, ...] | None:
    """The sources of `found` in the order of the inputs of `step`, if `found` is `gate` on them and nothing else.

    `wanted` are the sources of `gate` to look for, the inputs of `step` if not given.
    """
    matrices = {name: matrix for name, matrix in found.matrices.items() if not _is_zero(readers.flow, name)}
    wanted = step.xs if wanted is None else wanted
    names: list[str] = []
    for source in wanted:
        same = [n for n, m in matrices.items() if n not in names and same_matrix(m, gate.matrices[source])]
        names += same[:1]
    if not len(names) == len(wanted) == len(matrices) or not _close(found.row(), gate.row()):
        return None
    return tuple(names)


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((np.abs(a - b) <= ROUNDING * max(np.abs(a).max(), np.abs(b).max())).all())


def _is_zero(flow: Flow, name: str) -> bool:
    """True for zeros and for products with zeros."""
    array = flow.const(flow.root(name))
    if array is not None:
        return not array.any()
    factors = flow.operands(name, "Mul") or ()
    return any(array is not None and not array.any() for array in map(flow.const, factors))


def _on_zero(step: Cell, sums: Sequence[Affine], xs: tuple[str, ...], made: tuple[str, str | None]) -> Cell:
    """`step` on the inputs `xs` and a state of zeros; `sums` are what is left of its pre-activations."""
    names = dict(zip(step.xs, xs, strict=True)) | {step.h: ""}
    products = frozenset().union(*(affine.products for affine in sums))

    def moved(affine: Affine) -> Affine:
        return replace(affine, matrices={names[n]: m for n, m in affine.matrices.items()}, products=products)

    recurrent = step.recurrent and moved(step.recurrent)
    gates = tuple(map(moved, step.gates))
    return replace(
        step, gates=gates, recurrent=recurrent, xs=xs, h="", c=None, next_h=made[0], next_c=made[1], candidates=()
    )


# ---- LSTM -----------------------------------------------------------------------------------------------------------


def _first_lstm(readers: Readers, step: Cell) -> Cell | None:
    """C = i g, h = o act(c)."""
    c = step.c
    if not c or any(gate.diagonals for gate in step.gates):
        return None
    for input_gate, candidate in _gated(readers.flow, c):
        i, g = readers.gates.read(input_gate, step.rows), readers.gates.read_linear(candidate, step.rows)
        for o, act, h in output_side(readers, c, step.rows) if i and g else ():
            if readers.flow.root(h) != step.h or not same_activation(act, step.activations[2]):
                continue
            xs = _lstm_inputs(readers, step, (i, o, g))
            if xs is not None:
                return _on_zero(step, [gate.affine for gate in (i, o, g) if gate], xs, (step.h, c))
    return None


def _gated(flow: Flow, c: str) -> Iterator[tuple[str, str]]:
    """(i, g) for c = i g, or c = f 0 + i g."""
    yield from ways(flow.operands(c, "Mul"))
    for zero, product in ways(flow.operands(c, "Add")):
        if _is_zero(flow, zero):
            yield from ways(flow.operands(product, "Mul"))


def _lstm_inputs(readers: Readers, step: Cell, gates: tuple[Gate | None, ...]) -> tuple[str, ...] | None:
    usual, bend, _ = step.activations
    expected = [(step.gates[0], usual), (step.gates[1], usual), (step.gates[3], bend)]
    found = {_gate_inputs(readers, step, gate, *like) for gate, like in zip(gates, expected, strict=True)}
    return found.pop() if len(found) == 1 else None


def _gate_inputs(readers: Readers, step: Cell, gate: Gate | None, affine: Affine, act: tuple) -> tuple[str, ...] | None:
    if gate is None or gate.affine.diagonals or not same_activation(gate.act, act):
        return None
    return inputs_like(readers, gate.affine, step, affine)


# ---- GRU ------------------------------------------------------------------------------------------------------------


def _first_gru(readers: Readers, step: Cell) -> Cell | None:
    """H = (1 - z) n, the reset gate on nothing but its bias."""
    for update, candidate in _updates(readers, step):
        xs = _gate_inputs(readers, step, update, step.gates[0], step.activations[0])
        n = readers.gates.read(candidate, step.rows) if xs else None
        if n is None or update is None or not same_activation(n.act, step.activations[1]):
            continue
        sums = _candidate_sums(readers, step, n.affine, xs)
        if xs is not None and sums:
            return _on_zero(step, [update.affine, *sums], xs, (step.h, None))
    return None


def _updates(readers: Readers, step: Cell) -> Iterator[tuple[Gate | None, str]]:
    """(z, n) for h = z 0 + (1 - z) n in any spelling."""
    flow, gates = readers.flow, readers.gates
    for p, flipped, h, n in blends(readers, step.h):
        z = gates.read(p, step.rows) if _is_zero(flow, h) else None
        yield (complement(z) if z and flipped else z), n
    for p, n in ways(flow.operands(step.h, "Mul")):
        rest = gates.read(p, step.rows)
        yield (complement(rest) if rest else None), n
    whole, part = flow.operands(step.h, "Sub") or ("", "")
    for p, n in ways(flow.operands(part, "Mul")) if part else ():
        if flow.root(n) == flow.root(whole):
            yield gates.read(p, step.rows), n


def _candidate_sums(readers: Readers, step: Cell, n: Affine, xs: tuple[str, ...] | None) -> list[Affine]:
    """The sums that make up n, if it is that of `step` without the state; else nothing."""
    plain = replace(n, diagonals={})
    if inputs_like(readers, plain, step, step.gates[2]) != xs:
        return []
    inner = None if step.recurrent is None else step.recurrent.row()
    if inner is None or not n.diagonals:
        return [n] if not n.diagonals and (inner is None or not inner.any()) else []
    if len(n.diagonals) != 1:
        return []
    ((name, diagonal),) = n.diagonals.items()
    r = readers.gates.read(name, step.rows)
    fits = _close(diagonal, inner) and _gate_inputs(readers, step, r, step.gates[1], step.activations[0]) == xs
    return [n, r.affine] if r and fits else []


# ---- RNN ------------------------------------------------------------------------------------------------------------


def _first_rnn(readers: Readers, step: Cell) -> Cell | None:
    """The step before: it may also start from a state that is not zero, which its weights tell."""
    gate = readers.gates.read(step.h, step.rows)
    if gate is None or gate.affine.diagonals or not same_activation(gate.act, step.activations[0]):
        return None
    xs = inputs_like(readers, gate.affine, step, step.gates[0])
    if xs is not None:
        return _on_zero(step, [gate.affine], xs, (step.h, None))
    sources = inputs_like(readers, gate.affine, step, step.gates[0], (*step.xs, step.h))
    if sources is None:
        return None
    return replace(step, gates=(gate.affine,), xs=sources[:-1], h=sources[-1], next_h=step.h, next_c=None)
