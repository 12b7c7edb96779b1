"""The state of one lowering: which window holds which value, and short words to emit ops."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from gateinfer._core import BINARY, DTYPES, REDUCTION, UNARY, Builder, Cell, pack_cell, pack_dense
from gateinfer.errors import ShapeError, UnsupportedOp
from gateinfer.graph.checks import captures
from gateinfer.graph.ir import SEQUENCE, Graph, Node, subgraphs
from gateinfer.lower.target import Target
from gateinfer.lower.tensor import Shape, Tensor, collapse

Cache = dict[Hashable, Any]
"""Packed weights that the programs of one model share."""

ALIGNMENT = 64
"""Bytes. Vector loads of a whole panel line never straddle two cache lines."""


class Lowering:
    """Turns the values of a specialised graph into windows on the tensors of one program.

    Attributes
    ----------
    builder : Builder
    graph : Graph
        Specialised: every value has a static type.
    homes : dict of str to Tensor
        Where a value must end up, for values that are part of an output or of a concatenation.
    rewritten : set of int
        Tensors that are home to several values in turn, each made by a scatter over the one before.
    embeddings : dict of str to Embedding
        Inputs of layers that are rows of a constant table.
    done : set of str
        First outputs of nodes that an earlier node took over.
    sources : list of dict of str to int
        Per op so far the first outputs of the nodes it is for, or "", each with its multiply-adds.
    """

    def __init__(self, graph: Graph, target: Target, cache: Cache) -> None:
        self.graph = graph
        self.target = target
        self.builder = Builder(target.isa)
        self.homes: dict[str, Tensor] = {}
        self.rewritten: set[int] = set()
        self.embeddings: dict[str, Any] = {}
        self.done: set[str] = set()
        self.sources: list[dict[str, int]] = []
        self.nodes = live_nodes(graph)
        self.producers = {name: node for node in self.nodes for name in node.outputs if name}
        self._users: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in reads(node):
                self._users.setdefault(name, []).append(node)
        self._place = {id(node): place for place, node in enumerate(self.nodes)}
        self._made: set[int] = set()
        self._channels_last: set[int] = set()
        self._output_names = {port.name for port in graph.outputs}
        self._values: dict[str, Tensor] = {}
        self._cache = cache
        self._scalars: dict[tuple[float, np.dtype], Tensor] = {}

    def inner(self, graph: Graph) -> Lowering:
        """The lowering of a graph inside this one to a program of its own; it sees the constants and types here."""
        seen = replace(graph, constants=self.graph.constants, types=self.graph.types)
        return Lowering(seen, self.target, self._cache)

    # ---- the graph -------------------------------------------------------------------------------------------------

    def shape(self, name: str) -> Shape:
        """Static shape of the value `name`."""
        found = self.graph.types[name]
        if not found.is_static:
            raise ShapeError(f"the shape of {name!r} is {found.shape}, not static; give the shapes of all inputs")
        return found.extents

    def dtype(self, name: str) -> np.dtype:
        """Element type of the value `name`."""
        return np.dtype(self.graph.types[name].dtype)

    def const(self, name: str) -> np.ndarray | None:
        """The value of `name` if it is known now, else None."""
        return self.graph.constants.get(name)

    def need_const(self, node: Node, index: int, what: str) -> np.ndarray | None:
        """Input `index` of `node`, which must be known now if it is there at all."""
        name = node.input(index)
        if not name:
            return None
        value = self.const(name)
        if value is None:
            raise UnsupportedOp(f"input {what} ({name!r}) is only known at run time; make it a constant")
        return value

    def wanted(self, name: str) -> bool:
        """True when `name` is a graph output or read by a node."""
        return bool(name) and (name in self._users or name in self._output_names)

    def sole_user(self, name: str) -> Node | None:
        """The node that reads `name` if nothing else does, once."""
        users = self._users.get(name, [])
        return users[0] if len(users) == 1 and name not in self._output_names else None

    # ---- values ----------------------------------------------------------------------------------------------------

    def new(self, dtype: np.dtype | type, shape: Sequence[int], *, channels_last: bool = False) -> Tensor:
        """A work tensor for an intermediate result; its axes lie in order, or axis 1 innermost."""
        lies = (shape[0], *shape[2:], shape[1]) if channels_last else shape
        tensor = Tensor.dense(self.builder.work(code(dtype), prod(shape)), np.dtype(dtype), lies)
        self._made.add(tensor.id)
        if not channels_last:
            return tensor
        self._channels_last.add(tensor.id)
        return tensor.transpose((0, len(shape) - 1, *range(1, len(shape) - 1)))

    def external(self, dtype: np.dtype | type, shape: Sequence[int]) -> Tensor:
        """A tensor whose memory the stream binds."""
        return Tensor.dense(self.builder.external(code(dtype), prod(shape)), np.dtype(dtype), shape)

    def value(self, name: str) -> Tensor:
        """The window that holds `name`; uploads constants on first use."""
        if name not in self._values:
            array = self.const(name)
            if array is None:
                raise ShapeError(f"value {name!r} is read before any node makes it; the graph is out of order")
            self._values[name] = self._upload(name, array)
        return self._values[name]

    def constant(self, source: str | np.ndarray) -> Tensor:
        """A constant, by the name of a graph constant or as an array."""
        if isinstance(source, str):
            return self.value(source)
        code(source.dtype)
        return Tensor.dense(self.builder.constant(aligned(source)), source.dtype, source.shape)

    def scalar(self, value: float, dtype: np.dtype) -> Tensor:
        """A constant of shape ()."""
        key = (float(value), dtype)
        if key not in self._scalars:
            self._scalars[key] = self.constant(np.asarray(value, dtype=dtype))
        return self._scalars[key]

    def packed(
        self,
        kind: str,
        names: Sequence[str],
        sources: Sequence[np.ndarray | None],
        options: Hashable,
        make: Callable[[], np.ndarray],
    ) -> int:
        """Id of a constant tensor with `make()`, computed once per model.

        The cache key is (kind, names, options); an entry counts only if its sources have the same values, because what
        folding computes under one name may depend on the input shapes.
        """
        key = (kind, tuple(names), options)
        known, array = self._cache.get(key, (None, None))
        if known is None or not _same_arrays(known, sources):
            array = make()
            self._cache[key] = (tuple(sources), array)
        return self.builder.constant(array)

    def pack_cell(self, cell: Cell, weights: Sequence[np.ndarray | None], direction: int) -> np.ndarray:
        """Packed W, R, B and P [directions, ..] (None where absent) of one direction, in the target's precision."""
        w, r, b, p = [None if a is None else np.ascontiguousarray(a[direction], np.float32) for a in weights]
        assert w is not None and r is not None  # inputs W and R are not optional
        return pack_cell(cell, self.target.rounded(w), self.target.rounded(r), b, p)

    def pack_dense(self, weights: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
        """Packed weights [K, N] and bias [N] of `dense`, in the target's precision."""
        return pack_dense(self.target.rounded(weights), bias, self.target.format(weights.size))

    def dense(self, out: Tensor, x: Tensor, packed: int) -> None:
        """Out [.., N] = x [.., K] W + bias, with what `pack_dense` made."""
        self.builder.dense(out.view, x.view, packed, self.target.format(x.shape[-1] * out.shape[-1]))

    def define(self, name: str, tensor: Tensor) -> None:
        """Says that `tensor` holds `name`; copies it to where the value must end up."""
        home = self.homes.get(name)
        if home is not None and not home.same(tensor):
            self.copy(home, tensor)
            tensor = home
        self._values[name] = tensor

    def out(
        self,
        node: Node,
        index: int = 0,
        *,
        reads: Sequence[str] | None = None,
        like: Sequence[Tensor] = (),
        channels_last: bool = False,
    ) -> Tensor:
        """A window to write output `index` of `node` to, already defined under its name.

        Memory that this makes has its axes in order, or axis 1 innermost: with `channels_last`, or where all of `like`
        lie that way.

        No op may write to a tensor it reads, so the home of the value is passed over when a value of `reads` lives in
        the same tensor (None: the inputs of `node`). Whoever gave the value that home copies it there.
        """
        name = node.output(index)
        home = self.homes.get(name)
        values = (self._values.get(source) for source in (node.inputs if reads is None else reads))
        if home is not None and home.id in self.rewritten and self._read_later(node, self._living_in(home.id)):
            home = None
        if home is None or any(value is not None and value.id == home.id for value in values):
            last = channels_last or (bool(like) and all(map(self._is_channels_last, like)))
            home = self.new(self.dtype(name), self.shape(name), channels_last=last)
        self._values[name] = home
        return home

    def _is_channels_last(self, tensor: Tensor) -> bool:
        return tensor.id in self._channels_last and tensor.rank > 2 and tensor.strides[1] == 1

    def over(self, node: Node, index: int) -> Tensor | None:
        """The window of input `index` if output 0 may be written over it, already defined under the output's name.

        It must be memory that the program made, in which nothing that is read later lives, and the home of the output
        if that has one.
        """
        name, home = node.input(index), self.homes.get(node.output(0))
        x = self.value(name)
        if not x.is_dense or (x.id not in self._made if home is None else not home.same(x)):
            return None
        sharing = self._living_in(x.id)
        reads = sum(user is node for other in sharing for user in self._users.get(other, ()))
        if reads > 1 or self._read_later(node, sharing) or self._output_names.intersection(sharing):
            return None
        self._values[node.output(0)] = x
        return x

    def _living_in(self, tensor: int) -> list[str]:
        return [name for name, window in self._values.items() if window.id == tensor]

    def read_by(self, name: str, node: Node) -> None:
        """Says that `node` reads `name`, too, instead of a node before it."""
        self._users.setdefault(name, []).append(node)

    def _read_later(self, node: Node, names: Sequence[str]) -> bool:
        readers = (user for name in names for user in self._users.get(name, ()))
        return any(self._place[id(user)] > self._place[id(node)] for user in readers)

    def credit(self, source: str) -> None:
        """Says that all ops since the last credit are for the node with that first output.

        So is what the op before them has grown by: layers that run side by side are one op.
        """
        if self.sources:
            known = self.sources[-1]
            grown = self.builder.op_macs(len(self.sources) - 1) - sum(known.values())
            if grown:
                known[source] = known.get(source, 0) + grown
        self.sources += [
            {source: self.builder.op_macs(index)} for index in range(len(self.sources), self.builder.op_count)
        ]

    def define_missing(self, name: str) -> None:
        """Gives the output of a refused node some window, so that the nodes after it can still be looked at."""
        if self.graph.types[name] == SEQUENCE:
            return  # whoever reads a list is refused as well
        dtype = self.dtype(name) if self.dtype(name) in DTYPES else np.dtype(np.float32)
        self._values[name] = self.new(dtype, self.shape(name))

    def copied(self, tensor: Tensor) -> Tensor:
        """The elements of `tensor` in a tensor of their own, in C order."""
        fresh = self.new(tensor.dtype, tensor.shape)
        self.copy(fresh, tensor)
        return fresh

    def contiguous(self, tensor: Tensor) -> Tensor:
        """`tensor`, copied only when its elements do not follow each other in C order."""
        return tensor if tensor.is_dense else self.copied(tensor)

    def unit_stride(self, tensor: Tensor) -> Tensor:
        """`tensor`, copied only when neighbours along its last axis are not neighbours in memory."""
        return tensor if tensor.is_unit_stride else self.copied(tensor)

    def reshaped(self, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        """`tensor` as `shape`: a window where strides can express it, else a copy."""
        return tensor.reshape(shape) or self.contiguous(tensor).reshape(shape)  # type: ignore[return-value]

    # ---- ops: operands are stretched to the shape of `out` -----------------------------------------------------------

    def copy(self, out: Tensor, src: Tensor) -> None:
        if out.size:
            target, source = collapse(out, src.broadcast_to(out.shape))
            self.builder.copy(target.view, source.view)

    def fill(self, out: Tensor, value: float) -> None:
        if out.size:
            self.builder.fill(collapse(out)[0].view, float(value))

    def cast(self, out: Tensor, src: Tensor) -> None:
        if out.size:
            target, source = collapse(out, src.broadcast_to(out.shape))
            self.builder.cast(target.view, source.view)

    def unary(self, fn: str, src: Tensor, alpha: float = 0.0, beta: float = 0.0, out: Tensor | None = None) -> Tensor:
        """f(src; alpha, beta) into `out` or a new tensor."""
        out = out or self.new(src.dtype, src.shape)
        if out.size:
            target, source = collapse(out, src.broadcast_to(out.shape))
            self.builder.unary(UNARY[fn], target.view, source.view, alpha, beta)
        return out

    def binary(
        self, fn: str, lhs: Tensor, rhs: Tensor, out: Tensor | None = None, dtype: np.dtype | type | None = None
    ) -> Tensor:
        """f(lhs, rhs) with broadcasting, into `out` or a new tensor of `dtype` (default: that of lhs)."""
        if out is None:
            out = self.new(dtype or lhs.dtype, np.broadcast_shapes(lhs.shape, rhs.shape))
        if out.size:
            views = collapse(out, lhs.broadcast_to(out.shape), rhs.broadcast_to(out.shape))
            self.builder.binary(BINARY[fn], *(v.view for v in views))
        return out

    def where(self, out: Tensor, cond: Tensor, lhs: Tensor, rhs: Tensor) -> None:
        if out.size:
            views = collapse(out, *(t.broadcast_to(out.shape) for t in (cond, lhs, rhs)))
            self.builder.where(*(v.view for v in views))

    def reduce(self, fn: str, out: Tensor, src: Tensor) -> None:
        """Reduces the last src.rank - out.rank axes of `src`, none of which is empty."""
        if out.size:
            kept, dropped = _outer_inner(src, out.rank)
            target, outer = collapse(out, kept)
            inner = collapse(dropped)[0]
            source = src.window(outer.shape + inner.shape, outer.strides + inner.strides)
            if not inner.shape:
                source = source.unsqueeze(source.rank)
            self.builder.reduce(REDUCTION[fn], target.view, source.view)

    def _upload(self, name: str, array: np.ndarray) -> Tensor:
        dtype = array.dtype
        code(dtype)
        if array.flags.c_contiguous and array.ctypes.data % dtype.itemsize == 0:
            return Tensor.dense(self.builder.constant(array), dtype, array.shape)
        tensor = self.packed("constant", (name,), (array,), None, lambda: aligned(array))
        return Tensor.dense(tensor, dtype, array.shape)


def code(dtype: np.dtype | type) -> int:
    """The engine's number for an element type."""
    found = DTYPES.get(np.dtype(dtype))
    if found is None:
        names = ", ".join(str(d) for d in DTYPES)
        raise UnsupportedOp(f"works on {np.dtype(dtype)}; the engine runs on {names}: convert the model to float32")
    return found


def aligned(array: np.ndarray) -> np.ndarray:
    """A C-contiguous copy of `array` that starts on a cache line."""
    room = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def live_nodes(graph: Graph) -> list[Node]:
    """The nodes that some graph output depends on, in execution order."""
    needed = {port.name for port in graph.outputs}
    live = []
    for node in reversed(graph.nodes):
        if needed.intersection(filter(None, node.outputs)):
            live.append(node)
            needed.update(reads(node))
    return live[::-1]


def reads(node: Node) -> list[str]:
    """Names that `node` reads, as often as it does, and those that graphs inside it capture."""
    given = [name for name in node.inputs if name]
    return given + [name for graph in subgraphs(node) for name in captures(graph)]


def _outer_inner(tensor: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The first `rank` axes of `tensor`, and the others, as windows of their own."""
    return (
        tensor.window(tensor.shape[:rank], tensor.strides[:rank]),
        tensor.window(tensor.shape[rank:], tensor.strides[rank:]),
    )


def _same_arrays(known: Sequence[np.ndarray | None], sources: Sequence[np.ndarray | None]) -> bool:
    if len(known) != len(sources):
        return False
    for a, b in zip(known, sources, strict=True):
        if a is b:
            continue
        if a is None or b is None or a.dtype != b.dtype or not np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
            return False
    return True
