"""What a sequence is made of, and the nodes that make single members, the whole list, or one tensor of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from gateinfer.errors import ShapeError, UnsupportedOp
from gateinfer.graph.ir import Node

if TYPE_CHECKING:
    from gateinfer.graph.rewriter import Rewriter

MAX_MEMBERS: Final = 4096
"""Members of a list that are looked at one by one."""


class Member(NamedTuple):
    """One tensor."""

    source: str


class Part(NamedTuple):
    """Elements `start` to `stop` of `source` along `axis`; the axis is dropped from a single element if `drops`."""

    source: str
    axis: int
    start: int
    stop: int
    drops: bool = False


class Run(NamedTuple):
    """All of `source` along `axis`, `size` elements per member; without the axis if `drops`, where `size` is 1."""

    source: str
    axis: int
    size: int = 1
    drops: bool = False

    def part(self, index: int) -> Part:
        return Part(self.source, self.axis, index * self.size, (index + 1) * self.size, self.drops)


Piece = Member | Part | Run
Pieces = tuple[Piece, ...]


class Maker:
    """Adds the nodes that make something of pieces to `nodes`."""

    def __init__(self, rewriter: Rewriter, nodes: list[Node], label: str, name: str = "") -> None:
        """`label` says in errors what the nodes are for; they get `name`."""
        self.rewriter = rewriter
        self.nodes = nodes
        self.label = label
        self.name = name

    def insert(self, op: str, *inputs: str, **attrs: object) -> str:
        return self.rewriter.insert(op, inputs, self.nodes, called=self.name, **attrs)

    def extent(self, run: Run) -> int | None:
        """Elements of `run.source` along its axis; None before shapes are known."""
        found = self.rewriter.types.get(run.source)
        return found.extents[run.axis] if found is not None and found.is_static else None

    def count(self, pieces: Pieces) -> int | None:
        """Members of a list; None before shapes are known."""
        total = 0
        for piece in pieces:
            extent = self.extent(piece) if isinstance(piece, Run) else 1
            if extent is None:
                return None
            total += -(-extent // piece.size) if isinstance(piece, Run) else 1
        return total

    def singles(self, pieces: Pieces) -> tuple[Member | Part, ...] | None:
        """One piece for each member; None before shapes are known.

        Raises
        ------
        UnsupportedOp
            There are too many of them.
        """
        count = self.count(pieces)
        if count is None:
            return None
        if count > MAX_MEMBERS:
            raise UnsupportedOp(
                f"{self.label}: its sequence has {count} members, of which at most {MAX_MEMBERS} are taken apart; "
                "run shorter pieces"
            )
        self.rewriter.budget.spend_visits(count)
        return tuple(self.nth(piece, i) for piece in pieces for i in range(self.count((piece,)) or 0))

    def nth(self, piece: Piece, index: int) -> Member | Part:
        """Member `index` of a piece that has one, where shapes are known."""
        if not isinstance(piece, Run):
            return piece
        part = piece.part(index)
        return part._replace(stop=min(part.stop, self.extent(piece) or 0))

    def tensor(self, piece: Member | Part) -> str:
        """The name of one member."""
        if isinstance(piece, Member):
            return piece.source
        if piece.stop - piece.start == 1:
            index = np.array(piece.start if piece.drops else [piece.start], "i8")
            return self.insert("Gather", piece.source, self.rewriter.constant(index), axis=piece.axis)
        limits = ([piece.start], [piece.stop], [piece.axis])
        return self.insert("Slice", piece.source, *map(self.rewriter.integers, limits))

    def unsqueezed(self, name: str, axis: int) -> str:
        if self.rewriter.opset >= 13:
            return self.insert("Unsqueeze", name, self.rewriter.integers([axis]))
        return self.insert("Unsqueeze", name, axes=[axis])

    # ---- one tensor of all members ----

    def joined(self, pieces: Pieces, axis: int, *, stacked: bool) -> str | None:
        """All members along `axis`, a new one if `stacked`; None before shapes are known that this takes."""
        if not pieces:
            raise ShapeError(f"{self.label}: its sequence is empty, there is nothing to join")
        parts: list[str] = []
        for piece in pieces:
            names = self._slabs(piece, axis, stacked)
            if names is None:
                return None
            parts += names
        if not parts:
            raise ShapeError(f"{self.label}: its sequence is empty, there is nothing to join")
        return parts[0] if len(parts) == 1 else self.insert("Concat", *parts, axis=axis)

    def _slabs(self, piece: Piece, axis: int, stacked: bool) -> list[str] | None:
        """What of one piece is to be concatenated."""
        if isinstance(piece, Run) and piece.drops == stacked:
            whole = self._whole(piece, axis)
            if whole:
                return [whole]
        singles = self.singles((piece,))
        if singles is None:
            return None
        names = [self.tensor(single) for single in singles]
        return [self.unsqueezed(name, axis) for name in names] if stacked else names

    def _whole(self, run: Run, axis: int) -> str:
        """The tensor that was cut, its axis moved; "" where that is not all."""
        if run.axis == axis:
            return run.source
        found = self.rewriter.types.get(run.source)
        if found is None or not found.is_static:
            return ""
        rank = len(found.extents)
        if not -rank <= axis < rank:
            raise ShapeError(f"{self.label}: axis {axis} does not exist in a result of rank {rank}")
        if run.axis % rank == axis % rank:
            return run.source
        if not run.drops:
            return ""
        perm = [i for i in range(rank) if i != run.axis % rank]
        perm.insert(axis % rank, run.axis % rank)
        return self.insert("Transpose", run.source, perm=perm)

    # ---- the list itself ----

    def sequence(self, pieces: Pieces) -> str:
        """The name of the list, which has members, for a node that nothing else will do for."""
        place = next((i for i, piece in enumerate(pieces) if isinstance(piece, Run)), None)
        if any(isinstance(piece, Run) for piece in pieces[(place or 0) + 1 :]):
            members = self.singles(pieces)
            assert members is not None  # before shapes are known no list has two runs
            pieces, place = members, None
        if place is None:
            return self.insert("SequenceConstruct", *self._tensors(pieces))
        name, front = self._cut(pieces[place]), self.rewriter.constant(np.array(0, "i8"))
        for member in reversed(self._tensors(pieces[:place])):
            name = self.insert("SequenceInsert", name, member, front)
        for member in self._tensors(pieces[place + 1 :]):
            name = self.insert("SequenceInsert", name, member)
        return name

    def _tensors(self, pieces: Pieces) -> list[str]:
        return [self.tensor(piece) for piece in pieces if not isinstance(piece, Run)]

    def _cut(self, run: Piece) -> str:
        assert isinstance(run, Run)  # the caller has looked
        if run.size == 1:
            return self.insert("SplitToSequence", run.source, axis=run.axis, keepdims=int(not run.drops))
        size = self.rewriter.constant(np.array(run.size, "i8"))
        return self.insert("SplitToSequence", run.source, size, axis=run.axis)


def made_of(rewriter: Rewriter, name: str, nodes: list[Node], label: str) -> str:
    """`name`, or the name of a list made from its pieces by nodes added to `nodes`; empty ones have nodes."""
    pieces = rewriter.sequences.get(name)
    return name if not pieces else Maker(rewriter, nodes, label).sequence(pieces)
