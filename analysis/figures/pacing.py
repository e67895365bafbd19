"""Regret of online prices against the length of the stream."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, NullLocator, ScalarFormatter

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure, Missing
from analysis.fits import whiskers
from analysis.laboratory import colours, told
from analysis.lines import legend_below, panels
from analysis.pacing import exponents, growth
from analysis.style import BELOW, words


class Pacing(Figure):
    """One panel per order of texts, one line per method."""

    name = "pacing"
    title = "Pacing a stream"
    question = (
        "What does it cost to price a text without having seen it? Regret: welfare of the best "
        "allocation known in hindsight less welfare achieved. Dashed: growth as the square root "
        "of the length, through the first point of the method without a sample. Bars: 95 % "
        "bootstrap intervals over seeds and streams."
    )
    needs = ("pacing",)
    place = 10
    scenario = "pacing"

    def data(self, run: Run) -> pd.DataFrame:
        """Every measure of every method; exponents in rows of 0 tokens."""
        table = run.table("pacing")
        if table.empty:
            raise Missing("the run drew no stream")
        return growth(table)

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Log-log lines."""
        credit = data[(data["measure"] == "credits") & (data["tokens"] > 0)]
        orders = list(dict.fromkeys(credit["order"]))
        canvas, axes = panels(rows=1, columns=len(orders), height_in=3.6, share_y="row")
        colour = colours(credit["method"])
        lengths = sorted(credit["tokens"].unique())
        for ax, order in zip(axes.flat, orders, strict=True):
            part = credit[credit["order"] == order]
            for method, line in part.groupby("method", sort=False):
                bounds = line["mean"], line["low"], line["high"]
                look = {"color": colour[method], "marker": "o"}
                whiskers(ax, line["tokens"], *bounds, label=words(method), **look)
            first = part[part["method"] == part["method"].iloc[0]]
            guide = first["mean"].iloc[0] * (first["tokens"] / first["tokens"].iloc[0]) ** 0.5
            ax.plot(first["tokens"], guide, **BELOW)
            ax.set_xscale("log", base=2)
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter(FuncFormatter(lambda credit, _: f"{credit:,.6g}"))
            ax.set_xticks(lengths)
            ax.xaxis.set_major_formatter(ScalarFormatter())
            ax.xaxis.set_minor_locator(NullLocator())
            ax.tick_params(axis="x", labelsize=8)
            ax.set_title(order)
            ax.set_xlabel("tokens in the stream")
        axes[0, 0].set_ylabel("regret, credits")
        legend_below(canvas, axes, columns=5)
        return canvas

    def findings(self, data: pd.DataFrame) -> list[str]:
        """The exponents."""
        return [
            f"{row.order} texts, {words(row.method)}: regret grows as T to the "
            f"{told(row.mean, row.low, row.high, 2)}."
            for row in exponents(data).itertuples()
        ]
