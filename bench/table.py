"""Results as text: a table of everything, and the short one of README.

python -m bench.table FILE              the full table, markdown
python -m bench.table FILE --readme     README's table
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bench.peers import HOT, OURS, taking_part
from bench.speed import best_peer

FORM_NAMES = {
    "step": "one step",
    "sequence": "100 steps in one call",
    "rows16": "one step of 16 rows",
    "rows64": "one step of 64 rows",
}
LIMIT_COLUMNS = ("of limit", "C core of limit", "onnxruntime / limit")
README_CASES = (
    *(f"{op}-{size}-step" for op in ("lstm", "gru") for size in (16, 64, 128, 256, 1024)),
    *(f"{op}-{size}-sequence" for op in ("lstm", "gru") for size in (64, 256, 1024)),
    *(f"{op}-{size}-{rows}" for op in ("lstm", "gru") for size in (128, 512) for rows in ("rows16", "rows64")),
    "silero-vad", "gtcrn", "rnnoise", "plc-nsnet2", "dtln-1", "charrnn", "pose-gru:0", "silero-vad-sequence:2",
    "dgaintel:0", "thai-segmenter:0",
)  # fmt: skip
MODEL_NAMES = {
    "silero-vad": "Silero VAD, one 32 ms frame",
    "gtcrn": "GTCRN noise suppression, one 16 ms frame",
    "rnnoise": "RNNoise, one 10 ms frame",
    "plc-nsnet2": "NSNet2 packet loss concealment, one 10 ms frame",
    "dtln-1": "DTLN (first half), one 8 ms frame",
    "charrnn": "character RNN, one character",
    "pose-gru:0": "pose GRU, one window of 20",
    "silero-vad-sequence:2": "Silero VAD, 300 frames in one call",
    "dgaintel:0": "dgaintel, 8 names of 82 characters",
    "thai-segmenter:0": "Thai word segmenter, 30 code points",
}


def compact(found: dict) -> str:
    """JSON with four significant digits and one row a line."""

    def short(value: object) -> object:
        if isinstance(value, float):
            return float(f"{value:.4g}")
        if isinstance(value, dict):
            return {key: short(one) for key, one in value.items()}
        return [short(one) for one in value] if isinstance(value, list) else value

    def write(value: object, indent: str) -> str:
        deep = isinstance(value, (dict, list)) and any(isinstance(v, (dict, list)) for v in _values(value))
        if not deep or (isinstance(value, dict) and "case" in value):
            return json.dumps(value)
        inner = indent + " "
        if isinstance(value, list):
            return "[\n" + ",\n".join(inner + write(one, inner) for one in value) + f"\n{indent}]"
        lines = (f"{inner}{json.dumps(key)}: {write(one, inner)}" for key, one in value.items())
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"

    return write(short(found), "") + "\n"


def _values(value: dict | list) -> list:
    return list(value.values()) if isinstance(value, dict) else value


def title(row: dict) -> str:
    if "op" in row:
        return f"{row['op']} {row['size']}, {FORM_NAMES[row['group']]}"
    return MODEL_NAMES.get(row["case"], row["case"])


def us(value: float) -> str:
    """Three significant digits at least, thousands separated."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 10 else f"{value:.2f}"


def times(ratio: float) -> str:
    """A ratio; bold where the peer is faster."""
    text = f"{ratio:.1f}" if ratio >= 9.95 else f"{ratio:.2f}"
    return f"**{text}**" if ratio < 0.995 else text


def relation(engine: dict) -> str:
    """Its ratio; bold where a peer is faster."""
    return f"{engine['ratio']:.2f}" if engine["engine"] == HOT else times(engine["ratio"])


def onnxruntime(row: dict) -> dict | None:
    """Its better form."""
    forms = (e for e in row["engines"] if e["engine"].startswith("onnxruntime"))
    return min(forms, key=lambda e: e["ratio"], default=None)


def limit_figures(row: dict, cell: dict) -> list[str]:
    """LIMIT_COLUMNS of a layer. The last one is how many times as fast as onnxruntime an engine can be at most."""
    shares = [f"{cell['limit_us'] / t:.0%}" for t in (row["engines"][0]["p50_us"], cell["us"])]
    peer = onnxruntime(row)
    return [*shares, times(peer["p50_us"] / cell["limit_us"]) if peer else ""]


def readme(found: dict) -> str:
    """Ours, the best peer, their ratio, and the ratio to the better form of onnxruntime."""
    rows = {row["case"]: row for row in found["speed"][0]["rows"] if row["engines"]}
    lines = ["| case | gateinfer us | p99 us | best peer | us | times as long | onnxruntime |"]
    lines.append("|---|---:|---:|---|---:|---:|---:|")
    for row in (rows[name] for name in README_CASES if name in rows):
        ours, best = row["engines"][0], best_peer(row)
        ort = onnxruntime(row)
        figures = (us(ours["p50_us"]), us(ours["p99_us"]), best["engine"], us(best["p50_us"]), times(best["ratio"]))
        lines.append(f"| {' | '.join([title(row), *figures, times(ort['ratio']) if ort else ''])} |")
    return "\n".join(lines)


def full(found: dict) -> str:
    """Every case and engine, with the share of the limit; then cold start."""
    parts = [f"## {found['machine']['cpu']}, revision {found['revision']}, {found['date']}"]
    for run in found["speed"]:
        parts += [_settings(run["settings"]), _speed(run, found["cells"]), _skipped(run)]
    parts += ["### Cold start: import (byte code cached) + load + first step, and peak memory, in fresh processes"]
    parts += [_cold(found["cold"])]
    return "\n\n".join(part for part in parts if part)


def _settings(settings: dict) -> str:
    threads, cpus = settings["threads"], ", ".join(map(str, settings["cpus"]))
    plural = "s" if threads > 1 else ""
    return f"### {threads} thread{plural}, pinned to CPU{plural} {cpus}; load average {settings['load_average']}"


def _speed(run: dict, cells: dict) -> str:
    """Microseconds of gateinfer, what the limit allows, then each peer's ratio."""
    threads = run["settings"]["threads"]
    peers, one = [name for name in taking_part(threads) if name != OURS], threads == 1
    head = ["case", "p50 us", "p99 us", *(LIMIT_COLUMNS if one else []), *peers]
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    for row in run["rows"]:
        if not row["engines"]:
            continue
        ours, ratios = row["engines"][0], {e["engine"]: relation(e) for e in row["engines"]}
        cell = cells.get(row["case"]) if one else None
        shares = limit_figures(row, cell) if cell else [""] * len(LIMIT_COLUMNS) * one
        figures = [us(ours["p50_us"]), us(ours["p99_us"]), *shares, *(ratios.get(name, "") for name in peers)]
        lines.append(f"| {' | '.join([row['case'], *figures])} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _skipped(run: dict) -> str:
    reasons: dict[str, list[str]] = {}
    for row in run["rows"]:
        for engine, reason in row["skipped"].items():
            reasons.setdefault(f"{engine}: {reason.removeprefix(engine).strip()}", []).append(row["case"])
    return "\n".join(
        f"* {why} ({', '.join(names) if len(names) < 4 else f'{len(names)} cases'})" for why, names in reasons.items()
    )


def _cold(rows: list[dict]) -> str:
    lines = [
        "| case | engine | import + load ms | first step ms | in all ms | peak MiB |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        if "skipped" not in row:
            spent = [f"{row[key] * 1e3:,.1f}" for key in ("load_s", "first_s", "total_s")]
            lines.append(f"| {' | '.join([row['case'], row['engine'], *spent])} | {row['peak_MiB']:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--readme", action="store_true", help="README's table")
    args = parser.parse_args()
    found = json.loads(args.file.read_text())
    print(readme(found) if args.readme else full(found))


if __name__ == "__main__":
    main()
