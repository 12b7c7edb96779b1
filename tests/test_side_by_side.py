"""Small layers that share the lanes of one block: the bits of each one alone, whoever its neighbours are."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import gateinfer as gi
from gateinfer._core import Runner


def layer(i: int, hidden: int, x: str, width: int = 5, **attrs) -> tuple[onnx.NodeProto, dict[str, np.ndarray]]:
    rng = np.random.default_rng(i)
    shapes = {"W": (1, 3 * hidden, width), "R": (1, 3 * hidden, hidden), "B": (1, 6 * hidden)}
    weights = {f"{name}{i}": rng.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    attrs = {"hidden_size": hidden, "linear_before_reset": 1, **attrs}
    return helper.make_node("GRU", [x, *weights, "", f"h{i}"], [f"y{i}", f"n{i}"], **attrs), weights


def made(nodes, weights, feeds: dict[str, np.ndarray], outputs: list[str], **options) -> gi.Model:
    def port(name: str, shape) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    read = [port(name, feeds[name].shape) for name in feeds if any(name in node.input for node in nodes)]
    stored = [numpy_helper.from_array(w, name) for name, w in weights.items()]
    graph = helper.make_graph(nodes, "g", read, [port(name, None) for name in outputs], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return gi.load(model.SerializeToString(), **options)


def model_of(layers, feeds: dict[str, np.ndarray], **options) -> gi.Model:
    nodes = [node for node, _ in layers]
    weights = {name: w for _, found in layers for name, w in found.items()}
    return made(nodes, weights, feeds, [name for node in nodes for name in node.output], **options)


def results(layers, feeds: dict[str, np.ndarray]) -> tuple[gi.Model, dict[str, np.ndarray]]:
    model = model_of(layers, feeds)
    found = model.run(None, {port.name: feeds[port.name] for port in model.inputs})
    return model, dict(zip((port.name for port in model.outputs), found, strict=True))


def make_feeds(count: int, hidden: int, steps: int, rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng((count, hidden, steps))
    states = {f"h{i}": rng.uniform(-1, 1, (1, rows, hidden)).astype(np.float32) for i in range(count)}
    return {"X": rng.uniform(-1, 1, (steps, rows, 5)).astype(np.float32), **states}


def program_of(model: gi.Model, feeds: dict[str, np.ndarray]):
    return model.plans.get({port.name: feeds[port.name].shape for port in model.inputs}, {})


def op_count(model: gi.Model, feeds: dict[str, np.ndarray]) -> int:
    return program_of(model, feeds).lowered.program.op_names.count("gru")


@pytest.mark.parametrize("size", [(9, 1), (1, 7), (150, 1), (1, 150)], ids=["time", "rows", "long", "wide"])
@pytest.mark.parametrize("hidden", [1, 3, 4, 5, 8, 9])
@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_bits_of_each_alone(count, hidden, size):
    """Every second one runs backward. How many share an op: as many as 16 lanes hold, and never more than 4."""
    feeds = make_feeds(count, hidden, *size)
    directions = ["forward", "reverse"] * 3
    layers = [layer(i, hidden, "X", direction=directions[i]) for i in range(count)]
    model, together = results(layers, feeds)
    for one in layers:
        _, alone = results([one], feeds)
        for name, wanted in alone.items():
            np.testing.assert_array_equal(together[name].view(np.uint32), wanted.view(np.uint32), err_msg=name)
    assert op_count(model, feeds) == -(-count // max(1, min(4, 16 // hidden)))


def test_layers_of_other_inputs():
    """Where recurrent weights lie depends on the size of the input."""
    feeds = make_feeds(3, 4, 9, 1)
    feeds |= {f"X{i}": np.random.default_rng(i).uniform(-1, 1, (9, 1, 2 + 7 * i)).astype(np.float32) for i in range(3)}
    layers = [layer(i, 4, f"X{i}", 2 + 7 * i) for i in range(3)]
    model, together = results(layers, feeds)
    assert op_count(model, feeds) == 1
    for i, one in enumerate(layers):
        np.testing.assert_array_equal(together[f"y{i}"], results([one], feeds)[1][f"y{i}"])


@pytest.mark.parametrize("size", [(70, 1), (1, 70)], ids=["time", "rows"])
def test_memory_of_what_lies_between_layers(size):
    """Three levels of two layers that feed the next level through work memory, which the plan shares out again."""
    feeds, levels = make_feeds(6, 5, *size), []
    for level in range(3):
        source = "X" if level == 0 else f"c{level - 1}"
        pair = [layer(2 * level + k, 5, source, 5 if level == 0 else 10) for k in range(2)]
        flat = [helper.make_node("Squeeze", [f"y{2 * level + k}", "axis"], [f"f{2 * level + k}"]) for k in range(2)]
        concat = helper.make_node("Concat", [f"f{2 * level}", f"f{2 * level + 1}"], [f"c{level}"], axis=2)
        levels.append((pair, flat, concat))
    nodes = [node for pair, flat, concat in levels for node in (*(n for n, _ in pair), *flat, concat)]
    weights = {name: w for pair, _, _ in levels for _, found in pair for name, w in found.items()}
    model = made(nodes, weights | {"axis": np.array([1])}, feeds, ["c2"])
    (found,) = model.run(None, {port.name: feeds[port.name] for port in model.inputs})
    assert op_count(model, feeds) == 3
    x = feeds["X"]
    for level, (pair, _, _) in enumerate(levels):
        fed = {**feeds, f"c{level - 1}" if level else "X": x}
        x = np.concatenate([results([one], fed)[1][one[0].output[0]][:, 0] for one in pair], axis=2)
    np.testing.assert_array_equal(found, x)


def test_a_state_that_goes_over_what_another_layer_reads():
    """The first layer's last state is the second one's first: they take turns."""
    feeds = make_feeds(2, 5, 9, 1)
    first, (second, weights) = layer(0, 5, "X"), layer(1, 5, "X")
    second.input[5] = "n0"
    model, found = results([first, (second, weights)], feeds)
    assert op_count(model, feeds) == 2
    _, then = results([layer(1, 5, "X")], {**feeds, "h1": found["n0"]})
    np.testing.assert_array_equal(found["y1"], then["y1"])


def test_a_team_takes_large_layers_apart():
    """Enough rows for threads to share: with and without them, the same bits."""
    feeds = make_feeds(2, 8, 1, 4000)
    layers = [layer(i, 8, "X") for i in range(2)]
    alone, shared = (model_of(layers, feeds, threads=threads) for threads in (1, 2))
    fed = {port.name: feeds[port.name] for port in alone.inputs}
    for name, a, b in zip(alone.outputs, alone.run(None, fed), shared.run(None, fed), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name.name)


def test_infinity_stays_in_its_cell():
    """A neighbour's lanes are never multiplied with it, not even by a weight of zero."""
    feeds = make_feeds(2, 4, 9, 1)
    layers = [layer(i, 4, "X") for i in range(2)]
    _, calm = results(layers, feeds)
    feeds["h0"] = np.full_like(feeds["h0"], np.inf)
    _, wild = results(layers, feeds)
    assert not np.isfinite(wild["y0"]).all()
    np.testing.assert_array_equal(wild["y1"], calm["y1"])


def test_a_layer_that_reads_another_one_waits_for_it():
    feeds = make_feeds(2, 5, 9, 1)
    first, second = layer(0, 5, "X"), layer(1, 5, "flat")
    flat = helper.make_node("Squeeze", ["y0", "axis"], ["flat"])
    chain = [first, (flat, {"axis": np.array([1])}), second]
    model, found = results(chain, feeds)
    assert op_count(model, feeds) == 2
    _, alone = results([first], feeds)
    _, then = results([layer(1, 5, "X")], {**feeds, "X": alone["y0"][:, 0]})
    np.testing.assert_array_equal(found["y1"], then["y1"])


@pytest.mark.parametrize("attrs", [{"clip": 0.3}, {"linear_before_reset": 0}, {"activations": ["HardSigmoid", "Tanh"]}])
def test_other_cells_run_alone(attrs):
    feeds = make_feeds(2, 4, 9, 1)
    layers = [layer(0, 4, "X"), layer(1, 4, "X", **attrs)]
    model, found = results(layers, feeds)
    assert op_count(model, feeds) == 2
    _, alone = results(layers[1:], feeds)
    np.testing.assert_array_equal(found["y1"], alone["y1"])


def test_chunks():
    layers = [layer(i, 4, "X") for i in range(3)]
    feeds = make_feeds(3, 4, 10, 1)
    _, whole = results(layers, feeds)
    x, pieces = feeds["X"], []
    for chunk in (x[:5], x[5:]):
        _, found = results(layers, {**feeds, "X": chunk})
        feeds |= {f"h{i}": found[f"n{i}"] for i in range(3)}
        pieces.append(found)
    for i in range(3):
        np.testing.assert_array_equal(np.concatenate([piece[f"y{i}"] for piece in pieces]), whole[f"y{i}"])


@pytest.mark.parametrize("size", [(6, 1), (1, 6)], ids=["time", "rows"])
@pytest.mark.parametrize(("count", "program_rows"), [(2, 3), (3, 3), (2, 9), (3, 9)])
def test_rows_of_a_program(count, program_rows, size):
    """Many rows of two layers run as if they were alone."""
    layers = [layer(i, 4, "X") for i in range(count)]
    rows = [{name: a + row / 8 for name, a in make_feeds(count, 4, *size).items()} for row in range(program_rows)]
    wanted = [results(layers, feeds)[1] for feeds in rows]
    model, _ = results(layers, rows[0])
    plan = program_of(model, rows[0])
    runner, found = Runner(plan.lowered.program, program_rows), {}
    for name, (tensor, *_) in plan.lowered.inputs.items():
        runner.bind(tensor, np.stack([feeds[name] for feeds in rows]))
    for name, (tensor, dtype, shape) in plan.lowered.outputs.items():
        found[name] = np.zeros((program_rows, *shape), dtype)
        runner.bind(tensor, found[name])
    runner.step()
    for name, array in found.items():
        np.testing.assert_array_equal(array, np.stack([row[name] for row in wanted]), err_msg=name)
