"""The state of one stream: arrays by input name, what they start from, and snapshots of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, NoReturn

import numpy as np

from gateinfer.errors import GateInferError, ShapeError, StateMismatch, shown
from gateinfer.feeds import as_feed, new_buffer
from gateinfer.graph.bind import spell
from gateinfer.graph.ir import Port

Arrays = dict[str, np.ndarray]


class StateStore(MutableMapping[str, np.ndarray]):
    """State arrays by input name. Values are views: writing into them changes the stream; assignment copies.

    An array exists from the moment its shape is known: when it is assigned, or at the first frame.
    """

    def __init__(
        self, ports: Mapping[str, Port], initial: Mapping[str, Any], file_initial: Mapping[str, np.ndarray]
    ) -> None:
        self._ports = dict(ports)
        self._file_initial = {name: file_initial[name] for name in ports if name in file_initial}
        self.initial = {name: check_state(self.port(name), value, None).copy() for name, value in initial.items()}
        self.arrays: Arrays = {}

    def extend(self, ports: Mapping[str, Port], file_initial: Mapping[str, np.ndarray]) -> None:
        """States, and initial values of states, that only came to be known with the first frame."""
        self._ports.update(ports)
        self._file_initial.update(file_initial)

    def port(self, name: str) -> Port:
        """The graph input behind state `name`."""
        if not isinstance(name, str) or name not in self._ports:
            called = name if isinstance(name, str) else type(name).__name__
            raise StateMismatch(f"no state is called {called!r}; states: {', '.join(self._ports) or 'none'}")
        return self._ports[name]

    def __getitem__(self, name: str) -> np.ndarray:
        port = self.port(name)
        if name not in self.arrays:
            start = self._start(name)
            if start is None and not port.type.is_static:
                raise StateMismatch(
                    f"the shape of state {name!r} {spell(port.shape)} is open until the first frame; "
                    "assign it or pass shapes="
                )
            self.arrays[name] = self.initial_array(name, port.type.extents if start is None else start.shape)
        return self.arrays[name]

    def __setitem__(self, name: str, value: Any) -> None:
        port = self.port(name)
        held = self.arrays.get(name)
        array = check_state(port, value, None if held is None else held.shape)
        if held is None:
            held = self.arrays[name] = new_buffer(array.shape, array.dtype, name)
        held[...] = array

    def __delitem__(self, name: str) -> NoReturn:
        raise GateInferError("a state cannot be deleted; s.reset() restores its initial value")

    def __iter__(self) -> Iterator[str]:
        return iter(self._ports)

    def __len__(self) -> int:
        return len(self._ports)

    def _start(self, name: str) -> np.ndarray | None:
        return self.initial.get(name, self._file_initial.get(name))

    def known_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes that are fixed already: of arrays there are, and of initial values the caller gave."""
        return {name: array.shape for name, array in (self.initial | self.arrays).items()}

    def initial_array(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """A new array with what `reset` restores: the caller's initial value, the file's own, or zeros."""
        array = new_buffer(shape, self.port(name).dtype, name)
        start = self._start(name)
        if start is not None:
            try:
                array[...] = start
            except ValueError:
                raise StateMismatch(f"initial state {name!r} has shape {start.shape}, expected {shape}") from None
        return array

    def initial_of(self, name: str) -> np.ndarray:
        """A copy of what `reset` restores for state `name`."""
        return self.initial_array(name, self[name].shape)

    def held_or_initial(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """The array of state `name`, or a new initial one of `shape`, which is not kept."""
        held = self.arrays.get(name)
        if held is not None and held.shape != shape:
            raise StateMismatch(f"state {name!r} has shape {held.shape}, these frames need {shape}")
        return self.initial_array(name, shape) if held is None else held

    def reset(self) -> None:
        for name, array in self.arrays.items():
            array[...] = self.initial_array(name, array.shape)

    def reset_rows(self, rows: Any, axes: Mapping[str, int]) -> None:
        """`reset` for some rows of the batch, which is along `axes` of the states, else along their open extent."""
        places = {name: axes.get(name, _open_axis(self.port(name))) for name in self.arrays}
        counts = {array.shape[places[name]] for name, array in self.arrays.items()}
        if len(counts) > 1:
            listed = ", ".join(f"{name} {array.shape}" for name, array in self.arrays.items())
            raise StateMismatch(f"rows: states hold different numbers of rows ({listed}); write into s.state[...]")
        chosen = _row_numbers(rows, max(counts, default=0))
        for name, array in self.arrays.items():
            where = (slice(None),) * places[name] + (chosen,)
            array[where] = self.initial_array(name, array.shape)[where]

    def snapshot(self) -> bytes:
        """All arrays in NumPy's npz format."""
        from gateinfer.snapshot import write_snapshot

        return write_snapshot(self)

    def restore(self, snapshot: bytes) -> None:
        """Takes all arrays of a snapshot, or none: StateMismatch when one does not fit."""
        from gateinfer.snapshot import read_snapshot

        arrays = read_snapshot(snapshot)
        if arrays.keys() != self._ports.keys():
            raise StateMismatch(f"the snapshot holds {', '.join(arrays)}; this stream has {', '.join(self)}")
        for name, array in arrays.items():
            held = self.arrays.get(name)
            check_state(self.port(name), array, None if held is None else held.shape)
        self.update(arrays)


def _open_axis(port: Port) -> int:
    """The batch axis of a state of the file: the only one whose extent the file leaves open."""
    free = [axis for axis, extent in enumerate(port.shape or ()) if not isinstance(extent, int)]
    if len(free) != 1:
        raise StateMismatch(
            f"rows: which axis of state {port.name!r} {spell(port.shape)} is the batch is not known; "
            "write into s.state[...]"
        )
    return free[0]


def _row_numbers(rows: Any, count: int) -> np.ndarray:
    try:
        chosen = np.asarray(rows)
    except Exception:  # a caller's object may raise anything
        chosen = np.empty((), object)
    if chosen.dtype == bool and chosen.shape == (count,):
        return np.flatnonzero(chosen)
    is_list = chosen.ndim == 1 and (chosen.dtype.kind in "iu" or not chosen.size)
    if not is_list or any(not -count <= row < count for row in chosen):
        raise StateMismatch(f"rows: expected numbers below {count} or {count} bools, got {shown(rows)}")
    return chosen.astype(np.intp)


def check_state(port: Port, value: Any, shape: tuple[int, ...] | None) -> np.ndarray:
    """`value` as an array for the state `port`; StateMismatch unless it fits the port and, if given, `shape`."""
    try:
        array = as_feed(port, value, "state")
    except ShapeError as error:
        raise StateMismatch(str(error)) from None
    if shape is not None and array.shape != shape:
        raise StateMismatch(f"state {port.name!r} has shape {shape}, got {array.shape}")
    return array
