"""MatMul and Gemm: packed weights where the right side is known, a run-time product otherwise."""

from __future__ import annotations

import numpy as np

from gateinfer._core import pack_dense
from gateinfer.errors import UnsupportedOp
from gateinfer.graph.ir import Node
from gateinfer.lower.context import Lowering
from gateinfer.lower.elementwise import FLOAT
from gateinfer.lower.registry import lowers
from gateinfer.lower.scales import Scales, following
from gateinfer.lower.tensor import Tensor


@lowers("MatMul")
def lower_matmul(ctx: Lowering, node: Node) -> None:
    lhs, rhs = ctx.value(node.input(0)), ctx.const(node.input(1))
    _need_float(lhs)
    if rhs is None or rhs.ndim > 2 or lhs.size == 0:
        _multiply(ctx, lhs, ctx.value(node.input(1)), ctx.out(node))
        return
    weights = rhs if rhs.ndim == 2 else rhs[:, None]
    scales = following(ctx, node, -1, (rhs,)) if rhs.ndim == 2 else Scales(node)
    out = ctx.out(scales.last, reads=node.inputs)
    names, sources = (node.input(1), *scales.names), (rhs, *scales.sources)
    packed = ctx.packed("dense", names, sources, None, lambda: pack_dense(*scales.into(weights, None, 1)))
    out_2d = out.unsqueeze(out.rank) if rhs.ndim == 1 else out
    _dense(ctx, out_2d, lhs, packed)


@lowers("Gemm", attrs=("alpha", "beta", "transA", "transB", "broadcast"))
def lower_gemm(ctx: Lowering, node: Node) -> None:
    """Alpha A' B' + beta C; alpha, beta and a row-shaped C go into the packed weights when they can."""
    lhs = ctx.value(node.input(0))
    _need_float(lhs)
    if node.attrs.get("transA", 0):
        lhs = lhs.transpose((1, 0))
    weights, addend = ctx.const(node.input(1)), ctx.const(node.input(2))
    is_packed = weights is not None and lhs.size > 0
    row = addend if is_packed and addend is not None and _is_row(addend) else None
    rest = node.input(2) if row is None else ""
    alpha, beta = float(node.attrs.get("alpha", 1.0)), float(node.attrs.get("beta", 1.0))
    if is_packed and weights is not None and not rest:
        scales = following(ctx, node, 1, (weights * alpha, None if row is None else row * beta))
        out = ctx.out(scales.last, reads=node.inputs)
        _dense(ctx, out, lhs, _packed_gemm(ctx, node, weights, row, (alpha, beta), scales))
        return
    out = ctx.out(node)
    target = ctx.new(out.dtype, out.shape) if rest and beta else out
    if is_packed and weights is not None:
        _dense(ctx, target, lhs, _packed_gemm(ctx, node, weights, row, (alpha, beta), Scales(node)))
    else:
        _gemm_at_run_time(ctx, node, lhs, target, alpha)
    if rest and beta:
        ctx.binary("add", target, _scaled(ctx, ctx.value(rest), beta), out=out)


def _packed_gemm(
    ctx: Lowering,
    node: Node,
    weights: np.ndarray,
    row: np.ndarray | None,
    factors: tuple[float, float],
    scales: Scales,
) -> int:
    transposed = bool(node.attrs.get("transB", 0))
    alpha, beta = factors

    def make() -> np.ndarray:
        w = weights.T if transposed else weights
        bias = _row(row, w.shape[1])
        return pack_dense(*scales.into(_times(w, alpha), None if bias is None else _times(bias, beta), 1))

    names = (node.input(1), node.input(2) if row is not None else "", *scales.names)
    return ctx.packed("gemm", names, (weights, row, *scales.sources), (transposed, alpha, beta), make)


def _gemm_at_run_time(ctx: Lowering, node: Node, lhs: Tensor, out: Tensor, alpha: float) -> None:
    rhs = ctx.value(node.input(1))
    if node.attrs.get("transB", 0):
        rhs = rhs.transpose((1, 0))
    _multiply(ctx, _scaled(ctx, lhs, alpha), rhs, out)


def _multiply(ctx: Lowering, lhs: Tensor, rhs: Tensor, out: Tensor) -> None:
    """Out = lhs rhs with NumPy's rules for rank 1 and for leading axes."""
    if lhs.rank == 1:
        lhs, out = lhs.unsqueeze(0), out.unsqueeze(out.rank - (rhs.rank > 1))
    if rhs.rank == 1:
        rhs, out = rhs.unsqueeze(1), out.unsqueeze(out.rank)
    if lhs.shape[-1] == 0:
        ctx.fill(out, 0.0)
        return
    lead = out.shape[:-2]
    lhs = lhs.broadcast_to(lead + lhs.shape[-2:])
    rhs = rhs.broadcast_to(lead + rhs.shape[-2:])
    ctx.builder.matmul(out.view, lhs.view, rhs.view)


def _dense(ctx: Lowering, out: Tensor, lhs: Tensor, packed: int) -> None:
    """Out [.., N] = lhs [.., K] W + bias; leading axes become one when strides allow."""
    rows = out.size // out.shape[-1]
    flat_out, flat_lhs = out.reshape((rows, out.shape[-1])), lhs.reshape((rows, lhs.shape[-1]))
    if flat_out is not None and flat_lhs is not None:
        out, lhs = flat_out, flat_lhs
    ctx.builder.dense(out.view, ctx.unit_stride(lhs).view, packed)


def _is_row(addend: np.ndarray) -> bool:
    """True when `addend` differs along its last axis only."""
    return addend.size == addend.shape[-1] if addend.ndim else True


def _row(addend: np.ndarray | None, columns: int) -> np.ndarray | None:
    """`addend` as a contiguous [columns]."""
    return None if addend is None else np.ascontiguousarray(np.broadcast_to(addend.ravel(), (columns,)))


def _times(array: np.ndarray, factor: float) -> np.ndarray:
    """The product with `factor`, rounded once."""
    if factor == 1.0:
        return array
    return (array.astype(np.float64) * factor).astype(np.float32)


def _scaled(ctx: Lowering, x: Tensor, factor: float) -> Tensor:
    return x if factor == 1.0 else ctx.unary("affine", x, factor, 0.0)


def _need_float(x: Tensor) -> None:
    if x.dtype != FLOAT:
        raise UnsupportedOp(f"multiplies {x.dtype}; products run on float32: cast the operands")
