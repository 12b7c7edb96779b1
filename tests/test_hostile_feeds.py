"""Feeds and calls made to hurt: each ends in a GateInferError or a right result, and the stream goes on afterwards."""

from __future__ import annotations

import io
import os
import threading
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from nets import gather_net, recurrent_net
from onnx_models import model, node

import gateinfer as gi
import gateinfer.model
from gateinfer._core import RunCalls
from gateinfer.errors import GateInferError, ModelError, ShapeError, StateMismatch

GOOD = np.linspace(-1, 1, 3, dtype=np.float32).reshape(1, 1, 3)


@pytest.fixture(scope="module")
def gru() -> gi.Model:
    """x [T, N, 3], h [1, N, 5] -> y [T, N, 2], hn."""
    return gi.load(recurrent_net("GRU"))


@pytest.fixture(scope="module")
def expected(gru: gi.Model) -> np.ndarray:
    """What a new stream answers to GOOD."""
    return gru.stream()(GOOD)


class _Raises:
    """An object whose conversion fails in a way of its own."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise self.error

    def __iter__(self) -> Any:
        raise self.error


class _RaisesItsText(_Raises):
    def __repr__(self) -> str:
        raise self.error


class _Endless:
    def __len__(self) -> int:
        return 2**62

    def __getitem__(self, index: int) -> float:
        return 1.0


def _deep() -> list[Any]:
    """A list nested too deeply for repr."""
    found: list[Any] = []
    for _ in range(100_000):
        found = [found]
    return found


class _NumpyRaises:
    def numpy(self) -> np.ndarray:
        raise ZeroDivisionError


_FEEDS: dict[str, Any] = {
    "none": None,
    "text": "x",
    "ragged": [[1, 2], [3]],
    "object": np.array([None] * 3, object).reshape(1, 1, 3),
    "structured": np.zeros((1, 1, 3), [("a", "f4")]),
    "complex": GOOD.astype("c8"),
    "dates": np.zeros((1, 1, 3), "M8[s]"),
    "integers": np.ones((1, 1, 3), "i8"),
    "float64-overflowing": np.full((1, 1, 3), 1e300),
    "integers-of-400-digits": [[[10**400, 1, 2]]],
    "masked": np.ma.masked_array(GOOD, GOOD > 0),
    "scalar": np.float32(1),
    "rank-32": np.zeros((1,) * 32, np.float32),
    "another-width": np.zeros((1, 1, 4), np.float32),
    "terabytes": np.broadcast_to(np.float32(1), (2**40, 1, 3)),
    "raises-key-error": _Raises(KeyError("evil")),
    "raises-memory-error": _Raises(MemoryError()),
    "numpy-method-raises": _NumpyRaises(),
    "endless": _Endless(),
    "deep": _deep(),
}


@pytest.mark.parametrize("value", _FEEDS.values(), ids=_FEEDS.keys())
def test_feeds_that_are_refused(gru: gi.Model, expected: np.ndarray, value: Any) -> None:
    stream = gru.stream()
    for call in (
        lambda: gru.run(None, {"x": value, "h": np.zeros((1, 1, 5), np.float32)}),
        lambda: stream(value),
        lambda: stream.state.update(h=value),
        lambda: gru.stream(initial={"h": value})(GOOD),
        lambda: gru.stream(constants={"x": value}),
    ):
        with pytest.raises(GateInferError):
            call()
    np.testing.assert_array_equal(stream(GOOD), expected)


_SAME: dict[str, Callable[[np.ndarray], Any]] = {
    "strided": lambda a: np.repeat(np.repeat(a, 2, axis=0), 3, axis=2)[::2, :, ::3],
    "reversed": lambda a: a[..., ::-1].copy()[..., ::-1],
    "fortran": np.asfortranarray,
    "big-endian": lambda a: a.astype(">f4"),
    "float64": lambda a: a.astype(np.float64),
    "big-endian-float64": lambda a: a.astype(">f8"),
    "unaligned": lambda a: np.ndarray(a.shape, a.dtype, bytearray(b"\0" + a.tobytes()), 1),
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "list": lambda a: a.tolist(),
    "memoryview": lambda a: memoryview(a),
    "subclass": lambda a: a.view(type("Sub", (np.ndarray,), {})),
    "masked-nowhere": lambda a: np.ma.masked_array(a),
}


@pytest.mark.parametrize("spelling", _SAME.values(), ids=_SAME.keys())
def test_other_spellings_of_the_same_frames(gru: gi.Model, spelling: Callable[[np.ndarray], Any]) -> None:
    frames = np.random.default_rng(0).standard_normal((4, 1, 3), dtype=np.float32)
    np.testing.assert_array_equal(gru.stream()(spelling(frames)), gru.stream()(frames))


# ---- arguments of a wrong kind ---------------------------------------------------------------------------------------

_WRONG = [5, "text", [1], ["h"], np.zeros((1, 1, 3)), {1: 2}, {"h": 5}, {"x": None}, {"zz": (1, 1)}, len]


@pytest.mark.parametrize("keyword", ["states", "shapes", "initial", "constants"])
@pytest.mark.parametrize("value", _WRONG, ids=lambda value: repr(value)[:20])
def test_keywords_of_stream(gru: gi.Model, keyword: str, value: Any) -> None:
    with pytest.raises(GateInferError):
        gru.stream(**{keyword: value})


_NO_SHAPES = [3, None, "abc", (1.5, 1, 3), (-1, 1, 3), (1, 3), (2**62, 2**62, 3), (None, 1, 3), _Endless(),
              _Raises(OSError()), memoryview(GOOD)]  # fmt: skip


@pytest.mark.parametrize("shape", _NO_SHAPES, ids=lambda shape: repr(shape)[:20])
def test_shapes_that_are_none(gru: gi.Model, shape: Any) -> None:
    with pytest.raises(GateInferError):
        gru.stream(shapes={"x": shape})


def test_names_and_feeds_of_run(gru: gi.Model) -> None:
    feed = {"x": GOOD, "h": np.zeros((1, 1, 5), np.float32)}
    for names in ("y", 5, [5], [["y"]], np.zeros(3), ["zz"]):
        with pytest.raises(ShapeError):
            gru.run(names, feed)  # type: ignore[arg-type]
    for wrong in (None, [GOOD], {1: GOOD}, {"x": GOOD}, feed | {"zz": GOOD}):
        with pytest.raises(ShapeError):
            gru.run(None, wrong)  # type: ignore[arg-type]


def test_arguments_of_load() -> None:
    content = recurrent_net()
    for source in (None, 5, ["x"], np.zeros(3), len):
        with pytest.raises(ModelError):
            gi.load(source)  # type: ignore[arg-type]
    for keyword in ("isa", "threads", "fallback", "allow_nonfinite"):
        for value in (np.zeros(3), [1], "zebra", 7.5):
            with pytest.raises(GateInferError):
                gi.load(content, **{keyword: value})


def test_content_in_any_buffer_can_be_pickled(gru: gi.Model) -> None:
    import pickle

    for kind in (bytearray, memoryview):
        again = pickle.loads(pickle.dumps(gi.load(kind(recurrent_net("GRU")))))
        np.testing.assert_array_equal(again.stream()(GOOD), gru.stream()(GOOD))


@pytest.mark.parametrize("frames", [None, 5, np.float32(1), "x", _Raises(OSError())], ids=lambda v: type(v).__name__)
def test_frames_of_validate(gru: gi.Model, frames: Any) -> None:
    with pytest.raises(GateInferError):
        gi.validate(gru, frames)
    with pytest.raises(GateInferError):
        gi.validate(frames, [GOOD])


# ---- out= ------------------------------------------------------------------------------------------------------------


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


_OUTS: dict[str, Callable[[np.ndarray], Any]] = {
    "read-only": lambda y: _read_only(np.zeros_like(y)),
    "broadcast": lambda y: np.broadcast_to(np.float32(0), y.shape),
    "float64": lambda y: y.astype(np.float64),
    "big-endian": lambda y: y.astype(">f4"),
    "short": lambda y: y[:0],
    "list": lambda y: y.tolist(),
    "another-name": lambda y: {"zz": y.copy()},
    "a-number-for-a-name": lambda y: {1: y.copy()},
    "empty-dict": lambda y: {},
}


@pytest.mark.parametrize("out", _OUTS.values(), ids=_OUTS.keys())
def test_a_refused_out_leaves_the_state(gru: gi.Model, expected: np.ndarray, out: Callable[[np.ndarray], Any]) -> None:
    for warm in (False, True):
        stream = gru.stream()
        if warm:
            stream(GOOD)
            stream.reset()
        with pytest.raises(ShapeError):
            stream(GOOD, out=out(expected))
        np.testing.assert_array_equal(stream(GOOD), expected)


def test_out_may_overlap_the_frame(gru: gi.Model, expected: np.ndarray) -> None:
    memory = np.zeros(4, np.float32)
    memory[:3] = GOOD.ravel()
    got = gru.stream()(memory[:3].reshape(1, 1, 3), out=memory[2:4].reshape(1, 1, 2))
    np.testing.assert_array_equal(got, expected)


# ---- state -----------------------------------------------------------------------------------------------------------


def test_wrong_states_leave_the_right_one(gru: gi.Model) -> None:
    stream = gru.stream()
    stream(GOOD)
    held = stream.state["h"].copy()
    for name, value in (
        ("h", 1),
        ("h", held[..., :4]),
        ("zz", held),
        (5, held),
        ([], held),
        ("h", np.zeros((1, 2, 5))),
    ):
        with pytest.raises(StateMismatch):
            stream.state[name] = value
    for act in (stream.state.clear, stream.state.popitem, lambda: setattr(stream, "state", {"h": held})):
        with pytest.raises(GateInferError):
            act()
    with pytest.raises(ValueError):
        stream.state["h"].resize((1, 1, 5000), refcheck=False)
    np.testing.assert_array_equal(stream.state["h"], held)
    stream(GOOD)


def test_failed_lookup_at_run_time_leaves_the_stream() -> None:
    stream = gi.load(gather_net()).stream()
    good = stream(np.array([1, 2]))
    with pytest.raises(ShapeError):
        stream(np.array([1, 99]))
    np.testing.assert_array_equal(stream(np.array([1, 2])), good)


def _npy(shape: Any, descr: str = "<f4", data: bytes = b"") -> bytes:
    header = str({"descr": descr, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def _archive(method: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return content.getvalue()


_SNAPSHOTS = {
    "empty": b"",
    "no-arrays": _archive(),
    "no-array-inside": _archive(h=b"abc"),
    "header-of-terabytes": _archive(h=_npy((2**40,))),
    "header-beyond-numbers": _archive(h=_npy((10**30,))),
    "header-of-negative-extents": _archive(h=_npy((-1, 5), data=bytes(20))),
    "header-of-nonsense": _archive(h=_npy("(((((")),
    "compressed": _archive(zipfile.ZIP_DEFLATED, h=_npy((1, 1, 5), data=bytes(20))),
    "objects": _archive(h=_npy((1,), "|O", bytes(8))),
    "text-of-gigabytes": _archive(h=_npy((1,), "<U1000000000")),
    "another-shape": _archive(h=_npy((1, 1, 6), data=bytes(24))),
    "another-model": _archive(h=_npy((1, 1, 5), data=bytes(20)), c=_npy((1, 1, 5), data=bytes(20))),
}


@pytest.mark.parametrize("content", _SNAPSHOTS.values(), ids=_SNAPSHOTS.keys())
def test_snapshots_that_are_none(gru: gi.Model, content: bytes) -> None:
    stream = gru.stream()
    stream(GOOD)
    held = stream.state["h"].copy()
    with pytest.raises(StateMismatch):
        stream.restore(content)
    np.testing.assert_array_equal(stream.state["h"], held)


def test_snapshots_with_changed_bytes(gru: gi.Model) -> None:
    stream = gru.stream()
    stream(GOOD)
    held, snapshot, rng = stream.state["h"].copy(), stream.snapshot(), np.random.default_rng(0)
    for _ in range(200):
        changed = bytearray(snapshot)
        changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
        try:
            stream.restore(bytes(changed))
        except StateMismatch as error:
            assert str(error)
    stream.restore(snapshot)
    np.testing.assert_array_equal(stream.state["h"], held)


def test_a_state_may_have_any_name() -> None:
    """Names that are parameters of the functions which write archives."""
    proto = model(
        [node("Add", "x file", "fileN"), node("Mul", "x allow_pickle", "allow_pickleN"), node("Relu", "fileN", "y")],
        {"x": (2,), "file": (2,), "allow_pickle": (2,)},
        "y fileN allow_pickleN",
    )
    stream = gi.load(proto.SerializeToString()).stream(states={"file": "fileN", "allow_pickle": "allow_pickleN"})
    stream(np.ones(2, np.float32))
    fresh = stream.fork()
    fresh.reset()
    fresh.restore(stream.snapshot())
    np.testing.assert_array_equal(fresh.state["file"], stream.state["file"])


def test_ports_called_like_parts_of_a_stream() -> None:
    proto = model([node("Relu", "step", "inputs"), node("Neg", "step", "model")], {"step": (2,)}, "inputs model")
    stream = gi.load(proto.SerializeToString()).stream()
    for _ in range(2):
        got = stream(np.ones(2, np.float32))
        np.testing.assert_array_equal(got["inputs"] + got["model"], np.zeros(2))
    stream.inputs["step"][...] = 3
    stream.step()
    np.testing.assert_array_equal(stream.outputs["model"], [-3, -3])


@pytest.mark.filterwarnings("error")
def test_a_negative_variance_shows_as_nan_without_a_warning() -> None:
    parts = {name: np.ones(3, np.float32) for name in ("scale", "bias", "mean")} | {"var": -np.ones(3, np.float32)}
    proto = model([node("BatchNormalization", "x scale bias mean var", "y")], {"x": (2, 3)}, "y", parts)
    assert np.isnan(gi.load(proto.SerializeToString())(np.ones((2, 3), np.float32))).all()


# ---- little that becomes much ----------------------------------------------------------------------------------------


def _grown(*nodes: Any, feed: tuple[int, ...] = (1,), **constants: Any) -> bytes:
    return model(nodes, {"x": feed}, "y", constants).SerializeToString()


_BOMBS = {
    "expand": _grown(node("Expand", "x s", "e"), node("ReduceSum", "e", "y", keepdims=0), s=np.array([2**27])),
    "tile": _grown(node("Tile", "x s", "e"), node("ReduceMax", "e", "y", keepdims=0), s=np.array([2**27])),
    "pad": _grown(node("Pad", "x s", "y"), s=np.array([2**26, 2**26])),
    "conv-padding": _grown(
        node("Conv", "x w", "y", pads=[2**26, 2**26]), feed=(1, 1, 4), w=np.ones((1, 1, 3), np.float32)
    ),
    "constant-of-shape": _grown(node("ConstantOfShape", "s", "k"), node("Add", "k x", "y"), s=np.array([2**26])),
    "resize": _grown(node("Resize", "x _ s", "y"), feed=(1, 1, 2), s=np.array([1, 1, 2**27], np.float32)),
    "doubling": _grown(
        node("Identity", "x", "v0"),
        *[node("Concat", f"v{i} v{i}", f"v{i + 1}", axis=0) for i in range(28)],
        node("ReduceSum", "v28", "y", keepdims=0),
    ),
    "doubling-constants": _grown(
        *[node("Concat", f"v{i} v{i}", f"v{i + 1}", axis=0) for i in range(28)],
        node("ReduceSum", "v28", "r", keepdims=0),
        node("Add", "r x", "y"),
        v0=np.ones(1, np.float32),
    ),
}


@pytest.mark.parametrize("content", _BOMBS.values(), ids=_BOMBS.keys())
def test_a_few_numbers_do_not_make_gigabytes(content: bytes) -> None:
    with pytest.raises(ModelError, match="exceeds|allowed"):
        gi.load(content)


def test_growth_in_proportion_to_the_feed_is_fine() -> None:
    """16 MB in, 1 GB of results: planned, not run."""
    content = _grown(node("Tile", "x s", "y"), feed=(2**22,), s=np.array([64]))
    assert gi.load(content).outputs[0].name == "y"


def test_an_empty_result_with_impossible_extents() -> None:
    content = model(
        [node("Reshape", "x s", "y", allowzero=1)], {"x": ("n",)}, "y", {"s": np.array([0, 2**62])}
    ).SerializeToString()
    with pytest.raises(ModelError):
        gi.load(content).run(None, {"x": np.zeros(0, np.float32)})


# ---- processes and threads -------------------------------------------------------------------------------------------


def test_a_run_reads_indices_that_no_other_thread_can_change() -> None:
    """They are checked first and used then, while other threads may run."""
    net, ids, seen = gi.load(gather_net()), np.zeros(3, np.int64), []
    plan = net.plan({"ids": (3,)}, {})
    plan.calls = RunCalls(plan.lowered.inputs, plan.lowered.outputs, lambda: _Recorder(seen))
    net.run(None, {"ids": ids})
    assert seen[0].tobytes() == ids.tobytes()
    assert not any(np.shares_memory(array, ids) for array in seen)


class _Recorder:
    def __init__(self, seen: list[np.ndarray]) -> None:
        self.seen = seen

    def run(self, tensors: tuple[int, ...], arrays: list[np.ndarray]) -> None:
        self.seen += arrays


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_while_a_thread_plans(gru: gi.Model) -> None:
    """The child has no such thread: nobody there would ever give the lock back."""
    planning, done = threading.Event(), threading.Event()

    def hold() -> None:
        with gru.plans._lock:
            planning.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    planning.wait()
    child = os.fork()
    if child == 0:
        threading.Timer(5.0, os._exit, [1]).start()
        gru.stream()(np.zeros((77, 1, 3), np.float32))
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    done.set()
    thread.join()
    assert status == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_while_a_thread_looks_for_states(monkeypatch: pytest.MonkeyPatch) -> None:
    looking, done, caller = threading.Event(), threading.Event(), threading.get_ident()
    found = gateinfer.model.detect_states

    def slow(graph: Any) -> Any:
        if threading.get_ident() != caller:
            looking.set()
            done.wait()
        return found(graph)

    monkeypatch.setattr(gateinfer.model, "detect_states", slow)
    first, second = (gi.load(recurrent_net("GRU")) for _ in range(2))
    thread = threading.Thread(target=lambda: first.states)
    thread.start()
    looking.wait()
    child = os.fork()
    if child == 0:
        threading.Timer(5.0, os._exit, [1]).start()
        os._exit(0 if len(second.states) == 1 else 2)
    status = os.waitpid(child, 0)[1]
    done.set()
    thread.join()
    assert status == 0


def test_one_stream_in_many_threads_ends_in_typed_errors() -> None:
    wide = gi.load(recurrent_net("LSTM", hidden=128))
    stream, unexpected = wide.stream(), []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(60):
            try:
                act = rng.integers(4)
                if act == 0:
                    stream(np.ones((int(rng.integers(1, 60)), 1, 3), np.float32))
                elif act == 1:
                    stream.reset()
                elif act == 2:
                    stream.fork()(GOOD)
                else:
                    stream.snapshot()
            except GateInferError:
                pass
            except Exception as error:
                unexpected.append(error)

    stream(GOOD)
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not unexpected
    stream.reset()
    np.testing.assert_array_equal(stream(GOOD), wide.stream()(GOOD))


# ---- values whose text cannot be made --------------------------------------------------------------------------------

_WEIGHTS = {"weight_ih_l0": np.ones((4, 1), "f4"), "weight_hh_l0": np.ones((4, 1), "f4")}

_QUOTED: dict[str, Callable[[gi.Model, Any], object]] = {
    "isa": lambda m, v: gi.load(b"", isa=v),
    "threads": lambda m, v: gi.load(b"", threads=v),
    "fallback": lambda m, v: gi.load(b"", fallback=v),
    "constant": lambda m, v: m.stream(x=v),
    "states": lambda m, v: m.stream(states={"h": v}),
    "shapes": lambda m, v: m.stream(shapes={"x": v}),
    "initial": lambda m, v: m.stream(initial={"h": v}),
    "rows": lambda m, v: m.stream().reset(rows=v),
    "kind": lambda m, v: gi.from_weights(_WEIGHTS, kind=v),
    "layout": lambda m, v: gi.from_weights(_WEIGHTS, layout=v),
    "prefix": lambda m, v: gi.from_weights(_WEIGHTS, prefix=v),
    "clip": lambda m, v: gi.from_weights(_WEIGHTS, clip=v),
    "activation": lambda m, v: gi.from_weights(_WEIGHTS, activation=v),
    "layer": lambda m, v: gi.Sequential([v]),
    "dense-layout": lambda m, v: gi.layers.Dense(np.ones((1, 1)), layout=v),
    "conv-stride": lambda m, v: gi.layers.Conv1d(np.ones((1, 1, 1)), stride=v),
    "conv-padding": lambda m, v: gi.layers.Conv1d(np.ones((1, 1, 1)), padding=v),
    "conv-padding-mode": lambda m, v: gi.layers.Conv1d(np.ones((1, 1, 1)), padding_mode=v),
}


@pytest.mark.parametrize("call", _QUOTED)
@pytest.mark.parametrize("value", [_deep(), _RaisesItsText(KeyError("evil"))], ids=["deep", "raises"])
def test_messages_survive_the_values_they_quote(gru: gi.Model, call: str, value: Any) -> None:
    with pytest.raises(GateInferError):
        _QUOTED[call](gru, value)


def test_messages_quote_the_beginning_of_long_values() -> None:
    with pytest.raises(GateInferError, match=r"isa='a+\.\.\.: this build") as caught:
        gi.load(b"", isa="a" * 10_000)
    assert len(str(caught.value)) < 500
