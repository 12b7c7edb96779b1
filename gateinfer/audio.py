"""Sound files in, frames out. WAV only, with the standard library."""

from __future__ import annotations

import os
import wave

import numpy as np

from gateinfer.errors import ModelError, ShapeError

_DTYPES = {1: "u1", 2: "<i2", 4: "<i4"}


def read_wav(path: str | os.PathLike[str]) -> tuple[np.ndarray, int]:
    """A PCM file as mono samples.

    Returns
    -------
    samples : ndarray [n] float32 in [-1, 1)
        The mean over channels.
    rate : int
        Samples per second.

    Raises
    ------
    ModelError
        The file is not PCM WAV of 8, 16 or 32 bits.
    """
    try:
        with wave.open(os.fspath(path), "rb") as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ModelError(f"{os.fspath(path)}: not a PCM WAV file ({error}); convert it to 16-bit PCM") from None
    if width not in _DTYPES:
        raise ModelError(f"{os.fspath(path)}: {8 * width}-bit samples; convert the file to 16-bit PCM")
    whole = len(data) // (width * channels) * width * channels
    raw = np.frombuffer(data[:whole], _DTYPES[width]).reshape(-1, channels).astype(np.float64)
    centred = (raw - 128) / 128 if width == 1 else raw / 2.0 ** (8 * width - 1)
    return centred.mean(axis=1).astype(np.float32), rate


def frames_of(samples: np.ndarray, chunk: int, context: int = 0) -> np.ndarray:
    """Consecutive chunks, each preceded by the last samples of the one before.

    Parameters
    ----------
    samples : ndarray [n]
    chunk : int
        New samples per frame; the last chunk is filled up with zeros.
    context : int
        Samples of the past in front of each chunk; zeros before the first.

    Returns
    -------
    ndarray [frames, context + chunk] float32
    """
    if chunk < 1 or context < 0:
        raise ShapeError(f"chunk={chunk}, context={context}: a frame has at least one new sample, and context >= 0")
    count = -(-len(samples) // chunk)
    padded = np.zeros(context + count * chunk, np.float32)
    padded[context : context + len(samples)] = samples
    starts = np.arange(count)[:, None] * chunk
    return padded[starts + np.arange(context + chunk)]
