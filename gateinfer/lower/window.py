"""Sliding windows: what Conv and the pools have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gateinfer.errors import UnsupportedOp
from gateinfer.graph.ir import Node
from gateinfer.lower.elementwise import FLOAT
from gateinfer.lower.tensor import Shape, Tensor

if TYPE_CHECKING:
    from gateinfer._core import Window
    from gateinfer.lower.context import Lowering

WINDOW_ATTRS = ("auto_pad", "dilations", "kernel_shape", "pads", "strides")


class Sliding(NamedTuple):
    """A window over the spatial axes, and the (begin, end) padding of each; ends may be more than the output needs."""

    kernel: Shape
    stride: Shape
    dilation: Shape
    pads: tuple[tuple[int, int], ...]

    def core(self) -> Window:
        """The tuple the builder takes; one spatial axis is the second of two."""
        if len(self.kernel) == 1:
            return (1, self.kernel[0]), (1, self.stride[0]), (1, self.dilation[0]), (0, self.pads[0][0])
        (top, _), (left, _) = self.pads
        return _pair(self.kernel), _pair(self.stride), _pair(self.dilation), (top, left)

    def places(self, axis: int, tap: int, extent: int, positions: int) -> range:
        """Of the output's `positions` along `axis`, those where a tap meets the input's `extent`, not the padding."""
        start, stride = tap * self.dilation[axis] - self.pads[axis][0], self.stride[axis]
        first = min(positions, max(0, -(start // stride)))
        return range(first, max(first, min(positions, -((start - extent) // stride))))


def sliding(node: Node, x: Tensor, out: Tensor, kernel: Shape) -> Sliding:
    """Reads the window attributes of `node`. x [N, C, ..], out [N, M, ..]."""
    if out.dtype != FLOAT:
        raise UnsupportedOp(f"works on {out.dtype}; windows run on float32: cast the input")
    spatial = x.rank - 2
    if spatial not in (1, 2):
        raise UnsupportedOp(f"slides over {spatial} axes; 1 and 2 are implemented")
    stride = tuple(node.attrs.get("strides") or (1,) * spatial)
    dilation = tuple(node.attrs.get("dilations") or (1,) * spatial)
    mode = node.attrs.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        flat = list(node.attrs.get("pads") or (0,) * (2 * spatial))
        pads = tuple(zip(flat[:spatial], flat[spatial:], strict=True))
    elif mode == "VALID":
        pads = ((0, 0),) * spatial
    elif mode in ("SAME_UPPER", "SAME_LOWER"):
        axes = zip(x.shape[2:], out.shape[2:], kernel, stride, dilation, strict=True)
        pads = tuple(_same(*axis, lower=mode == "SAME_LOWER") for axis in axes)
    else:
        raise UnsupportedOp(f"attribute 'auto_pad' = {mode!r} is not implemented")
    return Sliding(tuple(kernel), stride, dilation, pads)


def crop(x: Tensor, window: Sliding) -> tuple[Tensor, Sliding]:
    """Turns negative padding into a smaller input."""
    for axis, (begin, end) in enumerate(window.pads, start=2):
        cut = max(0, -begin)
        x = x.slice(axis, cut, x.shape[axis] - cut - max(0, -end))
    pads = tuple((max(0, begin), max(0, end)) for begin, end in window.pads)
    return x, Sliding(window.kernel, window.stride, window.dilation, pads)


def padded(ctx: Lowering, x: Tensor, window: Sliding) -> tuple[Tensor, Sliding]:
    """A copy of `x` with its padding written out as zeros, and the window without padding."""
    extents = [n + begin + end for n, (begin, end) in zip(x.shape[2:], window.pads, strict=True)]
    full = ctx.new(x.dtype, (*x.shape[:2], *extents))
    ctx.fill(full, 0.0)
    center = full
    for axis, (begin, _) in enumerate(window.pads, start=2):
        center = center.slice(axis, begin, x.shape[axis])
    ctx.copy(center, x)
    return full, window._replace(pads=((0, 0),) * len(window.pads))


def planar(x: Tensor) -> Tensor:
    """[N, C, L] as [N, C, 1, L]; rank 4 as it is."""
    return x.unsqueeze(2) if x.rank == 3 else x


def _pair(values: Shape) -> tuple[int, int]:
    first, second = values
    return first, second


def _same(extent: int, out: int, kernel: int, stride: int, dilation: int, *, lower: bool) -> tuple[int, int]:
    """Padding that makes the output ceil(extent / stride) long; the odd one goes to the end unless `lower`."""
    total = max(0, (out - 1) * stride + (kernel - 1) * dilation + 1 - extent)
    small, large = total // 2, total - total // 2
    return (large, small) if lower else (small, large)
