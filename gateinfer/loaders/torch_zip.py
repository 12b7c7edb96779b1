"""PyTorch's .pt files as zip archives of raw arrays.

The file says with pickle opcodes which bytes are which tensor. They are never unpickled: see `pickle_machine`. Files of
TorchScript have the same form; their code is not read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, Protocol

import numpy as np

from gateinfer.errors import ModelError
from gateinfer.loaders.archive import Archive
from gateinfer.loaders.forms import is_legacy
from gateinfer.loaders.pickle_machine import STORAGES, Machine, Storage, TensorRef
from gateinfer.loaders.safetensors import from_bfloat16
from gateinfer.loaders.torch_legacy import read_legacy

MAX_PICKLE: Final = 2**22
"""Bytes of the description of all tensors."""
MAX_TENSORS: Final = 2**14
MAX_DEPTH: Final = 8
"""Dicts inside dicts."""


class Members(Protocol):
    """Raw content by name."""

    @property
    def names(self) -> list[str]: ...

    def size(self, name: str) -> int: ...

    def read(self, name: str) -> bytes: ...


def read_torch(content: bytes) -> dict[str, np.ndarray]:
    """All tensors of a .pt file by key; keys of nested dicts, and of modules of TorchScript, are joined by dots.

    Raises
    ------
    ModelError
        For anything but nested dicts of tensors over raw storages, such as whole pickled modules.
    """
    root, members, folder = read_legacy(content) if is_legacy(content) else _read_zip(content)
    if not isinstance(root, dict):
        raise ModelError("the PyTorch file holds no dict of tensors; save model.state_dict()")
    references = dict(_tensors(root))
    reader = _StorageReader(members, folder)
    return {key: reader.array(key, reference) for key, reference in references.items()}


def _read_zip(content: bytes) -> tuple[Any, Members, str]:
    """What data.pkl describes, and the raw arrays with the folder that they are in."""
    archive = Archive(content)
    descriptions = [name for name in archive.names if name.endswith("/data.pkl")]
    if len(descriptions) != 1:
        raise ModelError("not a PyTorch weight file: it needs exactly one data.pkl")
    folder = descriptions[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.names and archive.read(f"{folder}byteorder") != b"little":
        raise ModelError("the PyTorch file is not little-endian")
    if archive.size(descriptions[0]) > MAX_PICKLE:
        raise ModelError(f"data.pkl has {archive.size(descriptions[0])} bytes, at most {MAX_PICKLE} expected")
    return Machine().run(archive.read(descriptions[0])), archive, f"{folder}data/"


def _tensors(root: dict[Any, Any]) -> Iterator[tuple[str, TensorRef]]:
    """Tensors of nested dicts. Dicts may be shared, even by themselves, so depth and number are bounded."""
    stack: list[tuple[str, Any, int]] = [("", root, 0)]
    visited, seen = 0, set()
    while stack:
        prefix, value, depth = stack.pop()
        visited += 1
        if visited > MAX_TENSORS or depth > MAX_DEPTH:
            raise ModelError(
                f"the PyTorch file nests more than {MAX_DEPTH} dicts or has more than {MAX_TENSORS} entries"
            )
        if isinstance(value, TensorRef):
            if prefix in seen:
                raise ModelError(f"two tensors are called {prefix[:200]!r}")
            seen.add(prefix)
            yield prefix, value
        elif isinstance(value, dict):
            entries = [(f"{prefix}.{key}" if prefix else str(key), v, depth + 1) for key, v in value.items()]
            stack.extend(reversed(entries))


class _StorageReader:
    """Turns references into arrays on the archive's bytes."""

    def __init__(self, archive: Members, folder: str) -> None:
        self._archive = archive
        self._folder = folder
        self._storages: dict[Storage, np.ndarray] = {}
        self._copied = 0

    def array(self, key: str, ref: TensorRef) -> np.ndarray:
        what = f"tensor {key[:200]!r}"
        storage = self._storage(ref.storage, what)
        if 0 in ref.shape:
            return np.zeros(ref.shape, np.float32)
        last = ref.offset + sum((d - 1) * s for d, s in zip(ref.shape, ref.strides, strict=True))
        size = math.prod(ref.shape)
        if last >= len(storage) or size > len(storage):
            raise ModelError(f"{what}: shape {ref.shape} does not fit its storage of {len(storage)} elements")
        window = np.lib.stride_tricks.as_strided(
            storage[ref.offset :], ref.shape, [s * storage.itemsize for s in ref.strides], writeable=False
        )
        if not window.flags.c_contiguous or ref.storage.kind == "BFloat16Storage":
            self._spend(size * 4, what)
        return from_bfloat16(window) if ref.storage.kind == "BFloat16Storage" else np.ascontiguousarray(window)

    def _storage(self, storage: Storage, what: str) -> np.ndarray:
        if storage not in self._storages:
            name = f"{self._folder}{storage.key}"
            if name not in self._archive.names:
                raise ModelError(f"{what}: the archive has no storage {storage.key[:200]!r}")
            dtype = np.dtype(STORAGES[storage.kind])
            if self._archive.size(name) != storage.count * dtype.itemsize:
                raise ModelError(
                    f"{what}: a {storage.kind} of {storage.count} elements, but {self._archive.size(name)} bytes"
                )
            self._spend(storage.count * dtype.itemsize, what)
            self._storages[storage] = np.frombuffer(self._archive.read(name), dtype)
        return self._storages[storage]

    def _spend(self, size: int, what: str) -> None:
        """Views on one storage cost nothing; copies, and one storage read as several types, are counted."""
        self._copied += size
        if self._copied > 4 * sum(self._archive.size(name) for name in self._archive.names) + 2**20:
            raise ModelError(f"{what}: the tensors need far more memory than the file has")
