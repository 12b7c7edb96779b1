"""What the command line prints: tables and progress with `rich` when it is there, plain text otherwise, or JSON."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

PATIENCE = 0.4
"""Seconds without a sign of life that nobody wonders about."""

Update = Callable[[int, int], None]
"""Called with (done, total)."""


WIDTH, NARROWEST = 100, 16
"""Columns where nobody says how many there are, and of the narrowest column of text."""


class Screen:
    """Where a command writes. `plain` does without rich; `quiet` (under --json) prints nothing but the JSON."""

    def __init__(self, plain: bool = False, quiet: bool = False) -> None:
        self._quiet = quiet
        self._rich = None if plain or quiet else _console()

    def line(self, text: str) -> None:
        """One line of text, as it is."""
        if self._quiet:
            return
        if self._rich:
            self._rich.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text)

    def can_print(self, text: str) -> bool:
        """True when the encoding of standard output has all of `text`."""
        try:
            text.encode(sys.stdout.encoding or "ascii")
        except UnicodeEncodeError:
            return False
        return True

    def heading(self, text: str) -> None:
        """A line that opens a section."""
        if self._quiet:
            return
        if self._rich:
            self._rich.print(f"\n{text}", style="bold", markup=False, highlight=False, soft_wrap=True)
        else:
            print(f"\n{text}")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Rows under column names. Columns of numbers are set to the right."""
        if self._quiet:
            return
        right = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(columns))]
        if self._rich:
            self._rich.print(_rich_table(columns, rows, right))
        else:
            print(plain_table(columns, rows, right))

    def json(self, value: Any) -> None:
        """The machine-readable result: one JSON document on standard output."""
        print(json.dumps(value, indent=2, allow_nan=True))

    @contextmanager
    def progress(self, label: str) -> Iterator[Update]:
        """A progress bar on standard error while the block runs, if somebody is looking."""
        if not self._is_watched():
            yield _nothing
        elif self._rich:
            with _rich_progress(label) as update:
                yield update
        else:
            yield lambda done, total: _count_up(label, done, total)

    @contextmanager
    def waiting(self, label: str) -> Iterator[None]:
        """Says on standard error what the block does once it has taken PATIENCE, if somebody is looking."""
        if not self._is_watched():
            yield
            return
        notice = _rich_status(label) if self._rich else _Notice(label)
        timer = threading.Timer(PATIENCE, notice.start)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            notice.stop()

    def _is_watched(self) -> bool:
        return not self._quiet and sys.stderr.isatty()


class _Notice:
    """A line of text that is there between `start` and `stop`. `stop` may come without `start`."""

    def __init__(self, label: str) -> None:
        self._text = f"{label} ..."
        self._shown = False

    def start(self) -> None:
        self._shown = True
        print(self._text, end="", file=sys.stderr, flush=True)

    def stop(self) -> None:
        if self._shown:
            print("\r" + " " * len(self._text) + "\r", end="", file=sys.stderr, flush=True)


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool], width: int = 0) -> str:
    """A table of text, two spaces between columns. What is longer than `width` is wrapped in its column."""
    widths = [max(len(line[i]) for line in (columns, *rows)) for i in range(len(columns))]
    _squeeze(widths, right, (width or screen_width()) - 2 * (len(columns) - 1))
    lines: list[Sequence[str]] = [columns, ["-" * width for width in widths]]
    for row in rows:
        cells = [textwrap.wrap(cell, size) or [""] for cell, size in zip(row, widths, strict=True)]
        lines += zip_longest(*cells, fillvalue="")

    def spell(line: Sequence[str]) -> str:
        cells = zip(line, widths, right, strict=True)
        return "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width) for cell, width, is_right in cells
        ).rstrip()

    return "\n".join(map(spell, lines))


def screen_width() -> int:
    """Columns of the terminal, or WIDTH."""
    return shutil.get_terminal_size((WIDTH, 0)).columns


def _squeeze(widths: list[int], right: Sequence[bool], room: int) -> None:
    """Takes from the widest columns of text what is too much, down to NARROWEST."""
    text = [i for i, is_right in enumerate(right) if not is_right]
    while sum(widths) > room and text:
        widest = max(text, key=lambda i: widths[i])
        if widths[widest] <= NARROWEST:
            return
        widths[widest] -= 1


def _count_up(label: str, done: int, total: int) -> None:
    print(f"\r{label} {done}/{total}", end="\n" if done == total else "", file=sys.stderr)


def _nothing(_done: int, _total: int) -> None:
    """Progress that nobody sees."""


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return text == "-"
    return True


def _console() -> Any:
    try:
        from rich.console import Console
    except ImportError:
        return None
    # A file or a pipe has no width; rich would take 80 columns.
    return Console(width=None if sys.stdout.isatty() else WIDTH)


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name, is_number in zip(columns, right, strict=True):
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _rich_status(label: str) -> Any:
    from rich.console import Console
    from rich.status import Status
    from rich.text import Text

    return Status(Text(label), console=Console(stderr=True))


@contextmanager
def _rich_progress(label: str) -> Iterator[Update]:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
