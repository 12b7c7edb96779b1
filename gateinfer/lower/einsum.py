"""Einsum as windows, reductions and matrix products, two operands at a time."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np

from gateinfer.errors import UnsupportedOp
from gateinfer.graph.infer.products import einsum_letters
from gateinfer.graph.ir import Node
from gateinfer.lower.context import Lowering
from gateinfer.lower.elementwise import FLOAT
from gateinfer.lower.registry import lowers
from gateinfer.lower.tensor import Tensor


class Term(NamedTuple):
    """A window whose axes are letters, and its value if that is known and whole."""

    letters: str
    tensor: Tensor
    name: str = ""
    known: np.ndarray | None = None


@lowers("Einsum", attrs=("equation",))
def lower_einsum(ctx: Lowering, node: Node) -> None:
    letters, result = einsum_letters(node)
    terms = [_diagonal(ctx, name, term) for name, term in zip(node.inputs, letters, strict=True)]
    if any(t.tensor.dtype != FLOAT for t in terms):
        raise UnsupportedOp("works on integers; Einsum runs on float32: cast the operands")
    out = ctx.out(node)
    while len(terms) > 1:
        rest = "".join(t.letters for t in terms[2:]) + result
        terms[:2] = [_product(ctx, terms[0], terms[1], rest)]
    final = _summed(ctx, terms[0], result)
    ctx.copy(out, final.tensor.transpose([final.letters.index(c) for c in result]))


def _diagonal(ctx: Lowering, name: str, letters: str) -> Term:
    """Repeated letters step along all their axes at once."""
    tensor = ctx.value(name)
    unique = "".join(dict.fromkeys(letters))
    if unique == letters:
        return Term(letters, tensor, name, ctx.const(name))
    axes = [[i for i, c in enumerate(letters) if c == letter] for letter in unique]
    shape = tuple(tensor.shape[places[0]] for places in axes)
    strides = tuple(sum(tensor.strides[i] for i in places) for places in axes)
    return Term(unique, tensor.window(shape, strides))


def _summed(ctx: Lowering, term: Term, keep: str) -> Term:
    """`term` without the letters that are not in `keep`."""
    dropped = [i for i, c in enumerate(term.letters) if c not in keep]
    if not dropped:
        return term
    moved = term.tensor.move_last(dropped)
    kept = "".join(c for c in term.letters if c in keep)
    out = ctx.new(FLOAT, moved.shape[: len(kept)])
    if moved.size:
        ctx.reduce("sum", out, moved)
    else:
        ctx.fill(out, 0.0)
    return Term(kept, out)


def _product(ctx: Lowering, lhs: Term, rhs: Term, rest: str) -> Term:
    """Sums over the letters that both operands have and nothing later needs."""
    lhs, rhs = _summed(ctx, lhs, rhs.letters + rest), _summed(ctx, rhs, lhs.letters + rest)
    batch = "".join(c for c in lhs.letters if c in rhs.letters and c in rest)
    inner = "".join(c for c in lhs.letters if c in rhs.letters and c not in rest)
    rows = "".join(c for c in lhs.letters if c not in rhs.letters)
    columns = "".join(c for c in rhs.letters if c not in lhs.letters)
    extents = dict(zip(lhs.letters + rhs.letters, lhs.tensor.shape + rhs.tensor.shape, strict=True))
    letters = batch + rows + columns
    out = ctx.new(FLOAT, [extents[c] for c in letters])
    result = Term(letters, out)
    if not inner:
        ctx.binary("mul", _spread(lhs, letters), _spread(rhs, letters), out=out)
    elif 0 in out.shape or 0 in (extents[c] for c in inner):
        ctx.fill(out, 0.0)
    elif rhs.known is not None and not batch:
        _multiply_packed(ctx, out, _flat(ctx, lhs, (rows, inner), extents), rhs, inner, columns)
    else:
        left = _flat(ctx, lhs, (*batch, rows, inner), extents)
        right = _flat(ctx, rhs, (*batch, inner, columns), extents)
        shape = (*(extents[c] for c in batch), left.shape[-2], right.shape[-1])
        ctx.builder.matmul(ctx.reshaped(out, shape).view, left.view, right.view)
    return result


def _spread(term: Term, letters: str) -> Tensor:
    """The window with an axis for each of `letters`, of extent 1 where the term has none."""
    tensor = term.tensor.transpose([term.letters.index(c) for c in letters if c in term.letters])
    for axis, letter in enumerate(letters):
        if letter not in term.letters:
            tensor = tensor.unsqueeze(axis)
    return tensor


def _flat(ctx: Lowering, term: Term, groups: tuple[str, ...], extents: dict[str, int]) -> Tensor:
    """The window with one axis for each group of letters."""
    order = "".join(groups)
    tensor = term.tensor.transpose([term.letters.index(c) for c in order])
    return ctx.reshaped(tensor, [prod(extents[c] for c in group) for group in groups])


def _multiply_packed(ctx: Lowering, out: Tensor, lhs: Tensor, rhs: Term, inner: str, columns: str) -> None:
    known = rhs.known
    assert known is not None  # by the caller
    order = [rhs.letters.index(c) for c in inner + columns]

    def make() -> np.ndarray:
        weights = known.transpose(order).reshape(lhs.shape[-1], -1)
        return ctx.pack_dense(np.ascontiguousarray(weights), None)

    packed = ctx.packed("einsum", (rhs.name,), (known,), (*order, len(inner)), make)
    flat = ctx.reshaped(out, (lhs.shape[0], out.size // lhs.shape[0]))
    ctx.dense(flat, ctx.unit_stride(lhs), packed)
