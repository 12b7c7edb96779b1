"""The bytes of a model file, from a path or as they are."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from gateinfer.errors import ModelError

MAX_FILE: Final = 2**31 - 1
"""Bytes: protobuf's own limit, and plenty for weights."""

Source = str | os.PathLike[str] | bytes


def as_path(source: Source) -> Path:
    """`source` as a path; ModelError when it is none."""
    try:
        return Path(os.fsdecode(source))
    except TypeError:
        raise ModelError(f"expected a path or the bytes of a model, got {type(source).__name__}") from None


def read_source(source: Source) -> tuple[bytes, Path | None]:
    """The content, and the folder that files next to it are in, which content alone has not.

    Raises
    ------
    ModelError
        For a path that is no plain file, cannot be read or is too large.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        if len(source) > MAX_FILE:
            raise ModelError(f"{len(source)} bytes of model, at most {MAX_FILE} expected")
        return bytes(source), None
    path = as_path(source)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{str(path)!r} is not a plain file")
        if status.st_size > MAX_FILE:
            raise ModelError(f"{str(path)!r} has {status.st_size} bytes, at most {MAX_FILE} expected")
        return path.read_bytes(), path.parent
    except (OSError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{str(path)!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None
