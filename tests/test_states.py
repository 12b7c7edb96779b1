"""State detection: by dataflow, by name, as given, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from gateinfer.errors import StateMismatch
from gateinfer.graph.ir import Graph, Node, Port, TensorType
from gateinfer.graph.states import detect_states, names_match

F32 = np.dtype(np.float32)


def port(name, *shape):
    return Port(name, TensorType(F32, tuple(shape)))


def graph(inputs, outputs, nodes):
    return Graph([port(*i) for i in inputs], [port(*o) for o in outputs], nodes, {})


def lstm(x, h, c, y, hn, cn):
    return Node("LSTM", (x, "W", "R", "", "", h, c), (y, hn, cn))


def pairs(g, given=None):
    return {s.input: s.output for s in detect_states(g, given)}


@pytest.mark.parametrize(
    "source, target",
    [
        ("state", "stateN"),
        ("h", "hn"),
        ("c", "cn"),
        ("h_vad", "hn_vad"),
        ("x_in", "x_out"),
        ("conv_cache", "conv_cache_out"),
        ("cache", "new_cache"),
        ("prevState", "nextState"),
        ("in_state_1_h", "out_state_1_h"),
    ],
)
def test_names_that_match(source, target):
    assert names_match(source, target)


@pytest.mark.parametrize(
    "source, target", [("input", "output"), ("h", "cn"), ("mix", "enh"), ("h_vad", "hn_noise"), ("x", "x")]
)
def test_names_that_do_not_match(source, target):
    assert not names_match(source, target)


def test_dataflow_beats_names():
    """Names say h -> cn; the graph says otherwise, and the graph is right."""
    g = graph(
        [("x", 1, 1, 4), ("h", 1, 1, 8), ("c", 1, 1, 8)],
        [("y", 1, 1, 1, 8), ("c_out", 1, 1, 8), ("h_out", 1, 1, 8)],
        [lstm("x", "h", "c", "y", "c_out", "h_out")],
    )
    assert pairs(g) == {"h": "c_out", "c": "h_out"}


def test_one_tensor_with_h_and_c_through_slices_and_concat():
    g = graph(
        [("x", 1, 1, 4), ("state", 2, 1, 8)],
        [("y", 1, 1, 1, 8), ("after", 2, 1, 8)],
        [
            Node("Slice", ("state", "s0", "e0"), ("h",)),
            Node("Slice", ("state", "s1", "e1"), ("c",)),
            lstm("x", "h", "c", "y", "hn", "cn"),
            Node("Concat", ("hn", "cn"), ("after",), {"axis": 0}),
        ],
    )
    assert pairs(g) == {"state": "after"}


def test_state_inside_both_branches_of_an_if():
    def branch(tag):
        inner = [Node("Identity", ("state",), (f"h{tag}",)), lstm("x", f"h{tag}", f"h{tag}", f"y{tag}", f"n{tag}", "")]
        return Graph([], [port(f"n{tag}", 1, 1, 8)], inner, {})

    g = graph(
        [("x", 1, 1, 4), ("state", 1, 1, 8)],
        [("after", 1, 1, 8)],
        [Node("If", ("cond",), ("after",), {"then_branch": branch("a"), "else_branch": branch("b")})],
    )
    assert pairs(g) == {"state": "after"}


def test_caches_without_recurrent_nodes_are_paired_by_name_and_shape():
    g = graph(
        [("mix", 1, 257), ("conv_cache", 2, 16), ("tra_cache", 3, 16)],
        [("enh", 1, 257), ("tra_cache_out", 3, 16), ("conv_cache_out", 2, 16)],
        [Node("Relu", ("mix",), ("enh",))],
    )
    assert pairs(g) == {"conv_cache": "conv_cache_out", "tra_cache": "tra_cache_out"}


def test_matching_name_with_another_shape_is_no_state():
    g = graph([("h", 1, 8)], [("hn", 1, 9)], [Node("Relu", ("h",), ("hn",))])
    assert pairs(g) == {}


def test_two_equally_good_outputs_are_an_error_that_lists_them():
    g = graph(
        [("x", 1, 1, 4), ("h", 1, 1, 8)],
        [("first", 1, 1, 8), ("second", 1, 1, 8)],
        [
            Node("GRU", ("x", "W", "R", "", "", "h"), ("", "n")),
            Node("Identity", ("n",), ("first",)),
            Node("Identity", ("n",), ("second",)),
        ],
    )
    with pytest.raises(StateMismatch, match=r"first.*second"):
        detect_states(g)
    assert pairs(g, {"h": "second"}) == {"h": "second"}


def test_given_pairs_are_checked():
    g = graph([("h", 1, 8)], [("y", 1, 9), ("hn", 1, 8)], [])
    with pytest.raises(StateMismatch, match="inputs are h"):
        detect_states(g, {"nope": "hn"})
    with pytest.raises(StateMismatch, match="h"):
        detect_states(g, {"h": "y"})
    assert pairs(g, {"h": "hn"}) == {"h": "hn"}


def test_numbers_tell_states_apart():
    """Although 0 and 1 may as well be what tells the two ends of one state apart."""
    g = graph(
        [("x", 1, 4), ("cache0", 1, 8), ("cache1", 1, 8)],
        [("y", 1, 4), ("cache1_out", 1, 8), ("cache0_out", 1, 8)],
        [],
    )
    assert pairs(g) == {"cache0": "cache0_out", "cache1": "cache1_out"}


def test_a_net_has_a_frame():
    """What goes in must not be taken for state because it comes out under a similar name."""
    assert pairs(graph([("audio", 1, 4)], [("audio_out", 1, 4)], [])) == {}
    both = graph([("x", 1, 4), ("h", 1, 4)], [("x_out", 1, 4), ("h_out", 1, 4)], [])
    with pytest.raises(StateMismatch, match="x_out.*h_out"):
        detect_states(both)
    assert pairs(both, {"h": "h_out"}) == {"h": "h_out"}
