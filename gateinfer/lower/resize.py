"""Operators that rearrange or repeat elements of feature maps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gateinfer.errors import UnsupportedOp
from gateinfer.graph.ir import Node
from gateinfer.lower.context import Lowering
from gateinfer.lower.indexing import gather_known
from gateinfer.lower.registry import lowers
from gateinfer.lower.tensor import Tensor

RESIZE_ATTRS = (
    "antialias", "axes", "coordinate_transformation_mode", "cubic_coeff_a", "exclude_outside", "extrapolation_value",
    "keep_aspect_ratio_policy", "mode", "nearest_mode",
)  # fmt: skip

ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
}


@lowers("Resize", attrs=RESIZE_ATTRS)
def lower_resize(ctx: Lowering, node: Node) -> None:
    """Nearest neighbours: a gather at constant places along each axis that changes."""
    x, out = ctx.value(node.input(0)), ctx.out(node)
    scales = _scales(ctx, node, x, out)
    changed = [axis for axis in range(x.rank) if x.shape[axis] != out.shape[axis]]
    for axis in changed:
        places = _places(node, x.shape[axis], out.shape[axis], scales[axis])
        shape = (*x.shape[:axis], out.shape[axis], *x.shape[axis + 1 :])
        target = out if axis == changed[-1] else ctx.new(x.dtype, shape)
        gather_known(ctx, x, axis, places, target)
        x = target
    if not changed:
        ctx.copy(out, x)


def _scales(ctx: Lowering, node: Node, x: Tensor, out: Tensor) -> list[float]:
    """The file's scales, which need not be the quotient of the extents, or that quotient."""
    scales = [o / n if n else 1.0 for o, n in zip(out.shape, x.shape, strict=True)]
    given = ctx.need_const(node, 2, "scales")
    if given is not None and given.size and not node.input(3):
        axes = node.attrs.get("axes") or range(x.rank)
        for axis, scale in zip(axes, given.tolist(), strict=True):
            scales[axis % x.rank] = scale
    return scales


def _places(node: Node, extent: int, wanted: int, scale: float) -> np.ndarray:
    """Where each of the `wanted` results is taken from; formulas of the Resize entry of the ONNX operators."""
    mode = node.attrs.get("coordinate_transformation_mode", "half_pixel")
    # In float32, as onnxruntime: with a scale like 0.7 the last bit decides between two neighbours.
    at, scale = np.arange(wanted, dtype=np.float32), float(np.float32(scale))
    if mode == "asymmetric":
        at = at / scale
    elif mode == "align_corners":
        at = at * np.float32(extent - 1) / np.float32(max(wanted - 1, 1))
    elif mode == "half_pixel" or (mode == "pytorch_half_pixel" and wanted > 1):
        at = (at + 0.5) / scale - 0.5
    elif mode == "pytorch_half_pixel":
        at = at * 0
    elif mode == "tf_half_pixel_for_nn":
        at = (at + 0.5) / scale
    elif mode == "half_pixel_symmetric":
        at = extent / 2 * (1 - wanted / (extent * scale)) + (at + 0.5) / scale - 0.5
    else:
        raise UnsupportedOp(f"attribute 'coordinate_transformation_mode' = {mode!r} is not implemented")
    rounding = node.attrs.get("nearest_mode", "round_prefer_floor")
    if rounding not in ROUNDINGS:
        raise UnsupportedOp(f"attribute 'nearest_mode' = {rounding!r} is not implemented")
    return np.clip(ROUNDINGS[rounding](at), 0, extent - 1).astype(np.int64)


@lowers("DepthToSpace", attrs=("blocksize", "mode"))
def lower_depth_to_space(ctx: Lowering, node: Node) -> None:
    x, out, size = ctx.value(node.input(0)), ctx.out(node), node.attrs["blocksize"]
    n, c, h, w = x.shape
    depth = c // size**2
    if node.attrs.get("mode", "DCR") == "DCR":
        blocks, perm = (n, size, size, depth, h, w), (0, 3, 4, 1, 5, 2)
    else:
        blocks, perm = (n, depth, size, size, h, w), (0, 1, 4, 2, 5, 3)
    _rearrange(ctx, out, ctx.reshaped(x, blocks).transpose(perm))


@lowers("SpaceToDepth", attrs=("blocksize", "mode"))
def lower_space_to_depth(ctx: Lowering, node: Node) -> None:
    x, out, size = ctx.value(node.input(0)), ctx.out(node), node.attrs["blocksize"]
    n, c, h, w = x.shape
    blocks = ctx.reshaped(x, (n, c, h // size, size, w // size, size))
    perm = (0, 3, 5, 1, 2, 4) if node.attrs.get("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    _rearrange(ctx, out, blocks.transpose(perm))


def _rearrange(ctx: Lowering, out: Tensor, x: Tensor) -> None:
    """Copies `x` to `out`, which has as many elements in another shape."""
    target = out.reshape(x.shape)
    if target is not None:
        ctx.copy(target, x)
    else:
        ctx.copy(out, ctx.reshaped(x, out.shape))
