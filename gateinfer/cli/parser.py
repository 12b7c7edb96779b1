"""The command line's grammar and its help."""

from __future__ import annotations

import argparse
from pathlib import Path

from gateinfer.cli.data import parse_setting, parse_shape

TOP = """\
Run trained LSTM, GRU and RNN models frame by frame, and prove that the answers are right.

  gateinfer info model.onnx                       what is in it, and does it run here?
  gateinfer run model.onnx in.npz -o out.npz      one call, as onnxruntime's run
  gateinfer run vad.onnx speech.wav --stream --set sr=16000 --chunk 512 --context 64 -o out.npz
  gateinfer validate model.onnx                   same numbers as onnxruntime and float64?
  gateinfer bench model.onnx                      how long is a step, and next to onnxruntime?
  gateinfer demo                                  all of that on a real voice activity model
"""

EXIT_CODES = "exit codes: 0 done, 1 the answers differ (validate, demo), 2 error (one line on standard error)"

INFO = """\
Shows what the model is and how it is used, its inputs, outputs, states and recurrent layers, the parts that run in turn
(natively, or as islands in onnxruntime) with what crosses between them, and what parts and nodes cost: multiply-adds
and bytes, with --time microseconds. What the file leaves open is picked, and the last line says so.

examples:
  gateinfer info rnnoise.onnx
  gateinfer info ocr.onnx --time                                where does the time go?
  gateinfer info vad.onnx --set sr=16000 --shape input=1,576    the constant picks the branch, the shape the program
  gateinfer info model.onnx --json | jq .macs
"""

RUN = """\
Runs a model on data from a file: .npz with one array per input name, .npy or .wav for the one input that needs data.

Without --stream: one call, all inputs at once. With --stream: frame by frame, state kept by the engine.
  An array with one axis more than its input holds one frame per index of its first axis; outputs are stacked alike.
  An array of the input's own rank is cut with --chunk N along --axis; outputs are joined along that axis.
  A .wav is cut into frames of N new samples (--chunk) after the last M of the frame before (--context).

examples:
  gateinfer run model.onnx in.npz -o out.npz
  gateinfer run denoise.onnx frames.npy --stream -o out.npz
  gateinfer run vad.onnx speech.wav --stream --set sr=16000 --chunk 512 --context 64 -o out.npz
"""

VALIDATE = """\
Puts the same frames through the engine, through onnxruntime and through a float64 reference, each with its own state,
and compares every output and every state after every step. Frames of a whole-sequence model are chunks of one sequence:
the engine streams them with states it lifts out of the file, onnxruntime and the reference run on all of them at once.
Without a file the frames are random (fixed seed).

examples:
  gateinfer validate model.onnx
  gateinfer validate vad.onnx --set sr=16000 --shape input=1,576 --steps 200
  gateinfer validate model.onnx frames.npz --against onnxruntime
  gateinfer validate model.onnx --precision bf16             what 16-bit weights change
"""

BENCH = """\
Times single steps of the engine, of onnxruntime's run, and of onnxruntime on memory bound once, one thread each (the
engine as many as --threads says), taking turns in one run. The ratio is the median over rounds of the ratio within a
round. A whole-sequence model runs on a whole sequence per call in all of them; where the engine can stream it, one more
step of a stream is timed as well.

examples:
  gateinfer bench rnnoise.onnx
  gateinfer bench vad.onnx --set sr=16000 --shape input=1,576 --rounds 2000
  gateinfer bench lstm.onnx --shape x=100,1,16 --json
  gateinfer bench lstm.onnx --precision bf16 --threads 2     is it worth it? onnxruntime keeps float32 and one thread
"""

DEMO = """\
Fetches the MIT-licensed Silero voice activity model with pip (no torch), streams a speech clip through it frame by
frame, and prints where there is speech, the largest difference from onnxruntime, and how long a frame takes in both
engines.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of `gateinfer` with all its commands."""
    parser = argparse.ArgumentParser(
        prog="gateinfer", description=TOP, epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    _info(_command(commands, "info", "what a model is made of", INFO))
    _run(_command(commands, "run", "run a model on data from a file", RUN))
    _validate(_command(commands, "validate", "compare with onnxruntime and float64", VALIDATE))
    _bench(_command(commands, "bench", "time steps next to onnxruntime", BENCH))
    _demo(_command(commands, "demo", "a real model on real sound", DEMO))
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, short: str, text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=short, description=text, epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    parser.add_argument("--plain", action="store_true", help="plain text, even if rich is installed")
    parser.add_argument("--debug", action="store_true", help="let errors show their traceback")
    return parser


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help=".onnx, or .npz, .safetensors or .pt with weights")
    parser.add_argument("--isa", default="auto", help="kernels to use: auto (default), scalar, avx2, avx512")
    parser.add_argument(
        "--precision", default="f32", choices=("f32", "bf16", "f16"),
        help="how weights are stored; 16 bits halve what a step of a large layer reads and round every weight",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=positive, default=1, metavar="N",
        help="threads that share large recurrent layers (default 1); pays from about 128 units on, with idle cores",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", default=[], type=parse_setting, metavar="NAME=NUMBER", dest="settings",
        help="an input that keeps one value, such as sr=16000 (repeatable)",
    )  # fmt: skip


def _shapes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shape", action="append", default=[], type=parse_shape, metavar="NAME=N,N", dest="shapes",
        help="shape of an input, such as x=1,576 (repeatable); open extents count as 1, or more if a program needs it",
    )  # fmt: skip


def _frames(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--chunk", type=positive, metavar="N", help="new samples or steps per frame")
    parser.add_argument("--context", type=int, default=0, metavar="M", help=".wav: past samples before each chunk")
    parser.add_argument("--axis", type=int, default=0, help="axis that --chunk cuts in .npy and .npz (default 0)")


def _info(parser: argparse.ArgumentParser) -> None:
    _model(parser)
    _shapes(parser)
    parser.add_argument("--all", action="store_true", help="list every node, however many there are")
    parser.add_argument("--time", action="store_true", help="measure what each part and node takes, on made-up input")


def _run(parser: argparse.ArgumentParser) -> None:
    _model(parser)
    parser.add_argument("data", type=Path, metavar="INPUT", help=".npz, .npy or .wav")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT.npz", help="write all outputs here")
    parser.add_argument("--stream", action="store_true", help="frame by frame, state kept by the engine")
    _frames(parser)


def _validate(parser: argparse.ArgumentParser) -> None:
    _model(parser)
    parser.add_argument("data", type=Path, nargs="?", metavar="FRAMES", help=".npz, .npy or .wav (default: random)")
    _shapes(parser)
    _frames(parser)
    parser.add_argument("--steps", type=positive, default=50, help="how many random frames (default 50)")
    parser.add_argument(
        "--against", action="append", choices=("onnxruntime", "reference"), help="one oracle only (default: both)"
    )
    parser.add_argument(
        "--whole", dest="lift", action="store_false",
        help="every frame of a whole-sequence model is a sequence of its own (default: chunks of one, streamed)",
    )  # fmt: skip


def _bench(parser: argparse.ArgumentParser) -> None:
    _model(parser)
    _shapes(parser)
    parser.add_argument("--rounds", type=positive, default=500, help="turns per engine (default 500)")
    parser.add_argument("--burst", type=positive, default=4, help="calls per turn (default 4)")


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, help="silero_vad.onnx (default: fetched with pip on first use)")
    parser.add_argument("--wav", type=Path, default=Path("examples/speech.wav"), help="16 kHz (default: %(default)s)")
    parser.add_argument("--cache", type=Path, default=Path(".cache/silero"), help="where the model goes (%(default)s)")
    parser.add_argument("--laps", type=positive, default=4, help="passes over the clip that are timed (default 4)")


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of at least 1")
    return int(text)
