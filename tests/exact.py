"""Real models in float64, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from corpus import Arrays, ZooCase

from gateinfer.graph.fold import fold_constants, specialize
from gateinfer.loaders.onnx import load_onnx
from gateinfer.reference import compile_graph


def exact_steps(case: ZooCase) -> Iterator[Arrays]:
    """All outputs of every frame or call by name, state outputs included, with the state handed back."""
    graph, states = fold_constants(load_onnx(case.model)), dict(case.initial)
    compiled: dict[tuple, Callable[[Arrays], Arrays]] = {}
    for feeds, _ in case.calls():
        shapes = {name: np.shape(array) for name, array in (feeds | states).items()}
        key = tuple(shapes.items())
        if key not in compiled:
            compiled[key] = compile_graph(specialize(graph, shapes, case.constant_feeds()))
        results = compiled[key](feeds | states)
        states = {name: results[output] for name, output in case.states.items()}
        yield results
