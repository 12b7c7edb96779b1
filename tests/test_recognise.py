"""Hand-written cells: every spelling is found and keeps its figures; what only looks like a cell keeps them too."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from recognised import agrees, cells, specialised
from spellings import Speller, blend, complement, finished, gru_step, lstm_step

import gateinfer as gi
from gateinfer.errors import StateMismatch
from gateinfer.graph.fold import fold_constants, specialize
from gateinfer.graph.recognise import WeightStore, recognise
from gateinfer.loaders.onnx import load_onnx

SIZES = [(1, 5, 8), (3, 5, 8), (2, 7, 7), (1, 1, 1), (4, 3, 17)]
"""N, I, H."""


def _lstm(seed: int, sizes: tuple[int, int, int]) -> onnx.ModelProto:
    rows, width, hidden = sizes
    s = Speller(np.random.default_rng(seed))
    new_h, new_c = lstm_step(s, "x", "h", "c", sizes)
    return finished(s, [(new_h, "hn"), (new_c, "cn")], {"x": (rows, width), "h": (rows, hidden), "c": (rows, hidden)})


def _gru(seed: int, sizes: tuple[int, int, int]) -> onnx.ModelProto:
    rows, width, hidden = sizes
    s = Speller(np.random.default_rng(seed))
    new_h = gru_step(s, "x", "h", sizes)
    return finished(s, [(new_h, "hn")], {"x": (rows, width), "h": (rows, hidden)})


# ---- spellings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("seed", range(24))
def test_any_spelling_of_an_lstm(seed, sizes):
    proto = _lstm(seed, sizes)
    assert [cell.op for cell in cells(proto)] == ["LSTM"]
    agrees(proto)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("seed", range(24))
def test_any_spelling_of_a_gru(seed, sizes):
    proto = _gru(seed, sizes)
    assert [cell.op for cell in cells(proto)] == ["GRU"]
    agrees(proto)


def _peephole(s: Speller, hidden: int) -> tuple[str, str]:
    """An LSTM whose i and f see c and whose o sees c'."""
    i, o, f, g = s.sums([("x", 5), ("h", hidden)], 4, hidden, 1, bias=True)
    i, f = (s.emit("Sigmoid", s.add(v, s.mul("c", s.const(s.weights(hidden))))) for v in (i, f))
    new_c = s.add(s.mul(f, "c"), s.mul(i, s.emit("Tanh", g)))
    o = s.emit("Sigmoid", s.add(o, s.mul(new_c, s.const(s.weights(hidden)))))
    return s.mul(o, s.emit("Tanh", new_c)), new_c


@pytest.mark.parametrize("seed", range(8))
def test_peepholes(seed):
    s = Speller(np.random.default_rng(seed))
    new_h, new_c = _peephole(s, 8)
    proto = finished(s, [(new_h, "hn"), (new_c, "cn")], {"x": (1, 5), "h": (1, 8), "c": (1, 8)})
    (cell,) = cells(proto)
    assert len(cell.inputs) == 8
    agrees(proto)


def test_gates_that_share_one_activation():
    s = Speller(np.random.default_rng(0))
    joint = s.product(s.emit("Concat", "x", "h", axis=1), s.weights(13, 32), s.weights(32))
    gates = s.emit("Sigmoid", s.emit("Slice", joint, s.ints(0), s.ints(24), s.ints(1)))
    i, f, o = s.emit("Split", gates, outputs=3, axis=1)
    g = s.emit("Tanh", s.emit("Slice", joint, s.ints(24), s.ints(32), s.ints(1)))
    new_c = s.add(s.mul(f, "c"), s.mul(i, g))
    proto = finished(s, [(s.mul(o, s.emit("Tanh", new_c)), "hn"), (new_c, "cn")], _ports())
    assert len(cells(proto)) == 1
    agrees(proto)


def test_coupled_gates():
    """C' = f c + (1 - f) g."""
    s = Speller(np.random.default_rng(0))
    o, f, g = s.sums([("x", 5), ("h", 8)], 3, 8, 2, bias=True)
    f = s.emit("Sigmoid", f)
    new_c = s.add(s.mul(f, "c"), s.mul(complement(s, f), s.emit("Tanh", g)))
    proto = finished(s, [(s.mul(s.emit("Sigmoid", o), s.emit("Tanh", new_c)), "hn"), (new_c, "cn")], _ports())
    assert len(cells(proto)) == 1
    agrees(proto)


def test_vectors_times_matrices_from_the_left():
    """W @ x + U @ h on vectors, as the text books write it."""
    s = Speller(np.random.default_rng(0))

    def gate(act: str) -> str:
        products = [s.emit("MatMul", s.const(s.weights(8, k)), v) for v, k in (("x", 5), ("h", 8))]
        return s.emit(act, s.add(s.add(*products), s.const(s.weights(8))))

    new_c = s.add(s.mul(gate("Sigmoid"), "c"), s.mul(gate("Sigmoid"), gate("Tanh")))
    new_h = s.mul(gate("Sigmoid"), s.emit("Tanh", new_c))
    proto = finished(s, [(new_h, "hn"), (new_c, "cn")], {"x": (5,), "h": (8,), "c": (8,)})
    assert len(cells(proto)) == 1
    agrees(proto)


# ---- several steps, several layers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2])
def test_a_product_over_all_steps_moves_into_them(rows):
    s = Speller(np.random.default_rng(3))
    joint = s.emit("MatMul", "x", s.const(s.weights(5, 32)))
    r, h, c = s.const(s.weights(8, 32)), "h", "c"
    for t in range(3):
        x = s.emit("Gather", joint, s.const(t, np.int64), axis=1)
        i, o, f, g = s.cut(s.add(x, s.emit("MatMul", h, r)), 4, 8, rows)
        i, o, f = (s.emit("Sigmoid", v) for v in (i, o, f))
        c = s.add(s.mul(f, c), s.mul(i, s.emit("Tanh", g)))
        h = s.mul(o, s.emit("Tanh", c))
    proto = finished(s, [(h, "hn"), (c, "cn")], {"x": (rows, 3, 5), "h": (rows, 8), "c": (rows, 8)})
    graph = recognise(specialised(proto))
    assert [node.op for node in graph.nodes if node.op in ("LSTM", "MatMul")] == ["LSTM"]
    agrees(proto, steps=3)


def test_stacked_layers_with_one_state():
    s = Speller(np.random.default_rng(1))
    h0, c0, h1, c1 = (s.emit("Gather", "state", s.const(k, np.int64), axis=0) for k in range(4))
    h0, c0 = lstm_step(s, "x", h0, c0, (2, 5, 8))
    h1, c1 = lstm_step(s, h0, h1, c1, (2, 8, 8))
    after = s.emit("Concat", *(s.emit("Unsqueeze", v, s.ints(0)) for v in (h0, c0, h1, c1)), axis=0)
    proto = finished(s, [(h1, "y"), (after, "after")], {"x": (2, 5), "state": (4, 2, 8)})
    assert len(cells(proto)) == 2
    agrees(proto)
    loaded = gi.load(proto.SerializeToString(), fallback=None)
    assert {state.input: state.output for state in loaded.states} == {"state": "after"}


# ---- near misses -----------------------------------------------------------------------------------------------------


def _ports(**more: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {"x": (2, 5), "h": (2, 8), "c": (2, 8), **more}


def _near_lstm(change: str) -> onnx.ModelProto:
    s = Speller(np.random.default_rng(4))
    sources = [("x", 5), ("h", 8)]
    i, o, f, g = (s._sum(sources, 8, True) for _ in range(4))
    if change == "a gate of another tensor":
        o = s._sum([("x", 5), ("other", 8)], 8, True)
    if change == "weights that come at run time":
        f = s.emit("MatMul", "h", "matrix")
    pre = f
    i, o, f = (s.emit("Sigmoid", v) for v in (i, o, f))
    g = s.emit("Tanh", g)
    if change == "two kinds of gates":
        f = s.emit("HardSigmoid", pre)
    if change == "a gate without h":
        i = s.emit("Sigmoid", s._sum([("x", 5)], 8, True))
    first, second = s.mul(f, "c"), s.mul(i, g)
    new_c = s.emit("Sub", first, second) if change == "a wrong sign" else s.add(first, second)
    if change == "a leaking state":
        new_c = s.mul(new_c, s.const(0.9))
    if change == "c in the place of c'":
        return finished(s, [(s.mul(o, s.emit("Tanh", "c")), "hn"), (new_c, "cn")], _ports())
    new_h = s.mul(o, s.emit("Tanh", new_c))
    results = [(new_h, "hn"), (new_c, "cn")]
    if change == "a gate that is also an output":
        results.append((f, "gate"))
    if change == "a product that something else needs":
        results.append((pre, "product"))
    more = {"other": (2, 8)} if change == "a gate of another tensor" else {}
    more |= {"matrix": (8, 8)} if change == "weights that come at run time" else {}
    return finished(s, results, _ports(**more))


@pytest.mark.parametrize(
    "change",
    [
        "a gate of another tensor",
        "weights that come at run time",
        "two kinds of gates",
        "a gate without h",
        "a wrong sign",
        "c in the place of c'",
        "a gate that is also an output",
        "a product that something else needs",
    ],
)
def test_what_only_looks_like_an_lstm(change):
    proto = _near_lstm(change)
    assert not cells(proto)
    agrees(proto)


def test_what_follows_a_cell_stays():
    """A state that leaks after the cell has no h' of its own act(c'): nothing is fused, or just the right part."""
    agrees(_near_lstm("a leaking state"))


def _near_gru(change: str) -> onnx.ModelProto:
    s = Speller(np.random.default_rng(5))
    sources = [("x", 5), ("h", 8)]
    z, r = (s.emit("Sigmoid", s._sum(sources, 8, True)) for _ in range(2))
    state = "c" if change == "a reset of another state" else "h"
    n = s.emit("Tanh", s._sum([("x", 5), (s.mul(r, state), 8)], 8, True))
    if change == "no reset":
        n = s.emit("Tanh", s._sum(sources, 8, True))
    if change == "gates that do not add up":
        return finished(s, [(s.add(s.mul(z, "h"), s.mul(r, n)), "hn")], _ports())
    if change == "2 - z":
        return finished(s, [(s.add(s.mul(z, "h"), s.mul(s.emit("Sub", s.const(2.0), z), n)), "hn")], _ports())
    if change == "z - 1":
        return finished(s, [(s.add(s.mul(z, "h"), s.mul(s.emit("Sub", z, s.const(1.0)), n)), "hn")], _ports())
    return finished(s, [(blend(s, z, n, "c" if change == "another state" else "h"), "hn")], _ports())


@pytest.mark.parametrize(
    "change",
    ["a reset of another state", "no reset", "gates that do not add up", "2 - z", "z - 1", "another state"],
)
def test_what_only_looks_like_a_gru(change):
    proto = _near_gru(change)
    assert not cells(proto)
    agrees(proto)


@pytest.mark.parametrize("seed", range(40))
def test_random_surgery_never_changes_figures(seed):
    """One input of one node of a cell becomes some other value of the same shape."""
    rng = np.random.default_rng(seed)
    proto = (_lstm if seed % 2 else _gru)(seed, (2, 8, 8))
    shapes = {p.name: p for p in onnx.shape_inference.infer_shapes(proto).graph.value_info}
    like = {n for n, p in shapes.items() if [d.dim_value for d in p.type.tensor_type.shape.dim] == [2, 8]}
    like |= {p.name for p in proto.graph.input}
    places = [(k, i) for k, found in enumerate(proto.graph.node) for i, name in enumerate(found.input) if name in like]
    index, position = places[rng.integers(len(places))]
    made = {o for earlier in proto.graph.node[:index] for o in earlier.output} | {p.name for p in proto.graph.input}
    choices = sorted(like & made)
    proto.graph.node[index].input[position] = choices[rng.integers(len(choices))]
    agrees(proto)


# ---- around it -------------------------------------------------------------------------------------------------------


def test_other_shapes_share_the_weights():
    s = Speller(np.random.default_rng(0))
    joint = s.emit("Gemm", s.emit("Concat", "x", "h", axis=1), s.const(s.weights(13, 32)), s.const(s.weights(32)))
    i, o, f, g = s.emit("Split", joint, outputs=4, axis=1)
    i, o, f = (s.emit("Sigmoid", v) for v in (i, o, f))
    new_c = s.add(s.mul(f, "c"), s.mul(i, s.emit("Tanh", g)))
    ports = {"x": ("n", 5), "h": ("n", 8), "c": ("n", 8)}
    proto = finished(s, [(s.mul(o, s.emit("Tanh", new_c)), "hn"), (new_c, "cn")], ports)
    graph, store = fold_constants(load_onnx(proto.SerializeToString())), WeightStore()
    found = []
    for rows in (1, 4):
        shapes = {"x": (rows, 5), "h": (rows, 8), "c": (rows, 8)}
        made = recognise(specialize(graph, shapes), store)
        (cell,) = [node for node in made.nodes if node.origin]
        found.append([made.constants[name] for name in cell.inputs[1:4]])
    assert all(a is b for a, b in zip(*found, strict=True))


def test_an_input_as_wide_as_the_state_leaves_it_open():
    """Nothing tells x from h: the figures are right, but no state is guessed."""
    s = Speller(np.random.default_rng(0))
    new_h, new_c = lstm_step(s, "first", "second", "third", (1, 8, 8))
    ports = dict.fromkeys(("first", "second", "third"), (1, 8))
    proto = finished(s, [(new_h, "fourth"), (new_c, "fifth")], ports)
    loaded = gi.load(proto.SerializeToString(), fallback=None)
    with pytest.raises(StateMismatch, match=r"first, second"):
        _ = loaded.states
    agrees(proto)


def test_names_tell_an_open_state():
    loaded = gi.load(_lstm(0, (1, 8, 8)).SerializeToString(), fallback=None)
    assert {state.input: state.output for state in loaded.states} == {"h": "hn", "c": "cn"}


def test_summary_says_what_was_recognised():
    text = str(gi.load(_lstm(0, (1, 5, 8)).SerializeToString(), fallback=None).summary())
    assert "LSTM recognised from" in text and "Concat" in text


def test_zoo_cells(zoo):
    loaded = gi.load(zoo("dtln-2").model, fallback=None)
    assert [node.op for node in loaded.plan({p.name: p.shape for p in loaded.inputs}, {}).graph.nodes if node.origin]
    assert {state.input: state.output for state in loaded.states} == {"input_5": "tf_op_layer_stack_5"}
