"""Conv1d: a convolution over time. A causal one keeps the last inputs as state, so that it can be streamed."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from gateinfer.errors import GateInferError, shown
from gateinfer.layers.activations import apply_activation, check_activation
from gateinfer.layers.builder import GraphBuilder, Signal
from gateinfer.layers.simple import check_features, to_optional, to_weight

_LAST: Final = 2**31 - 1


class Conv1d:
    """Windows over time times a kernel: x [N, T, C] -> [N, T', O].

    With padding="causal" and stride 1 the last dilation·(K - 1) inputs are state: a stream of chunks equals one long
    run. Other paddings look ahead or start anew with every chunk, so such a model only runs whole sequences, unless
    the model is built with per_frame=True.

    Parameters
    ----------
    weight : array [O, C / groups, K], or [K, C / groups, O] with layout="keras"
    bias : array [O], optional
    activation : str, optional
    stride, dilation, groups : int
    padding : "valid", "same", "causal", int or (int, int)
        Zeros before and after the sequence; a number for both.
    padding_mode : "zeros" or "reflect"
    layout : "torch" or "keras"
    """

    word = "conv1d"

    def __init__(
        self,
        weight: Any,
        bias: Any = None,
        activation: str | None = None,
        *,
        stride: int = 1,
        padding: Any = "valid",
        dilation: int = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        layout: str = "torch",
    ) -> None:
        if layout not in ("torch", "keras"):
            raise GateInferError(f"layout={shown(layout)}: expected 'torch' for [O, C, K] or 'keras' for [K, C, O]")
        kernel = to_weight("conv1d.weight", weight).expect_rank(3, "[O, C, K]" if layout == "torch" else "[K, C, O]")
        self.kernel = np.ascontiguousarray(kernel if layout == "torch" else kernel.transpose(2, 1, 0))
        self.output_size, per_group, self.width = map(int, self.kernel.shape)
        for name, value in (("stride", stride), ("dilation", dilation), ("groups", groups)):
            if not isinstance(value, (int, np.integer)) or value < 1:
                raise GateInferError(f"{name}={shown(value)}: expected a whole number of at least 1")
        self.stride, self.dilation, self.groups = int(stride), int(dilation), int(groups)
        if self.output_size % self.groups:
            raise GateInferError(f"groups={groups}: does not divide the {self.output_size} outputs of conv1d.weight")
        self.input_size = per_group * self.groups
        given = to_optional("conv1d.bias", bias)
        self.bias = None if given is None else given.expect((self.output_size,), "[O]")
        self.activation = check_activation(activation)
        if padding_mode not in ("zeros", "reflect"):
            raise GateInferError(f"padding_mode={shown(padding_mode)}: expected 'zeros' or 'reflect'")
        self.reflects = padding_mode == "reflect"
        self.reach = self.dilation * (self.width - 1)
        self.pads = self._pads(padding)
        self.is_causal = self.pads == (self.reach, 0) and not self.reflects
        self.keeps_state = self.is_causal and self.stride == 1 and self.reach > 0

    def _pads(self, padding: Any) -> tuple[int, int] | None:
        """Zeros before and after; None for "same" with a stride, where they depend on the length."""
        if isinstance(padding, str):
            half = self.reach // 2
            known = {"valid": (0, 0), "causal": (self.reach, 0), "same": (half, self.reach - half)}
            if padding not in known:
                raise _no_padding(padding)
            return None if padding == "same" and self.stride > 1 else known[padding]
        pair = (padding, padding) if isinstance(padding, (int, np.integer)) else padding
        try:
            begin, end = map(int, pair)
        except Exception:  # iterating over a caller's object may raise anything
            raise _no_padding(padding) from None
        if begin < 0 or end < 0:
            raise GateInferError(f"padding={shown(padding)}: expected numbers of at least 0")
        return begin, end

    def build(self, b: GraphBuilder, x: Signal) -> Signal:
        if not x.in_time:
            raise b.fail("it runs over time, which an earlier layer with return_sequences=False has taken away")
        check_features(b, x, self.input_size, "; is its weight meant for another layout=?")
        planar = b.add("Transpose", x.name, perm=[0, 2, 1])
        if self.keeps_state and not b.per_frame:
            value = self._convolve(b, self._with_cache(b, planar), (0, 0))
        elif self.reflects and self.pads is not None:
            pads = b.integers("pads", 0, 0, self.pads[0], 0, 0, self.pads[1])
            value = self._convolve(b, b.add("Pad", planar, pads, mode="reflect"), (0, 0))
        else:
            value = self._convolve(b, planar, self.pads)
        if not self.keeps_state and not b.per_frame and (self.reach or self.stride > 1):
            b.unstreamable = b.unstreamable or self._why_not(b.layer)
        y = apply_activation(b, self.activation, b.add("Transpose", value, perm=[0, 2, 1]))
        keeps_length = self.stride == 1 and self.pads is not None and sum(self.pads) == self.reach
        return x.to(y, features=self.output_size, steps=x.steps if keeps_length else None)

    def _why_not(self, layer: str) -> str:
        how = f"stride {self.stride}" if self.is_causal else "padding that is not causal"
        return f'layer "{layer}" (Conv1d with {how}) mixes frames over time without a state to carry on'

    def _with_cache(self, b: GraphBuilder, x: str) -> str:
        """x [N, C, T] behind the `reach` frames before it, which are state [N, C, reach]."""
        cache = b.state("cache", ("N", self.input_size, self.reach))
        joined = b.add("Concat", cache, x, axis=2)
        bounds = (b.integers("from", -self.reach), b.integers("to", _LAST), b.integers("axis", 2))
        b.carry(cache, b.add("Slice", joined, *bounds))
        return joined

    def _convolve(self, b: GraphBuilder, x: str, pads: tuple[int, int] | None) -> str:
        bias = () if self.bias is None else (b.constant("bias", self.bias),)
        window: dict[str, Any] = {"auto_pad": "SAME_UPPER"} if pads is None else {"pads": list(pads)}
        window |= {"strides": [self.stride], "dilations": [self.dilation], "kernel_shape": [self.width]}
        return b.add("Conv", x, b.constant("weight", self.kernel), *bias, group=self.groups, **window)


def _no_padding(padding: Any) -> GateInferError:
    return GateInferError(f"padding={shown(padding)}: expected 'valid', 'same', 'causal', a number or a pair")
