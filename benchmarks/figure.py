"""Time per bid against bids: a line for each mechanism, a point for each solution by a solver."""

from __future__ import annotations

from collections import defaultdict
from io import BytesIO
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from analysis.style import DPI, GREY, RC, WIDTH_IN
from benchmarks.scaling import SORTS

# Okabe & Ito (2008), as in the reports; dashed the second time round.
_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#6E6E00"]
_MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
#: least distance of two labels, as a share of the axis
_GAP = 0.047


def png(result: dict[str, Any]) -> bytes:
    """The figure of a clearing result."""
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(WIDTH_IN, 5.6), layout="constrained")
        ax = figure.add_subplot()
        _lines(ax, result["rows"])
        _points(ax, result["rows"])
        ax.set(xscale="log", yscale="log", xlabel="bids in one clearing (agents x tokens)")
        ax.set_ylabel("time per bid, nanoseconds")
        ax.grid(axis="y")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        threads = result["threads"]
        ax.set_title(
            "Clearing a market per sequence: time per bid "
            f"({result['machine']['cpu']}, {threads} thread{'s' if threads > 1 else ''})"
        )
        _label(ax)
        file = BytesIO()
        # No date in the file: the same result gives the same bytes.
        figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def _lines(ax: Axes, rows: list[dict[str, Any]]) -> None:
    times: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in rows:
        if row["question"] == "scale":
            times[row["candidate"]].append((row["bids"], row["ns_per_bid"]))
    names = [name for name in times if name.endswith("/sequence") and name != "uniform/sequence"]
    for place, name in enumerate(names):
        style = {
            "color": _COLOURS[place % len(_COLOURS)],
            "marker": _MARKERS[place % len(_MARKERS)],
            "linestyle": "-" if place < len(_COLOURS) else "--",
        }
        label = name.removesuffix("/sequence").replace("_", " ")
        ax.plot(*zip(*sorted(times[name]), strict=True), label=label, **style)
    if "uniform/sequence" in times:
        line = sorted(times["uniform/sequence"])
        label = "uniform (no market)"
        ax.plot(
            *zip(*line, strict=True),
            label=label,
            color="black",
            marker="x",
            markeredgecolor="black",
        )
    if SORTS[0] in times:
        line = sorted(times[SORTS[0]])
        ax.plot(*zip(*line, strict=True), label="one torch.sort", color=GREY, linestyle=":")


def _points(ax: Axes, rows: list[dict[str, Any]]) -> None:
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for row in rows:
        if row["question"] == "solver":
            found[row["candidate"]][row["bids"]] = row["ns_per_bid"]
    for marker, (name, times) in zip("*h", found.items(), strict=False):
        ax.plot(list(times), list(times.values()), marker, color="black", markersize=12)
        for bids, time in times.items():
            ax.annotate(
                name, (bids, time), (8, 0), textcoords="offset points", va="center", fontsize=9.5
            )


def _label(ax: Axes) -> None:
    """Names at the right ends of the lines, moved apart where they would overlap."""
    lines = [line for line in ax.get_lines() if not line.get_label().startswith("_")]
    lines.sort(key=lambda line: line.get_ydata()[-1])
    low, high = np.log10(ax.get_ylim())
    wanted = [(np.log10(line.get_ydata()[-1]) - low) / (high - low) for line in lines]
    places = np.array(wanted)
    for _ in range(200):  # push neighbours apart, evenly to both sides
        for i in range(1, len(places)):
            short = _GAP - (places[i] - places[i - 1])
            if short > 0:
                places[i - 1] -= short / 2
                places[i] += short / 2
    for line, place in zip(lines, places, strict=True):
        ax.annotate(
            line.get_label(),
            xy=(line.get_xdata()[-1], line.get_ydata()[-1]),
            xytext=(1.03, place),
            textcoords="axes fraction",
            va="center",
            color=line.get_color(),
            fontsize=9.5,
            arrowprops={
                "arrowstyle": "-",
                "color": line.get_color(),
                "linewidth": 0.6,
                "relpos": (0, 0.5),
            },
        )
