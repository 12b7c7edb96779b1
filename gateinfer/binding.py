"""Buffers of a stream: what its frames' shapes make of the ports, and which shapes its states may have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from gateinfer.errors import StateMismatch
from gateinfer.feeds import new_buffer
from gateinfer.graph.bind import bind_shapes
from gateinfer.graph.ir import Graph, Port, Shapes
from gateinfer.plan import Plan


class Binding:
    """A program for one set of frame shapes with its input and output buffers."""

    def __init__(self, plan: Plan, states: Mapping[str, np.ndarray]) -> None:
        self.runner = plan.lowered.new_runner()
        self.inputs: dict[str, np.ndarray] = {}
        self.outputs: dict[str, np.ndarray] = {}
        for name, (tensor, dtype, shape) in plan.lowered.inputs.items():
            if name not in states:
                self.inputs[name] = new_buffer(shape, dtype, name)
            self.runner.bind(tensor, states[name] if name in states else self.inputs[name])
        for name, (tensor, dtype, shape) in plan.lowered.outputs.items():
            self.outputs[name] = new_buffer(shape, dtype, name)
            self.runner.bind(tensor, self.outputs[name])


def state_shapes(
    graph: Graph, ports: Iterable[Port], known: Shapes, shapes: Shapes, values: Mapping[str, np.ndarray]
) -> Iterator[dict[str, tuple[int, ...]]]:
    """Candidate shapes of all states: extents nobody named are those of a default, else 1, else one of the frames'.

    `ports` are the states, `known` the shapes of those that have one, `shapes` and `values` of frames and constants.
    """
    dims = bind_shapes(graph, {**shapes, **known, **{n: v.shape for n, v in values.items()}})
    open_ports = [port for port in ports if port.name not in known]

    def filled(guess: int) -> dict[str, tuple[int, ...]]:
        return {**known, **{p.name: _filled(p, dims, guess, graph.defaults.get(p.name)) for p in open_ports}}

    first = filled(1)
    yield first
    for guess in sorted({d for shape in shapes.values() for d in shape if d > 1}):
        other = filled(guess)
        if other != first:
            yield other


def check_carry(plan: Plan, pairs: tuple[tuple[str, str], ...]) -> None:
    """Raises StateMismatch when an output does not have the shape of the state it becomes."""
    for source, output in pairs:
        got, wanted = plan.lowered.outputs[output][2], plan.lowered.inputs[source][2]
        if got != wanted:
            raise StateMismatch(f"state {source!r} has shape {wanted}, but {output!r} gives {got}")


def _filled(port: Port, dims: Mapping[str, int], guess: int, default: np.ndarray | None) -> tuple[int, ...]:
    """The port's shape: named extents from `dims`, what is still open from the default, where 1 is `guess`."""
    if port.shape is None:
        raise StateMismatch(f"not even the rank of state {port.name!r} is known; pass shapes={{{port.name!r}: ...}}")
    own = default.shape if default is not None and default.ndim == len(port.shape) else (1,) * len(port.shape)
    open_extents = (extent if extent != 1 else guess for extent in own)
    return tuple(
        d if isinstance(d, int) else dims.get(d, extent) if d else extent
        for d, extent in zip(port.shape, open_extents, strict=True)
    )
