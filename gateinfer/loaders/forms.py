"""What kind of file it is, by its name or else by its first bytes. Readers are imported only for what is read."""

from __future__ import annotations

from typing import Final

from gateinfer.errors import ModelError
from gateinfer.loaders.files import KERAS_ADVICE, Source, as_path, read_source

LEGACY_MAGIC: Final = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
"""The first pickle of PyTorch's files before version 1.6: a number."""

_ZIPS: Final = (b"PK\x03\x04", b"PK\x05\x06")
_SUFFIXES: Final = {".npz": "npz", ".safetensors": "safetensors", ".pt": "torch", ".pth": "torch", ".onnx": "onnx"}


def form_of(source: Source) -> tuple[str, bytes]:
    """Which form `source` has: npz, safetensors, torch or onnx; and its content unless it is ONNX by name."""
    suffix = "" if isinstance(source, (bytes, bytearray, memoryview)) else as_path(source).suffix
    form = _SUFFIXES.get(suffix.lower())
    if form == "onnx":
        return form, b""
    content, _ = read_source(source)
    return form or _guess(content), content


def is_legacy(content: bytes) -> bool:
    """Whether these bytes are a file of PyTorch before version 1.6."""
    return content.startswith(LEGACY_MAGIC)


def _guess(content: bytes) -> str:
    if content.startswith(_ZIPS):
        return _kind_of_zip(content)
    if is_legacy(content):
        return "torch"
    return "safetensors" if _is_safetensors(content) else "onnx"


def _kind_of_zip(content: bytes) -> str:
    from gateinfer.loaders.archive import Archive

    names = Archive(content).names
    if "model.weights.h5" in names:
        raise ModelError(f"this is a Keras model; {KERAS_ADVICE}")
    return "torch" if any(name.endswith("/data.pkl") for name in names) else "npz"


def _is_safetensors(content: bytes) -> bool:
    """Whether the length of the header and its first character are right."""
    return content[8:9] == b"{" and int.from_bytes(content[:8], "little") <= len(content) - 8
