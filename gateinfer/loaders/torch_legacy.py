"""PyTorch's .pt files as they were before version 1.6: four pickles, the keys of the raw arrays, and the arrays."""

from __future__ import annotations

import io
from typing import Any, Final

import numpy as np

from gateinfer.errors import ModelError
from gateinfer.loaders.forms import LEGACY_MAGIC
from gateinfer.loaders.pickle_machine import STORAGES, Machine, Storage

MAX_PICKLE: Final = 2**22
"""Bytes of the pickles in front of the arrays."""

_COUNT: Final = np.dtype("<i8")
"""In front of each array: how many elements it has."""


def read_legacy(content: bytes) -> tuple[Any, LegacyMembers, str]:
    """What the file describes, and its raw arrays by key, with nothing in front of the keys.

    Raises
    ------
    ModelError
        For corrupt files, and for anything but dicts of tensors.
    """
    file = io.BytesIO(content[:MAX_PICKLE])
    file.seek(len(LEGACY_MAGIC))
    Machine().run(file)
    system = Machine().run(file)
    if not isinstance(system, dict) or not system.get("little_endian", True):
        raise ModelError("the PyTorch file is not little-endian")
    machine = Machine()
    root = machine.run(file)
    keys = Machine().run(file)
    if not isinstance(keys, list) or not all(isinstance(key, str) and key in machine.storages for key in keys):
        raise ModelError("the PyTorch file lists storages that its tensors do not have")
    return root, LegacyMembers(content, file.tell(), [machine.storages[key] for key in keys]), ""


class LegacyMembers:
    """The raw arrays behind the pickles: a count of elements and the elements, one after the other."""

    def __init__(self, content: bytes, start: int, storages: list[Storage]) -> None:
        self._content = content
        self._ranges: dict[str, slice] = {}
        for storage in storages:
            start += _COUNT.itemsize
            end = start + storage.count * np.dtype(STORAGES[storage.kind]).itemsize
            if end > len(content) or self._count_before(start) != storage.count:
                raise ModelError(f"storage {storage.key[:200]!r}: the file does not hold its {storage.count} elements")
            self._ranges[storage.key] = slice(start, end)
            start = end

    def _count_before(self, start: int) -> int:
        return int(np.frombuffer(self._content, _COUNT, 1, start - _COUNT.itemsize)[0])

    @property
    def names(self) -> list[str]:
        return list(self._ranges)

    def size(self, name: str) -> int:
        """Bytes of an array."""
        found = self._ranges[name]
        return found.stop - found.start

    def read(self, name: str) -> bytes:
        """The bytes of an array."""
        return self._content[self._ranges[name]]
