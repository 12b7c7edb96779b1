"""The command line: `python -m gateinfer` and the `gateinfer` script."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Sequence

from gateinfer.cli.commands import COMMANDS, DONE
from gateinfer.cli.parser import build_parser
from gateinfer.cli.render import Screen
from gateinfer.errors import GateInferError

FAILED, INTERRUPTED = 2, 130

EXPECTED = (GateInferError, OSError, MemoryError, EOFError, ValueError, zipfile.BadZipFile)
"""What bad files, shapes and options raise (the last three: NumPy's loader). Anything else is a bug and shows."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns
    -------
    0 when done, 1 when answers differ, 2 after an error (one line on standard error).
    """
    args = build_parser().parse_args(argv)
    screen = Screen(plain=args.plain, quiet=args.json)
    try:
        return COMMANDS[args.command](args, screen)
    except BrokenPipeError:  # the reader has seen enough: `gateinfer info model.onnx | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except EXPECTED as error:
        if args.debug:
            raise
        print(f"gateinfer: error: {_one_line(error)}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines) or type(error).__name__
