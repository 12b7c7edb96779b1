"""How `gateinfer info` prints a summary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateinfer.cli.render import Screen
from gateinfer.parts import OPEN, Part, Row, tally
from gateinfer.summary import Summary

MANY_NODES = 40
"""Longer models are shown as counts per operator and their dearest nodes, unless everything is wanted."""

DEAREST = 10
MAIN_OPS = 5

LONGEST_NAME = 36
"""Characters of a node's name in a table; paths of exporters tell nodes apart at their end. JSON has all of it."""


def show(summary: Summary, screen: Screen, *, everything: bool) -> None:
    """Prints facts, parts and nodes; `everything`: every node, however many there are."""
    screen.table(("what", "value"), summary.facts())
    if summary.parts:
        screen.heading("parts, in the order they run")
        columns = ("part", "runs in", "nodes", "MACs", "weights", "us", _share_of(summary), "main operators")
        _table(screen, columns, [_part(summary, part) for part in summary.parts])
    if len(summary.parts) > 1:
        screen.heading("what crosses the cut")
        screen.table(("part", "way", "tensor"), [line for part in summary.parts for line in _crossing(part)])
    if everything or len(summary.rows) <= MANY_NODES:
        screen.heading("nodes, in the order they run")
        _nodes(summary, screen, summary.rows)
    else:
        _digest(summary, screen)


def _table(screen: Screen, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table without the columns that nothing is known of."""
    kept = [i for i in range(len(columns)) if any(row[i] not in ("-", OPEN) for row in rows)]
    screen.table([columns[i] for i in kept], [[row[i] for i in kept] for row in rows])


def _part(summary: Summary, part: Part) -> tuple[str, ...]:
    ops = tally((op for op, count in part.ops.items() for _ in range(count)), MAIN_OPS)
    costs = (_number(part.macs), f"{part.weight_bytes:,}", _time(part.us), _percent(summary.share(part)))
    return str(part.number), part.where, str(part.nodes), *costs, ops


def _crossing(part: Part) -> Iterator[tuple[str, str, str]]:
    yield from ((str(part.number), "in", line) for line in part.inputs)
    yield from ((str(part.number), "out", line) for line in part.outputs)


def _nodes(summary: Summary, screen: Screen, rows: Sequence[Row]) -> None:
    _table(
        screen,
        ("op", "part", "runs in", "output", "MACs", "us", _share_of(summary), "node"),
        [_node(summary, row) for row in rows],
    )


def _node(summary: Summary, row: Row) -> tuple[str, ...]:
    name = row.node if len(row.node) <= LONGEST_NAME else "..." + row.node[3 - LONGEST_NAME :]
    costs = _number(row.macs), _time(row.us), _percent(summary.share(row))
    return row.op, str(row.part or OPEN), row.where, row.shape, *costs, name


def _share_of(summary: Summary) -> str:
    return "% MACs" if summary.us is None else "% time"


def _digest(summary: Summary, screen: Screen) -> None:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in summary.rows:
        groups.setdefault((row.op, row.where), []).append(row)
    screen.heading("operators, the dearest first")
    lines = [(_sum(summary, rows), len(rows), _group(summary, *key, rows)) for key, rows in groups.items()]
    ordered = sorted(lines, key=lambda line: line[:2], reverse=True)
    _table(screen, ("op", "runs in", "nodes", "MACs", "us", _share_of(summary)), [line for *_, line in ordered])
    dearest = sorted(summary.rows, key=lambda row: summary.share(row) or 0.0, reverse=True)[:DEAREST]
    dearest = [row for row in dearest if summary.share(row)]
    if dearest:
        screen.heading(f"the {len(dearest)} dearest nodes")
        _nodes(summary, screen, dearest)
    screen.line(f"{len(summary.rows)} nodes; --all lists them one by one")


def _sum(summary: Summary, rows: Sequence[Row]) -> float:
    return sum(summary.share(row) or 0.0 for row in rows)


def _group(summary: Summary, op: str, where: str, rows: Sequence[Row]) -> tuple[str, ...]:
    macs = [row.macs for row in rows if row.macs is not None]
    us = [row.us for row in rows if row.us is not None]
    shares = [share for row in rows if (share := summary.share(row)) is not None]
    costs = (_number(sum(macs) if macs else None), _time(sum(us) if us else None))
    return op, where, str(len(rows)), *costs, _percent(sum(shares) if shares else None)


def _number(value: int | None) -> str:
    return f"{value:,}" if value else "-"


def _time(us: float | None) -> str:
    return f"{us:,.2f}" if us else "-"


def _percent(share: float | None) -> str:
    return f"{100 * share:.1f}" if share else "-"
