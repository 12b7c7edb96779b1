"""Folding: everything that can be known before the first frame is computed once, and what nobody needs is dropped."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from gateinfer.errors import ShapeError
from gateinfer.graph.bind import check_shape
from gateinfer.graph.evaluate import FOLDABLE
from gateinfer.graph.ir import Graph, Node, Port, Shapes, TensorType
from gateinfer.graph.rewriter import ForeignTypes, Rewriter
from gateinfer.graph.sequences import SEQUENCE_OPS


def fold_constants(graph: Graph) -> Graph:
    """Fold what does not depend on input shapes.

    Nodes on constants are evaluated, an `If` on a constant condition becomes its branch, and nodes no output needs are
    dropped, in sub-graphs as well. Constants of sub-graphs move to the main graph. Values are renamed where the result
    would define a name twice; inputs and outputs keep theirs.
    """
    rewriter = Rewriter(graph, static=False)
    for port in graph.inputs:
        rewriter.define(rewriter.main, port.name)
    return rewriter.finish(graph)


def specialize(
    graph: Graph,
    shapes: Shapes,
    values: Mapping[str, np.ndarray] | None = None,
    foreign: ForeignTypes | None = None,
) -> Graph:
    """Fold everything that follows from the shapes of all inputs and the values of some.

    Parameters
    ----------
    graph : of a loader, or of `fold_constants`, which makes repeated calls cheaper. It is not changed.
    shapes : of the inputs that stay inputs. An input without an entry takes its declared shape if that is static.
    values : constants for some inputs; these inputs disappear. Inputs with a default that are in neither become
        constants too.
    foreign : says the output types of nodes without a shape rule, which may then stay in the graph.

    Returns
    -------
    A graph without `If` whose `types` are complete and static. An output may also name an input or a constant.

    Raises
    ------
    ShapeError
        For shapes and values that do not fit the inputs or each other.
    UnsupportedOp
        Naming every needed node that has no shape rule, or whose shape depends on run-time values.
    ModelError
        When folding would exceed its budget.
    """
    values = values or {}
    unknown = sorted((set(shapes) | set(values)) - {p.name for p in graph.inputs})
    if unknown:
        raise ShapeError(f"no inputs called {', '.join(unknown)}; expected {', '.join(p.name for p in graph.inputs)}")
    rewriter = Rewriter(graph, static=True, foreign=foreign)
    rewriter.empty = any(0 in shape for shape in shapes.values())
    inputs = [port for port in graph.inputs if _bind_input(rewriter, port, shapes, values, graph.defaults)]
    result = rewriter.finish(graph)
    result.inputs = [Port(p.name, rewriter.types[p.name]) for p in inputs]
    result.outputs = [Port(p.name, rewriter.types[p.name]) for p in result.outputs]
    result.defaults = {}
    return result


def _bind_input(
    rewriter: Rewriter, port: Port, shapes: Shapes, values: Mapping[str, np.ndarray], defaults: Mapping[str, np.ndarray]
) -> bool:
    """Enters one input into the rewriter; True when it stays an input."""
    name = rewriter.define(rewriter.main, port.name)
    if port.name in values or (port.name in defaults and port.name not in shapes):
        array = np.asarray(values.get(port.name, defaults.get(port.name)))
        check_shape(port, array.shape)
        if array.dtype != port.dtype:
            raise ShapeError(f'constant for input "{port.name}": expected {port.dtype}, got {array.dtype}')
        rewriter.set_constant(name, array)
        return False
    shape = shapes.get(port.name, port.shape)
    found = TensorType(port.dtype, None if shape is None else tuple(shape))
    if not found.is_static:
        raise ShapeError(f'input "{port.name}": its shape is not known; declared {port.shape}')
    check_shape(port, found.extents)
    rewriter.types[name] = found
    return True


def unsupported(graph: Graph, native: Collection[str]) -> list[str]:
    """Labels of the nodes of the main graph that no specialisation can make runnable.

    A node is fine when it is native or an `If`, or when it can be folded and may turn out constant. It cannot turn out
    constant when it computes on a floating-point input: those are never bound to constants.
    """
    varying = {p.name for p in graph.inputs if p.dtype.kind == "f" and p.name not in graph.defaults}
    refused = []
    for node in graph.nodes:
        varies = node.op not in ("Shape", "Size") and not varying.isdisjoint(node.inputs)
        if varies:
            varying.update(node.outputs)
        if not _may_run(node, native, varies):
            refused.append(node.label())
    return refused


def _may_run(node: Node, native: Collection[str], varies: bool) -> bool:
    if node.domain:
        return False
    may_vanish = node.op in ("If", "Identity") or node.op in SEQUENCE_OPS or (node.op in FOLDABLE and not varies)
    return node.op in native or may_vanish
