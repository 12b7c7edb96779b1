"""Reads a value back as products of other values with constant matrices, however these are cut, joined and added up."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from gateinfer.graph.ir import Node
from gateinfer.graph.recognise.flow import F32, MOVES, Flow, ways
from gateinfer.graph.recognise.pushed import Pushed

MAX_DEPTH: Final = 64
"""Nodes between a gate and its products."""
MAX_PARTS: Final = 64
"""Values that one operand is joined from."""
MAX_COLUMNS: Final = 2**17
"""Columns of a value that is cut into gates."""
MAX_SCALED: Final = 2**26
"""Elements of weights multiplied by numbers, in one graph."""

Columns = slice | np.ndarray


@dataclass(slots=True)
class Affine:
    """value [N, n] = sum of source [N, K] @ matrix [K, n] + sum of source [N, n] * diagonal [n] + sum of rows [n].

    Attributes
    ----------
    columns : n
    matrices, diagonals : by the root of the source
    rows : constants to add
    products : outputs of the nodes that compute the products
    """

    columns: int
    matrices: dict[str, np.ndarray] = field(default_factory=dict)
    diagonals: dict[str, np.ndarray] = field(default_factory=dict)
    rows: list[np.ndarray] = field(default_factory=list)
    products: frozenset[str] = frozenset()

    def plus(self, other: Affine) -> Affine:
        """The sum."""
        return Affine(
            self.columns,
            _merged(self.matrices, other.matrices),
            _merged(self.diagonals, other.diagonals),
            self.rows + other.rows,
            self.products | other.products,
        )

    def times(self, factor: float | np.ndarray) -> Affine:
        """Every column times a number."""
        if np.ndim(factor) == 0 and factor == 1.0:
            return self
        return Affine(
            self.columns,
            {name: _times(matrix, factor) for name, matrix in self.matrices.items()},
            {name: _times(diagonal, factor) for name, diagonal in self.diagonals.items()},
            [_times(row, factor) for row in self.rows],
            self.products,
        )

    def select(self, columns: Columns) -> Affine | None:
        """Some columns; None when a source would have to be cut as well."""
        if self.diagonals:
            return None
        matrices = {name: matrix[:, columns] for name, matrix in self.matrices.items()}
        rows = [row[columns] for row in self.rows]
        count = len(range(*columns.indices(self.columns))) if isinstance(columns, slice) else len(columns)
        return Affine(count, matrices, {}, rows, self.products)

    def row(self) -> np.ndarray:
        """All rows added up, float32 [n]."""
        total = np.zeros(self.columns)
        for row in self.rows:
            total += row
        return total.astype(F32)


def same_matrix(a: np.ndarray, b: np.ndarray) -> bool:
    """True for equal figures, at once when both are the same memory."""
    if a.shape != b.shape:
        return False
    return (a.strides == b.strides and a.ctypes.data == b.ctypes.data) or np.array_equal(a, b)


def _times(array: np.ndarray, factor: float | np.ndarray) -> np.ndarray:
    return (array * np.asarray(factor, np.float64)).astype(F32)


def _merged(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return a | {name: a[name] + array if name in a else array for name, array in b.items()}


class AffineReader:
    """`read` for the values of one flow, remembered."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.pushed = Pushed(flow)
        self._known: dict[tuple[str, int], Affine] = {}
        self._depth = 0
        self._scaled_elements = 0
        self._handlers: dict[str, Callable[[Node, str, int], Affine | None]] = {
            "MatMul": self._matmul,
            "Gemm": self._gemm,
            "Add": self._add,
            "Sub": self._sub,
            "Neg": self._neg,
            "Mul": self._mul,
            "Div": self._div,
        }
        self._handlers |= dict.fromkeys(MOVES, self._view)

    def read(self, name: str, rows: int) -> Affine:
        """`name` as [rows, n]. A value that is no such sum is itself the source, times ones."""
        root = self.flow.root(name)
        key = (root, rows)
        if key not in self._known:
            if self._depth >= MAX_DEPTH:
                return self._leaf(root, rows)
            self._known[key] = self._read(root, rows)
        return self._known[key]

    def _read(self, root: str, rows: int) -> Affine:
        node = self.flow.node(root)
        found = None
        if node is not None and not node.domain and self.flow.is_float(root):
            handler = self._handlers.get(node.op)
            self._depth += 1
            found = handler(node, root, rows) if handler else None
            self._depth -= 1
        return found or self._leaf(root, rows)

    def _leaf(self, root: str, rows: int) -> Affine:
        columns = self.flow.size(root) // max(1, rows)
        return Affine(columns, diagonals={root: np.broadcast_to(np.ones((), F32), (columns,))})

    # ---- products ---------------------------------------------------------------------------------------------------

    def _matmul(self, node: Node, root: str, rows: int) -> Affine | None:
        left, right = (self.flow.const(name) for name in node.inputs)
        if right is not None:
            matrix = _matrix(right if right.ndim > 1 else right[:, None])
            return None if matrix is None else self._product(node, node.inputs[0], matrix, rows)
        if left is not None and rows == 1 and self._is_column(node.inputs[1]):
            matrix = _matrix(left if left.ndim > 1 else left[None])
            return None if matrix is None else self._product(node, node.inputs[1], matrix.T, rows)
        return None

    def _is_column(self, name: str) -> bool:
        shape = self.flow.shape(name)
        return shape is not None and (len(shape) == 1 or math.prod(shape) == shape[-2])

    def _gemm(self, node: Node, root: str, rows: int) -> Affine | None:
        a, b = (self.flow.const(name) for name in node.inputs[:2])
        flip_a, flip_b = bool(node.attrs.get("transA", 0)), bool(node.attrs.get("transB", 0))
        found = None
        if b is not None and (not flip_a or rows == 1):
            found = self._product(node, node.inputs[0], b.T if flip_b else b, rows)
        elif a is not None and rows == 1:
            found = self._product(node, node.inputs[1], a if flip_a else a.T, rows)
        found = self._times(found, float(node.attrs.get("alpha", 1.0)))
        if found is None or not node.input(2):
            return found
        addend = self._times(self._addend(node.input(2), root, rows), float(node.attrs.get("beta", 1.0)))
        return None if addend is None else found.plus(addend)

    def _product(self, node: Node, operand: str, matrix: np.ndarray, rows: int) -> Affine | None:
        """Operand [rows, K] @ matrix [K, n], a joined operand as its parts."""
        inner, columns = matrix.shape
        output = node.outputs[0]
        fits = self.flow.size(operand) == rows * inner and self.flow.size(output) == rows * columns
        if not fits or not self.flow.is_float(operand) or not inner or not columns:
            return None
        found = Affine(columns, products=frozenset([output]))
        start = 0
        for part, width in self.parts(operand, rows):
            found = found.plus(Affine(columns, {part: matrix[start : start + width]}))
            start += width
        return found

    def parts(self, operand: str, rows: int) -> list[tuple[str, int]]:
        """(root, K) of the values that `operand` [rows, K] is joined from, side by side."""
        whole = self.flow.root(operand)
        names, at = [whole], 0
        while at < len(names):
            joined = self._joined(names[at], rows)
            if not joined:
                at += 1
                continue
            names[at : at + 1] = joined
            if len(names) > MAX_PARTS:
                names = [whole]
                break
        self.pushed.joined[tuple(names)] = whole
        return [(name, self.flow.size(name) // rows) for name in names]

    def _joined(self, root: str, rows: int) -> list[str]:
        """The roots of what a Concat puts side by side; nothing for other values."""
        node, shape = self.flow.node(root), self.flow.shape(root)
        if node is None or node.op != "Concat" or node.domain or not shape:
            return []
        axis = int(node.attrs.get("axis", 1)) % len(shape)
        fits = math.prod(shape[:axis]) == rows
        return [self.flow.root(name) for name in node.inputs if self.flow.size(name)] if fits else []

    # ---- sums -------------------------------------------------------------------------------------------------------

    def _addend(self, name: str, root: str, rows: int) -> Affine | None:
        """An operand of an element-wise node that computes `root`; None when it is stretched along the rows."""
        array = self.flow.const(name)
        if array is None:
            return self.read(name, rows) if self.flow.size(name) == self.flow.size(root) else None
        row = self.constant_row(array, root, rows)
        return None if row is None else Affine(len(row), rows=[row])

    def constant_row(self, array: np.ndarray, root: str, rows: int) -> np.ndarray | None:
        """A constant stretched to `root` [rows, n], if it is the same in all rows: float [n]."""
        shape = self.flow.shape(root) or ()
        columns = math.prod(shape) // rows
        if array.size == 1:
            return np.broadcast_to(array.reshape(()), (columns,))
        if array.size == columns and (rows == 1 or array.shape[-1] == shape[-1] == columns):
            return array.reshape(columns)  # keeps the memory of the constant, by which weights are told apart
        if rows * columns > MAX_SCALED:
            return None
        full = np.broadcast_to(array, shape).reshape(rows, columns)
        return full[0] if (full == full[0]).all() else None

    def _times(self, affine: Affine | None, factor: float | np.ndarray) -> Affine | None:
        """The product, as long as there are not too many."""
        if affine is None or (np.ndim(factor) == 0 and factor == 1.0):
            return affine
        self._scaled_elements += sum(matrix.size for matrix in affine.matrices.values())
        return affine.times(factor) if self._scaled_elements <= MAX_SCALED else None

    def _sum(self, node: Node, root: str, rows: int, sign: float) -> Affine | None:
        if len(node.inputs) != 2:
            return None
        a, b = (self._addend(name, root, rows) for name in node.inputs)
        if a is None or b is None:
            return None
        # The sum of two values that are no products is a source like any other.
        if a.diagonals and b.diagonals and not (a.matrices or b.matrices):
            return None
        b = self._times(b, sign)
        return None if b is None else a.plus(b)

    def _add(self, node: Node, root: str, rows: int) -> Affine | None:
        return self._sum(node, root, rows, 1.0)

    def _sub(self, node: Node, root: str, rows: int) -> Affine | None:
        return self._sum(node, root, rows, -1.0)

    def _neg(self, node: Node, root: str, rows: int) -> Affine | None:
        return self._times(self.read(node.inputs[0], rows), -1.0)

    def _mul(self, node: Node, root: str, rows: int) -> Affine | None:
        for value, factor in ways((node.inputs[0], node.inputs[1])):
            array = self.flow.const(factor)
            if array is not None:
                return self._scaled(value, array, root, rows)
        return None

    def _div(self, node: Node, root: str, rows: int) -> Affine | None:
        array = self.flow.const(node.inputs[1])
        if array is None or not array.all():
            return None
        return self._scaled(node.inputs[0], 1.0 / array.astype(np.float64), root, rows)

    def _scaled(self, value: str, factor: np.ndarray, root: str, rows: int) -> Affine | None:
        row = self.constant_row(factor, root, rows)
        if row is None or self.flow.size(value) != self.flow.size(root):
            return None
        return self._times(self.read(value, rows), row)

    # ---- parts ------------------------------------------------------------------------------------------------------

    def _view(self, node: Node, root: str, rows: int) -> Affine | None:
        return self._by_columns(node, root, rows) or self._by_rows(node, root, rows)

    def _by_columns(self, node: Node, root: str, rows: int) -> Affine | None:
        """The view takes columns of a sum."""
        columns = self.columns(node, root, rows)
        if columns is None:
            return None
        source, columns = self._inside_joined(node.inputs[0], columns, rows)
        found = self.read(source, rows)
        return found.select(columns) if found.matrices else None

    def _inside_joined(self, source: str, columns: Columns, rows: int) -> tuple[str, Columns]:
        """The part of a joined value that a range of columns lies in."""
        start = 0
        for part, width in self.parts(source, rows) if isinstance(columns, slice) else ():
            if start <= columns.start and columns.stop <= start + width:  # type: ignore[union-attr]  # a slice
                return part, slice(columns.start - start, columns.stop - start)  # type: ignore[union-attr]
            start += width
        return source, columns

    def columns(self, node: Node, root: str, rows: int) -> Columns | None:
        """Which columns of its input [rows, n] a view takes; None when it mixes or drops rows."""
        shape = self.flow.shape(node.inputs[0])
        lead = None if shape is None else leading_axes(shape, rows)
        if shape is None or lead is None or math.prod(shape[lead:]) > MAX_COLUMNS:
            return None
        taken = self._take(node, root, np.arange(math.prod(shape[lead:])).reshape(shape[lead:]), lead, len(shape))
        return None if taken is None else _as_range(taken.ravel())

    def _take(self, node: Node, root: str, index: np.ndarray, lead: int, rank: int) -> np.ndarray | None:
        """What the view makes of `index`, whose axes are those of its input from `lead` on."""
        if node.op == "Transpose":
            perm = self.flow.perm(node, rank)
            return index.transpose([p - lead for p in perm[lead:]]) if perm[:lead] == list(range(lead)) else None
        if node.op == "Gather":
            axis, chosen = int(node.attrs.get("axis", 0)) % rank, self.flow.const(node.inputs[1])
            return None if axis < lead or chosen is None else np.take(index, chosen, axis=axis - lead)
        ranges = self.flow.slices(node) if node.op == "Slice" else [self.flow.split_range(node, _index(node, root))]
        for part in ranges or [None]:
            if part is None or part[0] < lead:
                return None
            index = index[(slice(None),) * (part[0] - lead) + (part[1],)]
        return index

    def _by_rows(self, node: Node, root: str, rows: int) -> Affine | None:
        """The view takes rows of a sum, as a step does of a product over all steps: it moves to the sources."""
        shape = self.flow.shape(node.inputs[0])
        columns = self.flow.size(root) // rows
        if shape is None or not columns:
            return None
        for lead in range(len(shape), 0, -1):
            if math.prod(shape[lead:]) == columns:
                all_rows = math.prod(shape[:lead])
                break
        else:
            return None
        found = self.read(node.inputs[0], all_rows) if all_rows > rows else None
        if found is None or not found.matrices or found.diagonals:
            return None
        moved = {self.pushed.push(node, root, name, shape[:lead]): m for name, m in found.matrices.items()}
        if None in moved:
            return None
        return Affine(columns, {name: m for name, m in moved.items() if name}, {}, found.rows, found.products)


def _matrix(array: np.ndarray) -> np.ndarray | None:
    """A constant as a matrix, axes of extent 1 in front dropped."""
    return array.reshape(array.shape[-2:]) if math.prod(array.shape[:-2]) == 1 else None


def leading_axes(shape: Iterable[int], rows: int) -> int | None:
    """How many axes make up the rows: the fewest in front with `rows` elements."""
    count = 1
    for axis, extent in enumerate((*shape, 0)):
        if count == rows:
            return axis
        count *= extent
    return None


def _index(node: Node, root: str) -> int:
    return node.outputs.index(root)


def _as_range(columns: np.ndarray) -> Columns:
    if columns.size and (np.diff(columns) == 1).all():
        return slice(int(columns[0]), int(columns[-1]) + 1)
    return columns
