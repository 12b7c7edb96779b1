"""Results as pictures for README, drawn from the JSON.

python -m bench.plots FILE [--out FOLDER]       default: next to the file
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from PIL import Image

from bench.cases import FORMS, SIZES
from bench.peers import OURS
from bench.speed import QUANTILES, best_peer
from bench.table import FORM_NAMES, MODEL_NAMES, times, us

# Okabe and Ito's palette, distinct for colour-blind eyes too; markers tell the engines apart without colour.
STYLE = {
    OURS: ("#000000", "o"),
    "onnxruntime run": ("#56b4e9", "v"),
    "onnxruntime io_binding": ("#0072b2", "^"),
    "OpenVINO": ("#009e73", "s"),
    "LiteRT": ("#d55e00", "D"),
    "PyTorch": ("#cc79a7", "P"),
    "NumPy": ("#8a8a8a", "X"),
}
LOSING = "#b30000"
plt.rcParams.update(
    {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e4e4e4",
        "axes.axisbelow": True,
        "axes.titlesize": 11,
        "figure.dpi": 110,
    }
)


def draw(found: dict, folder: Path) -> list[Path]:
    """All pictures that the results hold cases for."""
    rows = [row for row in found["speed"][0]["rows"] if len(row["engines"]) > 1]
    layers, models = [row for row in rows if "op" in row], [row for row in rows if "op" not in row]
    told = [row for row in rows if "quantiles_us" in row["engines"][0]]
    figures = {}
    if layers:
        figures["ratio"], figures["roofline"] = ratio(layers), roofline(layers, found["cells"])
    if models:
        figures["models"] = real_models(models)
    if told:
        figures["latency"] = latency(told)
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], bbox_inches="tight")
        plt.close(figure)
        Image.open(paths[-1]).convert("RGB").quantize(96).save(paths[-1], optimize=True)  # a third of the size
    return paths


# ---- ratio to the peers by size ----


def ratio(rows: list[dict]) -> plt.Figure:
    figure, grid = plt.subplots(2, len(FORMS), figsize=(14, 7.6), sharex=True, sharey=True, layout="constrained")
    for line, op in zip(grid, ("LSTM", "GRU"), strict=True):
        for axes, group in zip(line, FORMS, strict=True):
            chosen = sorted((r for r in rows if (r["op"], r["group"]) == (op, group)), key=lambda r: r["size"])
            ends = ratio_panel(axes, chosen)
            axes.set_title(f"{op}, {FORM_NAMES[group]}")
            if ends and group == list(FORMS)[-1]:
                label_ends(axes, ends)
        line[0].set_ylabel("time of the peer / time of gateinfer")
    for axes in grid[-1]:
        axes.set_xlabel("input size = hidden size")
    figure.suptitle(
        "How many times as long other engines take (log scale; one thread). Ring: fastest peer, with its figure. "
        "Red: faster than gateinfer.",
        fontsize=11,
    )
    return figure


def ratio_panel(axes: Axes, rows: list[dict]) -> dict[str, tuple[float, float]]:
    """Lines per engine over sizes; gives where each line ends."""
    ends = {}
    for engine, (colour, marker) in STYLE.items():
        points = [(place(row), e["ratio"]) for row in rows for e in row["engines"] if e["engine"] == engine != OURS]
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=4.5, linewidth=1.2)
            ends[engine] = points[-1]
    for row in rows:
        mark_best(axes, place(row), best_peer(row)["ratio"])
    axes.set_yscale("log")
    axes.set_ylim(0.5, 500)
    log_axis(axes.yaxis, (0.5, 1, 2, 5, 10, 20, 50, 100, 200), "{:g}×")
    parity(axes)
    size_axis(axes)
    return ends


def place(row: dict) -> int:
    """Sizes are evenly spaced: 200 and 256 would lie on each other on a log axis."""
    return SIZES.index(row["size"])


def size_axis(axes: Axes) -> None:
    axes.set_xticks(range(len(SIZES)), [str(size) for size in SIZES], fontsize=9)
    axes.set_xlim(-0.6, len(SIZES) - 0.4)


def mark_best(axes: Axes, x: float, value: float) -> None:
    colour = LOSING if value < 0.995 else "black"
    axes.plot(x, value, "o", markersize=9, markerfacecolor="none", markeredgecolor=colour, markeredgewidth=1.2)
    text = times(value).strip("*")
    box = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
    offset = {"xytext": (0, -15), "textcoords": "offset points"}
    axes.annotate(text, (x, value), **offset, ha="center", fontsize=8.5, color=colour, bbox=box)


def parity(axes: Axes) -> None:
    axes.axhline(1, color="black", linewidth=1)
    axes.axhspan(axes.get_ylim()[0], 1, color=LOSING, alpha=0.06, linewidth=0)


def log_axis(axis, ticks: Iterable[float], text: str) -> None:
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: text.format(value)))


def label_ends(axes: Axes, ends: dict[str, tuple[float, float]]) -> None:
    """Names at the right ends of the lines, moved apart where they would lie on each other."""
    names = sorted(ends, key=lambda name: ends[name][1])
    wanted = np.log10([ends[name][1] for name in names])
    for name, height in zip(names, spread(wanted, 0.13), strict=True):
        colour = STYLE[name][0]
        axes.annotate(
            name, ends[name], (len(SIZES) - 0.2, 10**height), color=colour, va="center", fontsize=9.5,
            annotation_clip=False, arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6},
        )  # fmt: skip


def spread(wanted: np.ndarray, gap: float) -> np.ndarray:
    """Ascending places at least `gap` apart, each near to where it is wanted: pushed up, then centred again."""
    places = wanted.copy()
    for k in range(1, len(places)):
        places[k] = max(places[k], places[k - 1] + gap)
    return places - min((places - wanted).mean(), gap * 2)


# ---- share of the machine's limit ----


def roofline(rows: list[dict], cells: dict[str, dict]) -> plt.Figure:
    figure, grid = plt.subplots(2, len(FORMS), figsize=(14, 6.4), sharex=True, sharey=True, layout="constrained")
    for line, op in zip(grid, ("LSTM", "GRU"), strict=True):
        for axes, group in zip(line, FORMS, strict=True):
            chosen = [r for r in rows if (r["op"], r["group"]) == (op, group) and r["case"] in cells]
            roofline_panel(axes, sorted(chosen, key=lambda r: r["size"]), cells)
            axes.set_title(f"{op}, {FORM_NAMES[group]}")
        line[0].set_ylabel("share of the limit")
    for axes in grid[-1]:
        axes.set_xlabel("input size = hidden size")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(
        "Share of the machine's limit: weights at the read bandwidth of their cache, or multiply-adds at the FMA peak, "
        "measured in the same run",
        fontsize=11,
    )
    return figure


def roofline_panel(axes: Axes, rows: list[dict], cells: dict[str, dict]) -> None:
    places = [place(row) for row in rows]
    limits = np.array([cells[row["case"]]["limit_us"] for row in rows])
    lines = {
        "gateinfer's C core alone": ([cells[row["case"]]["us"] for row in rows], "#000000", "--"),
        "gateinfer from Python": ([row["engines"][0]["p50_us"] for row in rows], "#000000", "-"),
        "fastest peer": ([best_peer(row)["p50_us"] for row in rows], "#d55e00", "-"),
    }
    for name, (spent, colour, style) in lines.items():
        axes.plot(places, limits / np.array(spent), style, color=colour, marker="o", markersize=4, label=name)
    axes.axhline(1, color="#777777", linewidth=1)
    size_axis(axes)
    axes.set_ylim(0, 1.2)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))


# ---- real models ----


def real_models(rows: list[dict]) -> plt.Figure:
    rows = sorted(rows, key=lambda row: best_peer(row)["ratio"])
    figure, axes = plt.subplots(figsize=(10, 1.6 + 0.33 * len(rows)), layout="constrained")
    for y, row in enumerate(rows):
        best = best_peer(row)["ratio"]
        losing = best < 0.995
        colour = LOSING if losing else "black"
        axes.plot([1, best], [y, y], color=colour, linewidth=2.5, solid_capstyle="butt", zorder=1)
        for e in row["engines"][1:]:
            colour, marker = STYLE[e["engine"]]
            axes.plot(e["ratio"], y, marker, color=colour, markersize=7.5, markeredgecolor="white", zorder=2)
        text = f"{times(best).strip('*')}×  ({us(row['engines'][0]['p50_us'])} µs)"
        axes.annotate(text, (1.0, y), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
                      va="center", fontsize=9, color=LOSING if losing else "black")  # fmt: skip
    finish_models(axes, rows)
    return figure


def finish_models(axes: Axes, rows: list[dict]) -> None:
    axes.set_yticks(range(len(rows)), [MODEL_NAMES.get(row["case"], row["case"]) for row in rows])
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.6), max(high, 12))
    log_axis(axes.xaxis, (0.7, 1, 2, 3, 5, 7, 10, 15, 20), "{:g}×")
    axes.axvline(1, color="black", linewidth=1)
    axes.axvspan(axes.get_xlim()[0], 1, color=LOSING, alpha=0.06, linewidth=0)
    axes.set_xlabel("time of the peer / time of gateinfer (log scale, one thread); left of 1×: the peer is faster")
    axes.set_title("Real models: bar to the fastest peer; right: its ratio, and gateinfer's median", loc="left")
    shown = [name for name in STYLE if any(e["engine"] == name != OURS for row in rows for e in row["engines"])]
    for name in shown:
        axes.plot([], [], STYLE[name][1], color=STYLE[name][0], label=name)
    axes.legend(loc="lower right", fontsize=9)


# ---- distribution of latency ----


def latency(rows: list[dict]) -> plt.Figure:
    figure, grid = plt.subplots(2, 3, figsize=(14, 7.6), layout="constrained")
    panels = list(grid.flat)
    for axes, row in zip(panels, rows, strict=False):
        latency_panel(axes, row)
    for axes in panels[len(rows) :]:
        axes.axis("off")
    shown = [name for name in STYLE if any(e["engine"] == name for row in rows for e in row["engines"])]
    for name in shown:
        panels[-1].plot([], [], color=STYLE[name][0], linewidth=2.5 if name == OURS else 1.5, label=name)
    panels[-1].plot([], [], "o", color="black", label="p50")
    panels[-1].plot([], [], "D", color="black", markerfacecolor="white", label="p99")
    panels[-1].legend(loc="center", fontsize=11, frameon=False, title="left and steep is better")
    figure.suptitle("How long single calls take: share of calls that are at most as long (tail drawn out), one thread")
    return figure


def latency_panel(axes: Axes, row: dict) -> None:
    heights = nines(np.minimum(QUANTILES, 99.9))
    for e in row["engines"]:
        colour = STYLE[e["engine"]][0]
        values = np.array(e["quantiles_us"])
        axes.plot(values[:-1], heights[:-1], color=colour, linewidth=2.5 if e["engine"] == OURS else 1.3)
        axes.plot(e["p50_us"], nines(50), "o", color=colour, markersize=5)
        axes.plot(e["p99_us"], nines(99), "D", color=colour, markerfacecolor="white", markersize=5)
    ours = row["engines"][0]
    axes.set_title(f"{row['case']}: gateinfer p50 {us(ours['p50_us'])} µs, p99 {us(ours['p99_us'])} µs")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=20))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", labelsize=9)
    axes.set_xlabel("microseconds per call (log scale)")
    axes.set_yticks([nines(q) for q in (0, 50, 90, 99, 99.9)], ["min", "p50", "p90", "p99", "p99.9"])


def nines(percent: float | np.ndarray) -> float | np.ndarray:
    """Height of a percentile: p90, p99 and p99.9 are equally far apart."""
    return -np.log10(1 - np.asarray(percent) / 100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    for path in draw(json.loads(args.file.read_text()), args.out or args.file.parent):
        print(path)


if __name__ == "__main__":
    main()
