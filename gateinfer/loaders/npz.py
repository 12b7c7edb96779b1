"""NumPy's .npz format: named arrays in a zip archive."""

from __future__ import annotations

import numpy as np

from gateinfer.errors import ModelError
from gateinfer.loaders.archive import Archive
from gateinfer.loaders.npy import parse_npy

MAGIC = b"PK"


def read_npz(content: bytes) -> dict[str, np.ndarray]:
    """All arrays by key.

    Raises
    ------
    ModelError
        For a corrupt or hostile archive, and for arrays of anything but numbers: nothing is ever unpickled.
    """
    archive = Archive(content)
    arrays: dict[str, np.ndarray] = {}
    for name in archive.names:
        key = name.removesuffix(".npy")
        if key == name:
            raise ModelError(f"archive member {name[:200]!r} is not a .npy array: this is no .npz file")
        arrays[key] = parse_npy(archive.read(name), f"array {key[:200]!r}")
    return arrays
