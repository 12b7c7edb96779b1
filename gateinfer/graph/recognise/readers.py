"""The readers of one graph, together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gateinfer.graph.recognise.affine import AffineReader
from gateinfer.graph.recognise.flow import Flow
from gateinfer.graph.recognise.gate import GateReader


class Readers:
    """What the matchers ask.

    Attributes
    ----------
    flow, affine, gates : of one graph
    carried : of a loop body, what a turn gets from the turn before, and by it the value behind that turn
    """

    def __init__(self, flow: Flow, carried: Mapping[str, str] | None = None) -> None:
        self.flow = flow
        self.carried = dict(carried or {})
        self.affine = AffineReader(flow)
        self.gates = GateReader(flow, self.affine)

    def layouts(self, name: str) -> Iterator[tuple[int, int]]:
        """(N, H) that a state of this shape may have: features last, or a single row in any shape."""
        shape, size = self.flow.shape(name), self.flow.size(name)
        if size and shape:
            yield size // shape[-1], shape[-1]
            if shape[-1] != size:
                yield 1, size

    def width(self, name: str, rows: int) -> int:
        """Elements of one row of a source, 0 when its rows are not those of the state."""
        size = self.affine.pushed.size(name)
        return 0 if size % rows else size // rows
