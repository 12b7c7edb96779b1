"""The operators of sequences, on what their lists are made of."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gateinfer.errors import ModelError, ShapeError, UnsupportedOp
from gateinfer.graph.ir import Node
from gateinfer.graph.sequences.pieces import MAX_MEMBERS, Maker, Member, Part, Pieces, Run

if TYPE_CHECKING:
    from gateinfer.graph.rewriter import Rewriter

Result = Pieces | str | None
"""A list, the name of a tensor, or None for what cannot be told yet."""


def resolve(rewriter: Rewriter, node: Node, nodes: list[Node]) -> Result:
    """What the output of a sequence operator is, with the nodes it takes added to `nodes`.

    Raises
    ------
    ShapeError
        A position that does not exist, parts that do not add up, or an empty list where there must be members.
    ModelError
        Inputs or attributes of the wrong kind.
    """
    least, function = _OPERATORS[node.op]
    if len(node.inputs) < least or not all(node.inputs[:least]) or len(node.outputs) != 1:
        raise ModelError(f"{node.label()}: expected at least {least} inputs and one output")
    return function(_Fold(rewriter, node, nodes))


class _Fold:
    """One node with what is known of its inputs."""

    def __init__(self, rewriter: Rewriter, node: Node, nodes: list[Node]) -> None:
        self.rewriter = rewriter
        self.node = node
        self.maker = Maker(rewriter, nodes, node.label(), node.name)

    def pieces(self) -> Pieces | None:
        """Of the list that is input 0."""
        name = self.node.input(0)
        if name in self.rewriter.types and name not in self.rewriter.opaque:
            raise ModelError(f'{self.node.label()}: input "{name}" must be a sequence, it is a tensor')
        pieces = self.rewriter.sequences.get(name)
        self.rewriter.raise_failures(piece.source for piece in pieces or ())
        return pieces

    def tensor(self, index: int) -> str:
        """The name of input `index`."""
        name = self.node.input(index)
        if not name or name in self.rewriter.sequences or name in self.rewriter.opaque:
            raise ModelError(f'{self.node.label()}: input {index} ("{name}") must be a tensor')
        return name

    def integer_attr(self, name: str, default: int | None = None) -> int:
        value: Any = self.node.attrs.get(name, default)
        if not isinstance(value, int):
            raise ModelError(f"{self.node.label()}: attribute {name} must be an integer, got {value!r}")
        return value

    def value(self, index: int) -> np.ndarray | None:
        """The constant that input `index` is, whole numbers in 64 bit."""
        value = self.rewriter.values.get(self.node.input(index))
        if value is not None and value.dtype.kind not in "iu":
            raise ModelError(f"{self.node.label()}: input {index} must be whole numbers, got {value.dtype}")
        return None if value is None else value.astype(np.int64)

    def position(self, index: int) -> int | None:
        value = self.value(index)
        if value is not None and value.size != 1:
            raise ShapeError(f"{self.node.label()}: the position must be one number, got {list(value.shape)}")
        return None if value is None else int(value.item())

    def counted(self, position: int, count: int) -> int:
        """`position` counted from the front."""
        if not -count <= position < count:
            raise ShapeError(f"{self.node.label()}: position {position} does not exist among {count} members")
        return position % count


# ---- lists ----------------------------------------------------------------------------------------------------------


def _split(fold: _Fold) -> Result:
    source, axis = fold.tensor(0), fold.integer_attr("axis", 0)
    found = fold.rewriter.types.get(source)
    extent = None
    if found is not None and found.is_static:
        rank = len(found.extents)
        if not -rank <= axis < rank:
            raise ShapeError(f"{fold.node.label()}: axis {axis} does not exist in an operand of rank {rank}")
        axis %= rank
        extent = found.extents[axis]
    drops = not fold.integer_attr("keepdims", 1)
    if not fold.node.input(1):
        return (Run(source, axis, drops=drops),)
    sizes = fold.value(1)
    if sizes is None or sizes.size > MAX_MEMBERS or (sizes.ndim and extent is None):
        return None
    if sizes.ndim == 0:
        if sizes < 1:
            raise ShapeError(f"{fold.node.label()}: a part must have elements, got {int(sizes)}")
        # The text has keepdims ignored where sizes are given; onnxruntime heeds it for parts of one element.
        return (Run(source, axis, int(sizes), drops and int(sizes) == 1),)
    if sizes.ndim != 1 or sizes.min(initial=0) < 0 or sizes.sum() != extent:
        raise ShapeError(f"{fold.node.label()}: parts of {sizes.tolist()} do not make up axis {axis} of {extent}")
    return tuple(Part(source, axis, start, stop) for start, stop in pairwise(accumulate(sizes.tolist(), initial=0)))


def _construct(fold: _Fold) -> Result:
    return tuple(Member(fold.tensor(index)) for index in range(len(fold.node.inputs)))


def _empty(_fold: _Fold) -> Result:
    return ()


def _insert(fold: _Fold) -> Result:
    pieces, member = fold.pieces(), Member(fold.tensor(1))
    if pieces is None or len(pieces) >= MAX_MEMBERS:
        return None
    if not fold.node.input(2):
        return (*pieces, member)
    place = fold.position(2)
    if place == 0:
        return (member, *pieces)
    singles = None if place is None else fold.maker.singles(pieces)
    if singles is None or place is None:
        return None
    place = place if place == len(singles) else fold.counted(place, len(singles))
    return (*singles[:place], member, *singles[place:])


def _erase(fold: _Fold) -> Result:
    pieces = fold.pieces()
    place = fold.position(1) if fold.node.input(1) else -1
    if pieces is None or place is None:
        return None
    singles = fold.maker.singles(pieces)
    if singles is None:
        return None
    place = fold.counted(place, len(singles))
    return (*singles[:place], *singles[place + 1 :])


# ---- tensors --------------------------------------------------------------------------------------------------------


def _at(fold: _Fold) -> Result:
    pieces = fold.pieces()
    if pieces is None:
        return None
    place = fold.position(1)
    if place is None:
        return _at_run_time(fold, pieces)
    count = fold.maker.count(pieces)
    found = _nth(pieces, place) if count is None else _known_nth(fold, pieces, fold.counted(place, count))
    return None if found is None else fold.maker.tensor(found)


def _known_nth(fold: _Fold, pieces: Pieces, place: int) -> Member | Part | None:
    """Member `place`, which exists, counted from the front."""
    for piece in pieces:
        count = fold.maker.count((piece,)) or 0
        if place < count:
            return fold.maker.nth(piece, place)
        place -= count
    return None


def _nth(pieces: Pieces, place: int) -> Member | Part | None:
    """The member at `place` of a list of unknown length, where nothing of unknown length is in the way."""
    order, step = (pieces, place) if place >= 0 else (pieces[::-1], -1 - place)
    for index, piece in enumerate(order):
        if isinstance(piece, Run):
            is_last = index == len(order) - 1 and piece.size == 1
            return piece.part(step if place >= 0 else -1 - step) if is_last else None
        if step == 0:
            return piece
        step -= 1
    return None


def _at_run_time(fold: _Fold, pieces: Pieces) -> Result:
    """The member at a position that only the run tells: all must be of one shape."""
    run = pieces[0] if len(pieces) == 1 else None
    if isinstance(run, Run) and run.size == 1:
        source, axis, drops = run.source, run.axis, run.drops
    else:
        singles = fold.maker.singles(pieces)
        names = None if singles is None else [fold.maker.tensor(single) for single in singles]
        types = {fold.rewriter.types.get(name) for name in names or ()}
        if names is None or None in types:
            return None
        if len(types) > 1:
            raise UnsupportedOp(
                f'{fold.node.label()}: its position "{fold.node.input(1)}" depends on run-time values, and the members '
                "of the sequence differ in shape; pass the graph input it comes from as a constant keyword"
            )
        source, axis, drops = fold.maker.joined(tuple(map(Member, names)), 0, stacked=True) or "", 0, True
    shape = fold.rewriter.integers([] if drops else [1])
    place = fold.maker.insert("Reshape", fold.node.inputs[1], shape)
    return fold.maker.insert("Gather", source, place, axis=axis)


def _length(fold: _Fold) -> Result:
    pieces, maker = fold.pieces(), fold.maker
    if pieces is None:
        return None
    count = maker.count(pieces)
    if count is not None:
        return maker.rewriter.constant(np.array(count, "i8"))
    runs = [piece for piece in pieces if isinstance(piece, Run)]
    total = maker.rewriter.constant(np.array(len(pieces) - len(runs), "i8"))
    for run in runs:
        axis = maker.rewriter.constant(np.array(run.axis, "i8"))
        members = maker.insert("Gather", maker.insert("Shape", run.source), axis)
        if run.size > 1:
            size, less = (maker.rewriter.constant(np.array(n, "i8")) for n in (run.size, run.size - 1))
            members = maker.insert("Div", maker.insert("Add", members, less), size)
        total = maker.insert("Add", members, total)
    return total


def _concat(fold: _Fold) -> Result:
    pieces = fold.pieces()
    axis, new = fold.integer_attr("axis"), fold.integer_attr("new_axis", 0)
    return None if pieces is None else fold.maker.joined(pieces, axis, stacked=bool(new))


_OPERATORS: Final[dict[str, tuple[int, Callable[[_Fold], Result]]]] = {
    "SplitToSequence": (1, _split),
    "SequenceConstruct": (1, _construct),
    "SequenceEmpty": (0, _empty),
    "SequenceInsert": (2, _insert),
    "SequenceErase": (1, _erase),
    "SequenceAt": (2, _at),
    "SequenceLength": (1, _length),
    "ConcatFromSequence": (1, _concat),
}
"""How many inputs there must be, and the function."""

SEQUENCE_OPS: Final = frozenset(_OPERATORS)
