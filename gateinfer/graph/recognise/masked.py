"""Loops that step one cell and keep its state where a mask is false: a layer over the steps that count.

A step that is masked changes nothing, so that the others can be moved together, run as one layer over as many steps as
there are, and be looked up again. All of that is moving rows: the figures are those of the loop, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gateinfer.graph.ir import RECURRENT, Graph, Node, TensorType
from gateinfer.graph.recognise.flow import F32, Flow, ways

X, LENS, H0, C0 = 0, 4, 5, 6
Y_H = 1

MAX_ROWS = 3
"""Rows of different lengths run one by one; from four on, all together in a loop are faster."""

NEEDED_OPSET = 11
"""Of CumSum."""

ZERO = -1
"""Stands for zeros among the carried values."""
NOWHERE = -2


@dataclass(slots=True)
class _Masked:
    """A loop body that is one masked cell. Carried and scanned values by their places among those of the loop.

    Attributes
    ----------
    mask, x : scanned values
    kept : the mask is true where the state is kept
    carried : by carried value the result of the cell that replaces it (1: h, 2: c)
    state : by result of the cell the carried value it starts from
    stacked : by stacked output the carried value it shows where the mask keeps it, or ZERO
    """

    cell: Node
    mask: int
    x: int
    kept: bool
    carried: list[int]
    state: dict[int, int]
    stacked: list[int]


def with_layers(graph: Graph) -> Graph:
    """`graph`, with recognised cells, with a layer for every loop that is a masked cell and has few rows."""
    result = replace(graph, nodes=[], constants=dict(graph.constants), types=dict(graph.types))
    for node in graph.nodes:
        found = _read(graph, node)
        result.nodes += [node] if found is None else _Writer(result, node, found).nodes
    return result


# ---- what the body is -----------------------------------------------------------------------------------------------


def _read(graph: Graph, loop: Node) -> _Masked | None:
    body = loop.attrs.get("body")
    is_closed = loop.op in ("Loop", "Scan") and loop.attrs.get("trips", -1) > 1 and not any(loop.inputs[:2])
    if not is_closed or not isinstance(body, Graph) or graph.opset < NEEDED_OPSET:
        return None
    cells = [node for node in body.nodes if node.op in RECURRENT]
    if len(cells) != 1 or cells[0].origin is None or cells[0].input(LENS):
        return None
    return _Reader(Flow(body, (graph,)), loop, body, cells[0]).read()


Choice = tuple[str, bool, str, str]
"""(mask, kept, new, old): `new` where the mask is not `kept`, else `old`."""


class _Reader:
    def __init__(self, flow: Flow, loop: Node, body: Graph, cell: Node) -> None:
        self.flow = flow
        self.cell = cell
        self.rows = (flow.shape(cell.input(X)) or (0, 0))[1]
        count = len(body.inputs) - 1 - loop.attrs["scanned"]
        names = [port.name for port in body.inputs[1:]]
        self.before, self.scanned = names[:count], names[count:]
        outputs = [port.name for port in body.outputs]
        self.after, self.stacks = outputs[:count], outputs[count:]

    def read(self) -> _Masked | None:
        carried, shown = self._choices(self.after), self._choices(self.stacks)
        masks = {choice[:2] for choice in (*carried, *shown)}
        x = self.flow.root(self.cell.input(X))
        all_chosen = len(carried) == len(self.after) and len(shown) == len(self.stacks)
        if len(masks) != 1 or not all_chosen or x not in self.scanned or not 0 < self.rows <= MAX_ROWS:
            return None
        ((mask, kept),) = masks
        made = [self.cell.outputs.index(new) for _, _, new, _ in carried]
        state = {at - H0 + 1: self._place(self.cell.input(at)) for at in (H0, C0) if self.cell.input(at)}
        stacked = [self._place(old) for _, _, _, old in shown]
        fits = all(choice[3] == before for choice, before in zip(carried, self.before, strict=True))
        fits = fits and all(place >= 0 and made[place] == which for which, place in state.items())
        fits = fits and all(self.cell.outputs.index(new) == 1 for _, _, new, _ in shown)
        fits = fits and all(place == ZERO or (place >= 0 and made[place] == 1) for place in stacked)
        if not fits or not self._is_mask(mask):
            return None
        return _Masked(self.cell, self.scanned.index(mask), self.scanned.index(x), kept, made, state, stacked)

    def _is_mask(self, name: str) -> bool:
        """A scanned bool per row."""
        found = self.flow.type(name)
        is_bool = found is not None and found.dtype == np.dtype(bool)
        return is_bool and name in self.scanned and self._is_column(name)

    def _is_column(self, name: str) -> bool:
        """[N, 1]: what is the same along a row."""
        shape = self.flow.shape(name) or ()
        return shape[-2:] == (self.rows, 1) and self.flow.size(name) == self.rows

    def _place(self, name: str) -> int:
        """Which carried value `name` was before the turn, or ZERO, or NOWHERE."""
        root = self.flow.root(name)
        if root in self.before:
            return self.before.index(root)
        old = self.flow.const(root)
        return ZERO if old is not None and not old.any() else NOWHERE

    def _choices(self, names: Sequence[str]) -> list[Choice]:
        return [choice for choice in map(self._choice, names) if choice is not None]

    # ---- new where the mask says so, else old ----

    def _choice(self, name: str) -> Choice | None:
        node = self.flow.node(name)
        if node is None or node.domain:
            return None
        if node.op == "Where" and self._is_column(node.inputs[0]):
            mask, kept = self._bool(node.inputs[0])
            return self._ordered(mask, kept, node.inputs[1], node.inputs[2])
        for a, b in ways(self.flow.operands(name, "Add")):
            first, second = self._factor(a), self._factor(b)
            if first and second and first[0] == second[0] and first[1] != second[1]:
                return self._ordered(first[0], first[1], first[2], second[2])
        return None

    def _ordered(self, mask: str, kept: bool, yes: str, no: str) -> Choice | None:
        """`yes` where the mask, turned around if `kept`, is true."""
        yes, no = self.flow.root(yes), self.flow.root(no)
        if yes in self.cell.outputs:
            return mask, kept, yes, no
        return (mask, not kept, no, yes) if no in self.cell.outputs else None

    def _bool(self, name: str) -> tuple[str, bool]:
        """(mask, turned around) of a chain of Not nodes."""
        kept = False
        while (node := self.flow.node(name)) is not None and node.op == "Not" and not node.domain:
            name, kept = node.inputs[0], not kept
        return self.flow.root(name), kept

    def _factor(self, name: str) -> tuple[str, bool, str] | None:
        """(mask, turned around, value) of a mask as 0 or 1 times a value."""
        node = self.flow.node(name)
        if node is None or node.op != "Mul" or node.domain:
            return None
        size = self.flow.size(name)
        for factor, value in ways((node.inputs[0], node.inputs[1])):
            cast = self.flow.node(factor)
            is_cast = cast is not None and cast.op == "Cast" and not cast.domain and self._is_column(factor)
            if cast is not None and is_cast and self.flow.size(value) == size:
                return (*self._bool(cast.inputs[0]), value)
        return None


# ---- the layer ------------------------------------------------------------------------------------------------------


class _Writer:
    """Writes what takes the place of one loop into `graph`: `nodes`, with their constants and types."""

    def __init__(self, graph: Graph, loop: Node, found: _Masked) -> None:
        self.graph = graph
        self.loop = loop
        self.found = found
        self.nodes: list[Node] = []
        self.prefix = f"{found.cell.name}~masked"
        self.steps = int(loop.attrs["trips"])
        self.rows = graph.types[found.cell.inputs[X]].extents[1]
        self.hidden = int(found.cell.attrs["hidden_size"])
        count = len(found.carried)
        self.initial, self.scanned = loop.inputs[2 : 2 + count], loop.inputs[2 + count :]
        self._write()

    def _write(self) -> None:
        steps, rows, hidden = self.steps, self.rows, self.hidden
        mask = self._reshape(self.scanned[self.found.mask], (steps, rows))
        mask = self._emit("Not", [mask], (steps, rows), bool) if self.found.kept else mask
        ones = self._emit("Cast", [mask], (steps, rows), "i8", to=7)
        self.seen = self._emit("CumSum", [ones, self._const(0)], (steps, rows), "i8")
        place = self._emit("Sub", [self.seen, self._const(1)], (steps, rows), "i8")
        y, finals = self._layer(self._moved(mask, place))
        first = self._emit("Max", [place, self._const(0)], (steps, rows), "i8")
        y = self._reshape(y, ((steps + 1) * rows, hidden))
        back = self._emit("Gather", [y, self._numbered(first, (steps * rows,))], (steps * rows, hidden), axis=0)
        self.back = self._reshape(back, (steps, rows, hidden))
        any_seen = self._column(self._emit("Greater", [self.seen, self._const(0)], (steps, rows), bool), steps)
        self._stacks(self._column(mask, steps), any_seen)
        self._finals(any_seen, finals)

    def _moved(self, mask: str, place: str) -> str:
        """[T + 1, N, I]: the steps that count in front, all others on top of each other at the end."""
        source = self.scanned[self.found.x]
        width = self.graph.types[source].size // (self.steps * self.rows)
        target = self._emit("Where", [mask, place, self._const(self.steps)], (self.steps, self.rows), "i8")
        flat = self._reshape(source, (self.steps * self.rows, width))
        whole = self._const(np.zeros(((self.steps + 1) * self.rows, width), F32))
        index = self._numbered(target, (self.steps * self.rows, 1))
        moved = self._emit("ScatterND", [whole, index, flat], ((self.steps + 1) * self.rows, width))
        return self._reshape(moved, (self.steps + 1, self.rows, width))

    def _numbered(self, step: str, shape: tuple[int, ...]) -> str:
        """Numbers of rows among those of all steps."""
        scaled = self._emit("Mul", [step, self._const(self.rows)], (self.steps, self.rows), "i8")
        number = self._emit("Add", [scaled, self._const(np.arange(self.rows))], (self.steps, self.rows), "i8")
        return self._reshape(number, shape)

    def _layer(self, x: str) -> tuple[str, list[str]]:
        """Y and the final states of the cell over the steps that count."""
        cell, state = self.found.cell, (1, self.rows, self.hidden)
        last = self._emit("Gather", [self.seen, self._const(self.steps - 1)], (self.rows,), "i8", axis=0)
        inputs = list(cell.inputs)
        inputs[X], inputs[LENS] = x, self._emit("Cast", [last], (self.rows,), "i4", to=6)
        for which, place in self.found.state.items():
            inputs[H0 + which - 1] = self._reshape(self.initial[place], state)
        y = self._name("y", (self.steps + 1, *state), F32)
        finals = [self._name(f"last{which}", state, F32) for which in range(1, len(cell.outputs))]
        self.nodes.append(replace(cell, inputs=tuple(inputs), outputs=(y, *finals)))
        return y, finals

    def _column(self, name: str, steps: int) -> str:
        return self._reshape(name, (steps, self.rows, 1))

    def _stacks(self, mask: str, any_seen: str) -> None:
        shape = (self.steps, self.rows, self.hidden)
        for name, place in zip(self.loop.outputs[len(self.found.carried) :], self.found.stacked, strict=True):
            old = self._const(np.zeros((1, 1, 1), F32)) if place == ZERO else self._start(place)
            chosen = self._emit("Where", [mask if place == ZERO else any_seen, self.back, old], shape)
            self._reshape(chosen, self.graph.types[name].extents, name)

    def _finals(self, any_seen: str, finals: Sequence[str]) -> None:
        """A row without any step that counts keeps what it started from."""
        shape = (1, self.rows, self.hidden)
        last = self._emit(
            "Gather", [any_seen, self._const(np.array([self.steps - 1]))], (1, self.rows, 1), bool, axis=0
        )
        for i, name in enumerate(self.loop.outputs[: len(self.found.carried)]):
            if name:
                chosen = self._emit("Where", [last, finals[self.found.carried[i] - 1], self._start(i)], shape)
                self._reshape(chosen, self.graph.types[name].extents, name)

    def _start(self, place: int) -> str:
        return self._reshape(self.initial[place], (1, self.rows, self.hidden))

    # ---- nodes ----

    def _name(self, what: str, shape: tuple[int, ...], dtype: object) -> str:
        name = f"{self.prefix}~{what}"
        self.graph.types[name] = TensorType(np.dtype(dtype), shape)  # type: ignore[call-overload]  # any type
        return name

    def _emit(
        self,
        op: str,
        inputs: Sequence[str],
        shape: tuple[int, ...],
        dtype: object = F32,
        name: str = "",
        **attrs: object,
    ) -> str:
        name = name or self._name(f"{op}{len(self.nodes)}", shape, dtype)
        self.nodes.append(Node(op, tuple(inputs), (name,), attrs))
        return name

    def _reshape(self, source: str, shape: tuple[int, ...], name: str = "") -> str:
        return self._emit(
            "Reshape", [source, self._const(np.array(shape))], shape, self.graph.types[source].dtype, name
        )

    def _const(self, value: int | np.ndarray) -> str:
        array = np.asarray(value)
        name = self._name(f"constant{len(self.graph.constants)}", array.shape, array.dtype)
        self.graph.constants[name] = array
        return name
