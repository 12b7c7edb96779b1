"""Finds steps of a plain RNN: h' = act(x W + h R + b).

Any dense layer of two values looks like that, so that it takes more than the sum to be sure: a loop that carries h' on
as h, the step before with the same weights, or an input of the graph that an output may replace.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from gateinfer.graph.ir import Graph, Node
from gateinfer.graph.recognise.cell import Cell
from gateinfer.graph.recognise.first import inputs_like
from gateinfer.graph.recognise.gate import Gate, activation_of, same_activation
from gateinfer.graph.recognise.readers import Readers


def match_rnn(readers: Readers, node: Node) -> Cell | None:
    """The step whose h' is the activation that `node` computes."""
    total = node.outputs[0]
    if activation_of(node) is None:
        return None
    for rows, hidden in readers.layouts(total):
        gate = readers.gates.read(total, rows)
        if gate is None or gate.affine.diagonals or len(gate.affine.matrices) < 2:
            continue
        for h in gate.affine.matrices:
            if readers.width(h, rows) == hidden and _is_previous(readers, gate, h, total, rows):
                return rnn_step(gate, h, total, rows)
    return None


def lone_steps(readers: Readers, graph: Graph, made: Collection[str]) -> Iterator[Cell]:
    """Steps from an input to an output of a main graph. They may be no steps at all: these cells are open."""
    inputs = {port.name for port in graph.inputs}
    for total in dict.fromkeys(readers.flow.root(port.name) for port in graph.outputs):
        node = readers.flow.node(total)
        if total not in made and node is not None and activation_of(node) is not None:
            found = (_lone_step(readers, inputs, total, rows) for rows, _ in readers.layouts(total))
            yield from list(filter(None, found))[:1]


def _lone_step(readers: Readers, inputs: Collection[str], total: str, rows: int) -> Cell | None:
    gate = readers.gates.read(total, rows)
    if gate is None or gate.affine.diagonals or len(gate.affine.matrices) < 2:
        return None
    size = readers.flow.size(total)
    fitting = [h for h in gate.affine.matrices if h in inputs and readers.flow.size(h) == size]
    # What else needs h, or a part of its product, makes it a gate rather than a step.
    alone = len(fitting) == 1 and len(readers.flow.users.get(fitting[0], ())) == 1
    if not alone or any(readers.flow.size(product) != size for product in gate.affine.products):
        return None
    return replace(rnn_step(gate, fitting[0], total, rows), candidates=(fitting[0],))


def rnn_step(gate: Gate, h: str, total: str, rows: int) -> Cell:
    """`total`, the activation of `gate`, as the step that follows `h`."""
    xs = tuple(name for name in gate.affine.matrices if name != h)
    return Cell("RNN", rows, gate.affine.columns, (gate.affine,), (gate.act,), xs, h, None, total, None)


def _is_previous(readers: Readers, gate: Gate, h: str, total: str, rows: int) -> bool:
    if h in readers.carried:
        return readers.flow.root(readers.carried[h]) == total
    before = readers.gates.read(h, rows)
    if before is None or before.affine.diagonals or not same_activation(before.act, gate.act):
        return False
    step = rnn_step(gate, h, total, rows)
    return inputs_like(readers, before.affine, step, gate.affine) is not None or (
        inputs_like(readers, before.affine, step, gate.affine, (*step.xs, h)) is not None
    )
