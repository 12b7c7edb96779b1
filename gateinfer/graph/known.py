"""Values that are known before the first frame. Costly ones are computed when somebody asks for them.

Exporters leave whole steps in the graph of which only a shape is used. Their types are known without their values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np


class KnownValues(Mapping[str, np.ndarray]):
    """Arrays by name. `in` says whether a value is known without computing it."""

    def __init__(self) -> None:
        self._made: dict[str, np.ndarray] = {}
        self._later: dict[str, Callable[[], np.ndarray]] = {}

    def put(self, name: str, array: np.ndarray) -> None:
        self._made[name] = array

    def put_later(self, name: str, make: Callable[[], np.ndarray]) -> None:
        """`make` is called once, if at all."""
        self._later[name] = make

    def __contains__(self, name: object) -> bool:
        return name in self._made or name in self._later

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._made:
            self._made[name] = self._later[name]()
            del self._later[name]
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._made
        yield from self._later

    def __len__(self) -> int:
        return len(self._made) + len(self._later)


class Arguments(Sequence["np.ndarray | None"]):
    """The values of a node's inputs, None for those that are omitted or not known; each looked up when asked for."""

    __slots__ = ("_names", "_values")

    def __init__(self, names: tuple[str, ...], values: KnownValues) -> None:
        self._names = names
        self._values = values

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # slices are not used
        name = self._names[index]
        return self._values[name] if name in self._values else None

    def __len__(self) -> int:
        return len(self._names)
