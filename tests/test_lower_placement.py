"""Windows on memory against NumPy, and random graphs of them: wherever a value lives, it is what it should be."""

from __future__ import annotations

import numpy as np
import pytest
from pipeline import (
    Arrays,
    check,
    integers,
    node,
    random,
)

from gateinfer.lower.tensor import Tensor


@pytest.mark.parametrize("seed", range(60))
def test_windows(seed):
    """Chains of views show what NumPy's do; a reshape is either expressed exactly or refused."""
    rng = np.random.default_rng(seed)
    array = np.arange(np.prod(shape := rng.integers(1, 5, rng.integers(1, 5)))).reshape(shape)
    tensor, memory = Tensor.dense(0, np.int64, array.shape), array.ravel()
    for _ in range(4):
        array, tensor = random_view(rng, array, tensor)
        itemsize = memory.itemsize
        strides = [s * itemsize for s in tensor.strides]
        shown = np.lib.stride_tricks.as_strided(memory[tensor.offset :], tensor.shape, strides)
        np.testing.assert_array_equal(shown, array)


def random_view(rng: np.random.Generator, array: np.ndarray, tensor: Tensor) -> tuple[np.ndarray, Tensor]:
    axis = int(rng.integers(array.ndim)) if array.ndim else 0
    kind = rng.integers(5) if array.ndim else 0
    if kind == 0:
        return np.expand_dims(array, axis), tensor.unsqueeze(axis)
    if kind == 1:
        perm = rng.permutation(array.ndim).tolist()
        return array.transpose(perm), tensor.transpose(perm)
    if kind == 2:
        start, step = array.shape[axis] - 1, -int(rng.integers(1, 3))
        kept = np.moveaxis(np.moveaxis(array, axis, 0)[::step], 0, axis)
        return kept, tensor.slice(axis, start, kept.shape[axis], step)
    if kind == 3:
        return np.broadcast_to(array, (2, *array.shape)), tensor.broadcast_to((2, *array.shape))
    shape = rng.permutation([n for n in array.shape if n > 1] + [1]).tolist()
    view = tensor.reshape(shape)
    return (array, tensor) if view is None else (array.reshape(shape), view)


@pytest.mark.parametrize("seed", range(150))
def test_random_graphs(seed):
    """Windows, joins and several outputs in one graph: whatever lives where, every value is what it should be."""
    rng = np.random.default_rng(seed)
    values = {"X": random(2, 3, 4, seed=seed), "Z": random(4, 3, seed=seed)}
    feeds, constants, nodes = dict(values), {}, []
    for step in range(12):
        source = str(rng.choice(list(values)[-5:]))
        op, made, attrs, extra = random_op(rng, values, source)
        names = {f"c{step}_{i}": array for i, array in enumerate(extra) if not isinstance(array, str)}
        operands = [array for array in extra if isinstance(array, str)]
        constants |= names
        nodes.append(node(op, " ".join([source, *operands, *names]), f"v{step}", **attrs))
        values[f"v{step}"] = made
    outputs = tuple(rng.permutation(list(values)[2:])[: rng.integers(1, 6)].tolist())
    check(nodes, feeds, constants, opset=13, outputs=outputs)


def random_op(rng: np.random.Generator, values: Arrays, source: str) -> tuple[str, np.ndarray, dict, list]:
    """(operator, result, attributes, further operands: names of values or constant arrays)."""
    x = values[source]
    axis = int(rng.integers(x.ndim))
    partners = [n for n, v in values.items() if v.shape == x.shape]
    match int(rng.integers(8)):
        case 0:
            return "Relu", np.maximum(x, 0), {}, []
        case 1:
            perm = rng.permutation(x.ndim).tolist()
            return "Transpose", x.transpose(perm), {"perm": perm}, []
        case 2:
            shape = rng.permutation([*x.shape, 1][-5:] if x.ndim < 5 else x.shape)
            return "Reshape", x.reshape(shape), {}, [integers(*shape)]
        case 3:
            start, step = int(rng.integers(x.shape[axis])), int(rng.choice([1, 2, -1]))
            limit = integers(np.iinfo(np.int64).max if step > 0 else np.iinfo(np.int64).min)
            kept = np.moveaxis(np.moveaxis(x, axis, 0)[start::step], 0, axis)
            return "Slice", kept, {}, [integers(start), limit, integers(axis), integers(step)]
        case 4 | 5 if x.size < 500:
            partner = str(rng.choice(partners))
            return "Concat", np.concatenate([x, values[partner]], axis), {"axis": axis}, [partner]
        case 6:
            flat = np.zeros(2 * x.ndim, np.int64)
            flat[[axis, axis + x.ndim]] = rng.integers(0, 2, 2)
            return "Pad", np.pad(x, list(zip(flat[: x.ndim], flat[x.ndim :], strict=True))), {}, [flat]
        case _:
            partner = str(rng.choice(partners))
            return "Sub", x - values[partner], {}, [partner]


# ---- scatters that replace everything --------------------------------------------------------------------------------


def window_of(shape: tuple[int, ...], axis: int, start: int, stop: int) -> np.ndarray:
    """The index [.., axes] of a ScatterND that writes positions [start, stop) of `axis`, all of the axes before it."""
    extents = [range(n) for n in shape[:axis]] + [range(start, stop)]
    return np.stack(np.meshgrid(*extents, indexing="ij"), axis=-1).astype(np.int64)


def cache_of_layers(spans: list[tuple[int, int]]):
    """A chain that reads spans[i] of the cache as it is then and writes it doubled: nodes, feeds, constants, result."""
    shape = (2, 7, 3)
    nodes, constants, source = [], {}, "X"
    for i, (start, stop) in enumerate(spans):
        constants |= {f"s{i}": integers(start), f"e{i}": integers(stop), "axis": integers(1)}
        constants[f"i{i}"] = window_of(shape, 1, start, stop)
        nodes.append(node("Slice", f"{source} s{i} e{i} axis", f"old{i}"))
        nodes.append(node("Add", f"old{i} old{i}", f"new{i}"))
        nodes.append(node("ScatterND", f"{source} i{i} new{i}", f"c{i}"))
        source = f"c{i}"
    return nodes, {"X": random(*shape)}, constants, source


COMPLETE = [(2, 5), (0, 2), (5, 7)]


def copies(lowered) -> int:
    return lowered.program.op_names.count("copy")


def test_a_cache_that_is_replaced_is_never_copied():
    """Results go straight to their slice of the output: the slices are read where they were."""
    nodes, feeds, constants, last = cache_of_layers(COMPLETE)
    assert copies(check(nodes, feeds, constants, opset=18, outputs=(last,))) == 0


@pytest.mark.parametrize(
    "spans",
    [
        [(2, 5), (0, 2)],  # some old elements stay
        [(0, 4), (3, 7)],  # the second window reads and covers a part of the first
        [(0, 3), (0, 3), (3, 7)],  # one window twice
        [(0, 7)],
    ],
)
def test_chains_that_are_not_side_by_side(spans):
    nodes, feeds, constants, last = cache_of_layers(spans)
    check(nodes, feeds, constants, opset=18, outputs=(last,))


@pytest.mark.parametrize("read", ["c0", "c1", "old1"])
def test_steps_of_a_chain_that_are_outputs(read):
    nodes, feeds, constants, last = cache_of_layers(COMPLETE)
    check(nodes, feeds, constants, opset=18, outputs=(read, last))


def test_a_scatter_that_adds_is_no_replacement():
    nodes, feeds, constants, last = cache_of_layers(COMPLETE)
    nodes[-1] = node("ScatterND", "c1 i2 new2", last, reduction="add")
    check(nodes, feeds, constants, opset=18, outputs=(last,))


def test_layers_on_the_first_axis_by_number():
    """A position is picked and written by its number, as `cache[1] = f(cache[1])` is exported."""
    nodes, constants, source = [], {}, "X"
    for i in (1, -3, 2):
        constants |= {f"n{i}": np.array(i), f"i{i}": np.array([[i]])}
        nodes.append(node("Gather", f"{source} n{i}", f"old{i}", axis=0))
        nodes.append(node("Unsqueeze", f"old{i} first", f"line{i}"))
        nodes.append(node("Neg", f"line{i}", f"new{i}"))
        nodes.append(node("ScatterND", f"{source} i{i} new{i}", f"c{i}"))
        source = f"c{i}"
    lowered = check(nodes, {"X": random(3, 4)}, {**constants, "first": integers(0)}, opset=18, outputs=("c2",))
    assert copies(lowered) == 0


@pytest.mark.parametrize("seed", range(40))
def test_random_chains(seed):
    """Windows anywhere, read before and after they are written, some steps outputs."""
    rng = np.random.default_rng(seed)
    spans = [sorted(rng.choice(8, 2, replace=False).tolist()) for _ in range(4)] if seed % 2 else list(COMPLETE)
    rng.shuffle(spans)
    nodes, feeds, constants, last = cache_of_layers([(a, b) for a, b in spans])
    outputs = {last, *rng.choice([n.output[0] for n in nodes], rng.integers(0, 3)).tolist()}
    check(nodes, feeds, constants, opset=18, outputs=tuple(sorted(outputs)))
