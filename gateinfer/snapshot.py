"""State arrays as bytes and back: NumPy's npz format, uncompressed and without pickles."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import numpy as np

from gateinfer.errors import StateMismatch


def write_snapshot(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The arrays by name in NumPy's npz format."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, array in arrays.items():
            with file.open(f"{name}.npy", "w") as item:
                np.lib.format.write_array(item, array, version=(1, 0), allow_pickle=False)
    return content.getvalue()


def read_snapshot(snapshot: bytes) -> dict[str, np.ndarray]:
    """The arrays by name; StateMismatch for bytes that are no snapshot."""
    try:
        with zipfile.ZipFile(io.BytesIO(snapshot)) as file:
            return {item.filename.removesuffix(".npy"): _read_array(file, item) for item in file.infolist()}
    except Exception as error:  # zipfile and NumPy raise what they like on bytes that somebody has changed
        raise StateMismatch(f"not a snapshot of a stream: {error}") from None


def _read_array(file: zipfile.ZipFile, item: zipfile.ZipInfo) -> np.ndarray:
    """One array, believed only as far as its bytes go: nothing is allocated for a size that a header claims."""
    if item.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{item.filename} is compressed")
    content = io.BytesIO(file.read(item))
    if np.lib.format.read_magic(content) != (1, 0):
        raise ValueError(f"{item.filename} is not in NumPy's first format")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(content)
    if dtype.hasobject:
        raise ValueError(f"{item.filename} holds Python objects")
    return np.frombuffer(content.read(), dtype).reshape(shape, order="F" if fortran else "C")
