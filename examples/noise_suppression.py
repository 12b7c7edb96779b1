"""Takes the noise out of a 16 kHz wav with GTCRN, one 16 ms hop at a time.

    python examples/noise_suppression.py gtcrn_simple.onnx noisy.wav clean.wav

The model (MIT) is stream/onnx_models/gtcrn_simple.onnx of github.com/Xiaobin-Rong/gtcrn. It sees one spectrum at a
time: 512 samples under the square root of a Hann window, every 256 samples; the same window joins the results
(overlap-add).
"""

import argparse
import wave

import numpy as np

import gateinfer as gi
from gateinfer.audio import read_wav

SIZE, HOP, RATE = 512, 256, 16000


class Denoiser:
    """256 samples in, 256 samples out, 256 samples late."""

    def __init__(self, model: gi.Model) -> None:
        self._stream = model.stream()
        self._window = np.sqrt(np.hanning(SIZE + 1)[:-1]).astype(np.float32)
        self._heard = np.zeros(SIZE, np.float32)
        self._said = np.zeros(SIZE, np.float32)

    def __call__(self, hop: np.ndarray) -> np.ndarray:
        """hop [256] float32 -> [256] float32"""
        self._heard = np.concatenate([self._heard[HOP:], hop])
        spectrum = np.fft.rfft(self._heard * self._window)
        mix = np.stack([spectrum.real, spectrum.imag], axis=-1).astype(np.float32)
        enhanced = self._stream(mix[None, :, None, :])[0, :, 0, :]
        frame = np.fft.irfft(enhanced[:, 0] + 1j * enhanced[:, 1]).astype(np.float32) * self._window
        self._said = np.concatenate([self._said[HOP:], np.zeros(HOP, np.float32)]) + frame
        return self._said[:HOP].copy()


def denoise(model: gi.Model, samples: np.ndarray) -> np.ndarray:
    """The whole signal, aligned with the input: samples [n] -> [n]."""
    hops = np.pad(samples, (0, -len(samples) % HOP + HOP)).reshape(-1, HOP)
    denoiser = Denoiser(model)
    return np.concatenate([denoiser(hop) for hop in hops])[HOP : HOP + len(samples)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("noisy")
    parser.add_argument("clean")
    args = parser.parse_args()
    samples, rate = read_wav(args.noisy)
    if rate != RATE:
        parser.error(f"{args.noisy} has {rate} samples per second; this model wants {RATE}")
    clean = denoise(gi.load(args.model), samples)
    with wave.open(args.clean, "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", "not compressed"))
        file.writeframes((np.clip(clean, -1, 1) * 32767).astype("<i2").tobytes())
    print(f"{len(samples) / RATE:.1f} s written to {args.clean}")


if __name__ == "__main__":
    main()
