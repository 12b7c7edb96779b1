"""When does somebody speak? Silero VAD over a 16 kHz wav, one 32 ms frame at a time.

    python examples/voice_activity.py silero_vad.onnx speech.wav

The model (MIT) is silero_vad/data/silero_vad.onnx of the package silero-vad, or the plain weights next to it,
silero_vad_16k.safetensors. It wants each 512-sample chunk preceded by the last 64 samples of the one before.
"""

import argparse

import gateinfer as gi
from gateinfer.audio import frames_of, read_wav
from gateinfer.layers import LSTM, Activation, Conv1d, Magnitude

CHUNK, CONTEXT, RATE = 512, 64, 16000


def load(path: str) -> gi.Model:
    """The .onnx file, or the network put together from its arrays."""
    return gi.load(path) if path.endswith(".onnx") else build(gi.load_arrays(path))


def build(arrays) -> gi.Model:
    """Frames [1, 576, 1]: a Fourier transform as convolution, four convolutions, an LSTM cell and its head."""
    transform = Conv1d(arrays["stft_conv.weight"], stride=128, padding=(0, 64), padding_mode="reflect")
    encoder = [
        Conv1d(arrays[f"conv{i}.weight"], arrays[f"conv{i}.bias"], "relu", stride=stride, padding=1)
        for i, stride in enumerate((1, 2, 2, 1), 1)
    ]
    cell = LSTM(arrays, prefix="lstm_cell")
    head = Conv1d(arrays["final_conv.weight"], arrays["final_conv.bias"], "sigmoid")
    return gi.Sequential([transform, Magnitude(), *encoder, cell, Activation("relu"), head], per_frame=True)


def probabilities(model: gi.Model, samples) -> list[float]:
    """Speech probability of each chunk."""
    shape = (1, CONTEXT + CHUNK, 1)[: len(model.inputs[0].shape)]
    has_rate = any(port.name == "sr" for port in model.inputs)
    stream = model.stream(constants={"sr": RATE} if has_rate else {})
    return [stream(frame.reshape(shape)).item() for frame in frames_of(samples, CHUNK, CONTEXT)]


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
    parser.add_argument("model", help=".onnx or .safetensors")
    parser.add_argument("wav")
    args = parser.parse_args()
    samples, rate = read_wav(args.wav)
    if rate != RATE:
        parser.error(f"{args.wav} has {rate} samples per second; this model wants {RATE}")
    for start, end in segments(probabilities(load(args.model), samples)):
        print(f"speech from {start:6.2f} s to {end:6.2f} s")


if __name__ == "__main__":
    main()
