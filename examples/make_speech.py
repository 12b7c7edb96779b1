"""Makes speech.wav: sentences of espeak-ng between pauses, in noise. 16 kHz, mono, 16 bits.

Needs the espeak-ng program and NumPy: `python examples/make_speech.py` rewrites the file next to this script.
The same espeak-ng version gives the same bytes: the noise has a fixed seed.
"""

import io
import subprocess
import wave
from pathlib import Path

import numpy as np

RATE = 16000
SNR_DB = 15.0
"""Mean power of the speech parts over the power of the noise, which runs through the whole clip."""
SEED = 20240229
# (seconds of silence before, sentence)
SCRIPT = [
    (0.8, "Good morning. Is anybody there?"),
    (1.3, "A recurrent network remembers."),
    (1.0, "Please close the door."),
    (0.9, "Thank you."),
]
SECONDS = 12.0


def say(text):
    """`text` as samples [n] at RATE, in [-1, 1]."""
    command = ["espeak-ng", "-v", "en-us", "-s", "150", "--stdout", text]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    with wave.open(io.BytesIO(data)) as file:
        rate, raw = file.getframerate(), file.readframes(file.getnframes())
    samples = np.frombuffer(raw, "<i2").astype(np.float64) / 32768
    return resample(samples[: len(samples) // 2 * 2], rate)


def resample(samples, rate):
    """Band-limited change of rate: the spectrum is cut at the new Nyquist frequency."""
    count = int(len(samples) * RATE / rate)
    return np.fft.irfft(np.fft.rfft(samples)[: count // 2 + 1], count) * count / len(samples)


def main():
    clip, where, at = np.zeros(int(SECONDS * RATE)), np.zeros(int(SECONDS * RATE), bool), 0
    for pause, text in SCRIPT:
        at += int(pause * RATE)
        speech = say(text)
        clip[at : at + len(speech)] = speech
        where[at : at + len(speech)] = True
        at += len(speech)
    noise = np.random.default_rng(SEED).standard_normal(len(clip))
    noise *= np.sqrt(np.mean(clip[where] ** 2) / 10 ** (SNR_DB / 10))
    mixed = clip + noise
    mixed *= 0.7 / np.abs(mixed).max()
    with wave.open(str(Path(__file__).with_name("speech.wav")), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(np.round(mixed * 32767).astype("<i2").tobytes())


if __name__ == "__main__":
    main()
