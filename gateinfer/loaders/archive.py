"""Zip archives from anywhere: members are checked against the archive's size before one byte is unpacked."""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from typing import Final

from gateinfer.errors import ModelError

MAX_MEMBERS: Final = 2**16
FREE_BYTES: Final = 2**24
"""Bytes that an archive may always unpack to."""
MAX_RATIO: Final = 50
"""Further bytes per byte of the archive. Trained weights hardly compress; what grows more is an attack."""

_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED: Final = 0x1
_READ_ERRORS = (
    zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, OSError, EOFError, ValueError,
    OverflowError, IndexError,
)  # fmt: skip


class Archive:
    """A zip archive in memory. Nothing is ever extracted to disk.

    Raises
    ------
    ModelError
        For archives that are corrupt, encrypted, or unpack to far more than they hold; for repeated members and names
        that lead out of a folder.
    """

    def __init__(self, content: bytes) -> None:
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(content))
        except _READ_ERRORS as error:
            raise ModelError(f"not a readable zip archive: {error}") from None
        members = [info for info in self._zip.infolist() if not info.is_dir()]
        if len(members) > MAX_MEMBERS:
            raise ModelError(f"the archive has {len(members)} members, at most {MAX_MEMBERS} expected")
        self._members: dict[str, zipfile.ZipInfo] = {}
        for info in members:
            self._check(info)
            self._members[info.filename] = info
        self._check_sizes(len(content))

    def _check(self, info: zipfile.ZipInfo) -> None:
        name = info.filename
        what = f"archive member {name[:200]!r}"
        if name in self._members:
            raise ModelError(f"{what} occurs twice")
        if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name):
            raise ModelError(f"{what}: its name leads out of the archive's folder")
        if info.flag_bits & _ENCRYPTED:
            raise ModelError(f"{what} is encrypted")
        if info.compress_type not in _METHODS:
            raise ModelError(f"{what}: compression method {info.compress_type}; only stored and deflated are read")

    def _check_sizes(self, size: int) -> None:
        packed = sum(info.compress_size for info in self._members.values())
        unpacked = sum(info.file_size for info in self._members.values())
        if packed > size:
            raise ModelError(f"the members claim {packed} bytes of an archive of {size}: they overlap")
        if unpacked > FREE_BYTES + MAX_RATIO * size:
            raise ModelError(f"an archive of {size} bytes would unpack to {unpacked}: refused as a decompression bomb")

    @property
    def names(self) -> list[str]:
        return list(self._members)

    def size(self, name: str) -> int:
        """Declared bytes of a member, which `read` holds it to."""
        return self._members[name].file_size

    def read(self, name: str) -> bytes:
        """The bytes of one member."""
        info = self._members[name]
        try:
            with self._zip.open(info) as file:
                content = file.read(info.file_size + 1)
        except _READ_ERRORS as error:
            raise ModelError(f"archive member {name[:200]!r} is corrupt: {error}") from None
        if len(content) != info.file_size:
            raise ModelError(f"archive member {name[:200]!r}: {info.file_size} bytes declared, got {len(content)}")
        return content
