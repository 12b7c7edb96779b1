"""ConvTranspose as one Conv for each phase of its output: no zeros are put between inputs, or multiplied."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import gcd
from typing import NamedTuple

import numpy as np

from gateinfer.errors import ShapeError
from gateinfer.graph.ir import Node
from gateinfer.lower.context import Lowering
from gateinfer.lower.conv import pack, parameters
from gateinfer.lower.registry import lowers
from gateinfer.lower.scales import Scales, following
from gateinfer.lower.tensor import Tensor
from gateinfer.lower.window import WINDOW_ATTRS, Sliding, crop, planar, sliding


class Phase(NamedTuple):
    """Along one axis, the output positions `first`, first + stride, ..

    There, `taps` of the mirrored kernel see inputs, `dilation` apart; the other taps see gaps between inputs.
    """

    first: int
    taps: range
    dilation: int
    begin: int


@lowers("ConvTranspose", attrs=(*WINDOW_ATTRS, "group", "output_padding", "output_shape"))
def lower_conv_transpose(ctx: Lowering, node: Node) -> None:
    """The Conv that does what the window does backwards, over an input with stride - 1 gaps between its elements."""
    x = ctx.value(node.input(0))
    weights, bias, groups = parameters(ctx, node, x.rank)
    if groups < 1 or weights.shape[0] != x.shape[1] or weights.shape[0] % groups:
        raise ShapeError(f"weights {weights.shape} with group = {groups} do not fit {x.shape[1]} input channels")
    scales = following(ctx, node, 1, (weights, bias))
    out = ctx.out(scales.last, reads=node.inputs)
    strides = sliding(node, x, out, weights.shape[2:]).stride
    window = _mirrored(node, sliding(node, x, out, weights.shape[2:]), x, out)
    axes = [list(_phases(window, axis, s, out.shape[2 + axis])) for axis, s in enumerate(strides)]
    for phases in product(*axes):
        target = out
        for axis, (phase, stride) in enumerate(zip(phases, strides, strict=True), start=2):
            target = target.slice(axis, phase.first, -(-(out.shape[axis] - phase.first) // stride), stride)
        _lower_phase(ctx, node, (weights, bias, groups), scales, x, target, phases)


def _phases(window: Sliding, axis: int, stride: int, extent: int) -> Iterator[Phase]:
    """The phases of one axis, whose output has `extent` positions.

    Tap j of position o sees input (o + j dilation - begin) / stride, if that is whole.
    """
    dilation, (begin, _) = window.dilation[axis], window.pads[axis]
    step = stride // gcd(stride, dilation)
    for first in range(min(stride, extent)):
        seeing = (j for j in range(window.kernel[axis]) if (first + j * dilation - begin) % stride == 0)
        start = next(seeing, window.kernel[axis])
        taps = range(start, window.kernel[axis], step)
        yield Phase(first, taps, step * dilation // stride, (begin - first - start * dilation) // stride)


def _lower_phase(
    ctx: Lowering,
    node: Node,
    given: tuple[np.ndarray, np.ndarray | None, int],
    scales: Scales,
    x: Tensor,
    out: Tensor,
    phases: tuple[Phase, ...],
) -> None:
    weights, bias, groups = given
    axes = zip(phases, x.shape[2:], strict=True)
    if any(not phase.taps or -phase.begin >= extent for phase, extent in axes):
        _fill_with_bias(ctx, out, scales.into(weights, bias, 1)[1])
        return
    taps = tuple(phase.taps for phase in phases)

    def make() -> np.ndarray:
        spatial = (slice(t.start, t.stop, t.step) for t in taps)
        chosen = _turned(weights, groups)[(slice(None), slice(None), *spatial)]
        return pack(*scales.into(chosen, bias, 0), groups)

    names, sources = (node.input(1), node.input(2), *scales.names), (weights, bias, *scales.sources)
    packed = ctx.packed("conv_transpose", names, sources, (groups, taps), make)
    window = Sliding(
        tuple(map(len, taps)), (1,) * len(taps), tuple(p.dilation for p in phases), tuple((p.begin, 0) for p in phases)
    )
    x, window = crop(x, window)
    ctx.builder.conv(planar(out).view, planar(x).view, packed, groups, window.core())


def _fill_with_bias(ctx: Lowering, out: Tensor, bias: np.ndarray | None) -> None:
    if bias is None:
        ctx.fill(out, 0.0)
    else:
        ctx.copy(out, ctx.constant(bias.reshape(-1, *(1,) * (out.rank - 2))))


def _mirrored(node: Node, window: Sliding, x: Tensor, out: Tensor) -> Sliding:
    """The window of the Conv that does what `window` does backwards: stride 1, padding counted from the other side."""
    begins = [begin for begin, _ in window.pads]
    if "output_shape" in node.attrs or node.attrs.get("auto_pad", "NOTSET").startswith("SAME"):
        begins = _begins_for_shape(node, window, x, out)
    reach = [dilation * (kernel - 1) for kernel, dilation in zip(window.kernel, window.dilation, strict=True)]
    pads = tuple((far - begin, 0) for far, begin in zip(reach, begins, strict=True))
    return window._replace(stride=(1,) * len(reach), pads=pads)


def _begins_for_shape(node: Node, window: Sliding, x: Tensor, out: Tensor) -> list[int]:
    """Half of the padding that makes the output as long as asked for; the odd one goes first unless SAME_UPPER."""
    extra = node.attrs.get("output_padding") or (0,) * len(window.kernel)
    axes = zip(x.shape[2:], out.shape[2:], window.kernel, window.stride, window.dilation, extra, strict=True)
    totals = [stride * (n - 1) + more + dilation * (k - 1) + 1 - want for n, want, k, stride, dilation, more in axes]
    upper = node.attrs.get("auto_pad") == "SAME_UPPER"
    return [total // 2 if upper else total - total // 2 for total in totals]


def _turned(weights: np.ndarray, groups: int) -> np.ndarray:
    """Weights [C, M / groups, ..] -> [M, C / groups, ..] with every spatial axis reversed."""
    channels, out_channels, *kernel = weights.shape
    split = weights.reshape(groups, channels // groups, out_channels, *kernel).swapaxes(1, 2)
    turned = np.flip(split, tuple(range(3, split.ndim)))
    return turned.reshape(groups * out_channels, channels // groups, *kernel)
