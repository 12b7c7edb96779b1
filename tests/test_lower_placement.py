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
