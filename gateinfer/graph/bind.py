"""Named dimensions: what actual shapes say about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from gateinfer.errors import ShapeError
from gateinfer.graph.ir import Dim, Graph, Port, Shapes


def check_shape(port: Port, shape: tuple[int, ...], what: str = "input") -> None:
    """Check rank and declared numbers of one port; named and unknown extents accept anything.

    Raises
    ------
    ShapeError
        Calls the port `what`.
    """
    if port.shape is None:
        return
    if len(shape) != len(port.shape):
        raise ShapeError(
            f"{what} {port.name!r}: expected rank {len(port.shape)} {spell(port.shape)}, got {len(shape)} {shape}"
        )
    for axis, (declared, extent) in enumerate(zip(port.shape, shape, strict=True)):
        if isinstance(declared, int) and declared != extent:
            _mismatch(port, axis, str(declared), shape, what)


def spell(shape: tuple[Dim, ...] | None) -> str:
    """A declared shape as text: (batch, ?, 128)."""
    if shape is None:
        return "(any shape)"
    return "(" + ", ".join("?" if d is None else str(d) for d in shape) + ("," if len(shape) == 1 else "") + ")"


def bind_shapes(graph: Graph, shapes: Shapes) -> dict[str, int]:
    """Unify the named dimensions of the graph's inputs with actual shapes.

    Parameters
    ----------
    shapes : of any subset of the inputs, by name.

    Returns
    -------
    The extent of every named dimension that the shapes fix.

    Raises
    ------
    ShapeError
        For an unknown input, another rank, another extent than declared, or two extents for one name. onnxruntime
        lets the last one pass; callers that must follow it use `check_shape` instead.
    """
    ports = {p.name: p for p in graph.inputs}
    unknown = sorted(shapes.keys() - ports.keys())
    if unknown:
        raise ShapeError(f"no inputs called {', '.join(unknown)}; the model has {', '.join(ports)}")
    bound: dict[str, int] = {}
    for name, shape in shapes.items():
        port = ports[name]
        check_shape(port, shape)
        for axis, (declared, extent) in enumerate(zip(port.shape or shape, shape, strict=True)):
            if isinstance(declared, str) and bound.setdefault(declared, extent) != extent:
                _mismatch(port, axis, f"{bound[declared]} ({declared} of another axis)", shape)
    return bound


def resolve(port: Port, dims: Mapping[str, int]) -> tuple[int, ...] | None:
    """The static shape of `port` under `dims`, or None when an extent stays open."""
    if port.shape is None:
        return None
    extents = [dims.get(d) if isinstance(d, str) else d for d in port.shape]
    return None if None in extents else tuple(extents)  # type: ignore[arg-type]


def _mismatch(port: Port, axis: int, expected: str, shape: tuple[int, ...], what: str = "input") -> NoReturn:
    raise ShapeError(
        f"{what} {port.name!r}, axis {axis}: expected {expected}, got {shape[axis]} "
        f"(declared {spell(port.shape)}, given {shape})"
    )
