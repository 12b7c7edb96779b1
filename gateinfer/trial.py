"""What is told when a model is loaded: whether it runs at its shapes, or, where they are open, at any."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress

import numpy as np

from gateinfer.binding import state_shapes
from gateinfer.errors import GateInferError, UnsupportedOp
from gateinfer.graph.ir import RECURRENT, Graph, Port, Shapes, all_nodes
from gateinfer.graph.sequences import SEQUENCE_OPS
from gateinfer.graph.states import detect_states
from gateinfer.graph.weights import known_weights

EXTENTS = (16, 1, 3)
"""What open extents are taken as, in turn, until the graph can be specialised."""


def native_refusal(refused: Collection[str]) -> UnsupportedOp:
    """The error for nodes, by label, that have no native form where nothing else may run them."""
    listed = "\n  ".join(refused)
    return UnsupportedOp(
        f"{len(refused)} node(s) cannot run natively:\n  {listed}\n"
        "Install onnxruntime and load with fallback='onnxruntime' to run them there, or export the model without them."
    )


def plan_first(graph: Graph, shapes: Shapes, plan: Callable[..., object]) -> None:
    """Make the plan that is asked for first: of streams where the file has states, else of `run`.

    Parameters
    ----------
    graph : folded.
    shapes : of all inputs without a default.
    plan : `Model.plan`, which raises what is wrong.
    """
    with suppress(GateInferError):  # states may be ambiguous or not fit, which a stream tells and `run` does not mind
        if states := detect_states(graph):
            carried = {state.input for state in states}
            ports = [port for port in graph.inputs if port.name in carried]
            first = next(state_shapes(graph, ports, {}, shapes, {}))
            plan({**shapes, **first}, {}, tuple((state.input, state.output) for state in states))
            return
    plan(shapes, {})


def refuse_out_of_range(graph: Graph, rounded: Callable[[np.ndarray], np.ndarray]) -> None:
    """Raise what `Target.rounded` says of recurrent weights in the file, which any shapes would meet."""
    for node in graph.nodes:
        if node.op not in RECURRENT or node.domain or (weights := known_weights(node, graph.constants)) is None:
            continue  # weights that come at run time stay float32
        for array in weights[:2]:
            rounded(np.ascontiguousarray(array, np.float32))


def refuse_hopeless(graph: Graph, suspects: Collection[str], specialize: Callable[[Shapes], Graph]) -> None:
    """Raise what some nodes lead to whatever the shapes are.

    Parameters
    ----------
    graph : folded; no input without a default decides over it, and the rank of each is known.
    suspects : labels of nodes without a native form; those that work with lists are as well.
    specialize : makes the graph for these shapes of all inputs without a default.

    Raises
    ------
    UnsupportedOp
        No try succeeds, and more than one fails because of such a node.
    """
    suspects = {*suspects, *_list_nodes(graph)}
    fed = [port for port in graph.inputs if port.name not in graph.defaults]
    refusals: list[str] = []
    for extent in EXTENTS if suspects else ():
        try:
            specialize({port.name: _filled(port, extent) for port in fed})
            return
        except UnsupportedOp as error:
            if not any(label in str(error) for label in suspects):
                return
            refusals.append(str(error))
        except GateInferError:  # these shapes may not fit, others may
            continue
    if len(refusals) > 1:
        tried = "" if len(set(refusals)) == 1 else " (with small extents where the file leaves them open)"
        raise UnsupportedOp(f"the model cannot run, whatever its inputs: {refusals[0]}{tried}")


def _list_nodes(graph: Graph) -> Iterator[str]:
    """Labels of sequence operators that folding left, and of what reads their results."""
    made: set[str] = set()
    for node in all_nodes(graph):
        if node.op in SEQUENCE_OPS and not node.domain:
            made.update(node.outputs)
            yield node.label()
        elif not made.isdisjoint(node.inputs):
            yield node.label()


def _filled(port: Port, extent: int) -> tuple[int, ...]:
    return tuple(d if isinstance(d, int) else extent for d in port.shape or ())
