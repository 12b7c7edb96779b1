"""When does somebody speak? Silero VAD over a 16 kHz wav, one 32 ms frame at a time.

    python examples/voice_activity.py silero_vad.onnx speech.wav

The model (MIT) is silero_vad/data/silero_vad.onnx of the package silero-vad. It wants each 512-sample chunk preceded
by the last 64 samples of the one before.
"""

import argparse

import gateinfer as gi
from gateinfer.audio import frames_of, read_wav

CHUNK, CONTEXT, RATE = 512, 64, 16000


def probabilities(model: gi.Model, samples) -> list[float]:
    """Speech probability of each chunk."""
    stream = model.stream(sr=RATE)
    return [float(stream(frame[None])[0, 0]) for frame in frames_of(samples, CHUNK, CONTEXT)]


def segments(speech: list[float], threshold: float = 0.5) -> list[tuple[float, float]]:
    """(start, end) in seconds of the runs of chunks above the threshold."""
    found, start = [], None
    for i, p in enumerate([*speech, 0.0]):
        if p >= threshold and start is None:
            start = i
        elif p < threshold and start is not None:
            found.append((start * CHUNK / RATE, i * CHUNK / RATE))
            start = None
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("wav")
    args = parser.parse_args()
    samples, rate = read_wav(args.wav)
    if rate != RATE:
        parser.error(f"{args.wav} has {rate} samples per second; this model wants {RATE}")
    for start, end in segments(probabilities(gi.load(args.model), samples)):
        print(f"speech from {start:6.2f} s to {end:6.2f} s")


if __name__ == "__main__":
    main()
