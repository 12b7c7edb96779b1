"""W, R, B and P of recognised cells, made once for all cells and all graphs of a model that have the same."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from gateinfer.graph.recognise.affine import Affine
    from gateinfer.graph.recognise.cell import Cell


class CellWeights(NamedTuple):
    """Constants of one node in ONNX layout, by name. `p` is None without peepholes."""

    name: str
    w: np.ndarray
    r: np.ndarray
    b: np.ndarray
    p: np.ndarray | None

    def constants(self) -> dict[str, np.ndarray]:
        """Name to array."""
        arrays = {"W": self.w, "R": self.r, "B": self.b, "P": self.p}
        return {f"{self.name}~{what}": array for what, array in arrays.items() if array is not None}

    def same(self, other: CellWeights) -> bool:
        """True when all figures are equal."""
        pairs = ((self.w, other.w), (self.r, other.r), (self.b, other.b), (self.p, other.p))
        return all(a is b or (a is not None and b is not None and np.array_equal(a, b)) for a, b in pairs)


class WeightStore:
    """Remembers by the memory of the constants a cell is made of, else by its figures.

    Both ways cells that share weights get the same arrays under the same names, so that they are packed once.
    """

    def __init__(self) -> None:
        self._by_memory: dict[Hashable, tuple[CellWeights, list[np.ndarray]]] = {}
        self._all: list[CellWeights] = []

    def get(self, cell: Cell) -> CellWeights:
        """The weights of `cell`."""
        parts = list(_parts(cell))
        key = (cell.kind, *map(_memory, parts))
        if key not in self._by_memory:
            made = _make(cell)
            for known in self._all:
                if known.same(made):
                    return known
            # The parts are kept: their memory must not be given to other constants.
            self._by_memory[key] = made, parts
            self._all.append(made)
        return self._by_memory[key][0]


def _parts(cell: Cell) -> Iterable[np.ndarray]:
    for affine in (*cell.gates, *((cell.recurrent,) if cell.recurrent else ())):
        yield from (affine.matrices[name] for name in (*cell.xs, cell.h) if name in affine.matrices)
        yield from affine.diagonals.values()
        yield from affine.rows


def _memory(array: np.ndarray) -> Hashable:
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str


def _make(cell: Cell) -> CellWeights:
    gates = cell.gates
    w = [np.concatenate([gate.matrices[x] for x in cell.xs]).T for gate in gates]
    r = [gate.matrices[cell.h].T for gate in gates]
    wb = [gate.row() for gate in gates]
    rb = [np.zeros(cell.hidden, np.float32) for _ in gates]
    if cell.recurrent is not None:
        rb[-1] = cell.recurrent.row()
    return CellWeights(cell.next_h, _stacked(w), _stacked(r), _stacked([*wb, *rb]), _peepholes(gates))


def _stacked(blocks: list[np.ndarray]) -> np.ndarray:
    """[1, G H, ...]."""
    return np.ascontiguousarray(np.concatenate(blocks)[None], dtype=np.float32)


def _peepholes(gates: tuple[Affine, ...]) -> np.ndarray | None:
    """[1, 3 H] in the order i o f; None when there are none."""
    if not any(gate.diagonals for gate in gates):
        return None
    zero = np.zeros(gates[0].columns, np.float32)
    return _stacked([next(iter(gate.diagonals.values()), zero) for gate in gates[:3]])
