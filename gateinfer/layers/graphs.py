"""Whole graphs from arrays: one recurrent module, or layers one after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from gateinfer.errors import GateInferError, ModelError, shown
from gateinfer.graph.checks import refuse_nonfinite_weights
from gateinfer.graph.ir import Graph
from gateinfer.layers.builder import INDEX, GraphBuilder, Signal
from gateinfer.layers.recurrent import Recurrent, checked_options
from gateinfer.layers.simple import Embedding
from gateinfer.weights.arrays import listed
from gateinfer.weights.stack import Arrays, Stack, read_stack

_READING = ("reset_after", "linear_before_reset", "forget_bias", "allow_nonfinite")


class Layer(Protocol):
    """What `sequential_graph` puts together."""

    @property
    def word(self) -> str:
        """Name that its constants, nodes and states begin with."""

    @property
    def keeps_state(self) -> bool:
        """True when a stream has something to carry on for this layer."""

    @property
    def input_size(self) -> int | None:
        """Features it takes, None for ids or any number."""

    def build(self, b: GraphBuilder, x: Signal) -> Signal:
        """Adds the layer's nodes behind `x` and returns its result."""


def weights_graph(
    arrays: Arrays,
    kind: str | None = None,
    layout: str | None = None,
    *,
    prefix: str | None = None,
    batch_first: bool | None = None,
    bidirectional: bool | None = None,
    num_layers: int | None = None,
    hidden_size: int | None = None,
    input_size: int | None = None,
    proj_size: int | None = None,
    **options: Any,
) -> Graph:
    """The graph of one recurrent module; see `gateinfer.from_weights`."""
    reading = {name: options.pop(name) for name in _READING if name in options}
    chosen = checked_options(**options)
    stack = read_stack(arrays, kind, layout, prefix=prefix, **reading)
    if prefix is None and stack.others:
        raise ModelError(_leftover(stack))
    claims = {"bidirectional": bidirectional, "num_layers": num_layers, "hidden_size": hidden_size}
    _check_claims(stack, claims | {"input_size": input_size, "proj_size": proj_size})
    time_first = not (stack.layout in ("keras", "tf") if batch_first is None else batch_first)
    b = GraphBuilder()
    b.alone = True
    x = b.input(Signal("x", stack.input_size, time_first=time_first))
    b.enter(stack.kind)
    b.output(Recurrent.of(stack, chosen).build(b, x), "y")
    return b.finish()


def _leftover(stack: Stack) -> str:
    return (
        f"{len(stack.others)} arrays belong to no recurrent layer: {listed(stack.others)}; pass prefix= to use the "
        f"recurrent weights alone (prefix='' when they have none), or put the whole model together with "
        f"gateinfer.Sequential([gateinfer.layers.{stack.kind.upper()}(arrays), gateinfer.layers.Dense(...)])"
    )


def _check_claims(stack: Stack, claims: Mapping[str, Any]) -> None:
    found = {
        "bidirectional": stack.directions == 2,
        "num_layers": len(stack.layers),
        "hidden_size": stack.hidden_size,
        "input_size": stack.input_size,
        "proj_size": stack.proj_size,
    }
    for name, claim in claims.items():
        if claim is not None and claim != found[name]:
            raise ModelError(f"{name}={shown(claim)}, but the weights say {found[name]!r}")


def sequential_graph(layers: Sequence[Layer], *, per_frame: bool = False, allow_nonfinite: bool = False) -> Graph:
    """The graph of layers one after another; see `gateinfer.Sequential`."""
    layers = list(layers)
    _check_layers(layers)
    b = GraphBuilder()
    b.per_frame = per_frame
    b.alone = sum(layer.keeps_state for layer in layers) == 1
    takes_ids = isinstance(layers[0], Embedding)
    features = None if takes_ids else next((layer.input_size for layer in layers if layer.input_size), None)
    if features is None and not takes_ids:
        raise GateInferError("no layer says how many features x has; one with weights is needed")
    x = b.input(Signal("x", features), *((INDEX,) if takes_ids else ()))
    for layer in layers:
        b.enter(layer.word)
        x = layer.build(b, x)
    b.output(x, "y")
    graph = b.finish()
    if not allow_nonfinite:
        refuse_nonfinite_weights(graph)
    return graph


def _check_layers(layers: Sequence[Layer]) -> None:
    if not layers:
        raise GateInferError("Sequential needs at least one layer")
    for position, layer in enumerate(layers):
        if isinstance(layer, type) or not all(hasattr(layer, name) for name in ("word", "build", "keeps_state")):
            raise GateInferError(f"layer {position}: expected an instance of gateinfer.layers, got {shown(layer)}")
