"""Triads of payments against random networks of the same degrees."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure, Missing
from analysis.fits import whiskers
from analysis.laboratory import colours
from analysis.lines import legend_below, panels
from analysis.permit_network import by_rule
from analysis.style import GREY


class PermitTriads(Figure):
    """One panel per purse, one column of points per triad."""

    name = "permit_triads"
    title = "Triads against chance"
    question = (
        "Which patterns of three are more frequent than degrees alone explain? z-scores of the "
        "thirteen linked triads (M-A-N names: mutual, one-way and absent ties) against random "
        "networks in which everybody pays and is paid by as many others. Shaded: within two "
        "standard deviations. Bars: 95 % bootstrap intervals over seeds and windows."
    )
    needs = ("permit_network",)
    place = 12
    scenario = "cap_and_trade"

    def data(self, run: Run) -> pd.DataFrame:
        """z-scores with intervals."""
        table = run.table("permit_network")
        table = table[table["measure"].str.startswith("triad") & table["z"].notna()]
        if table.empty:
            raise Missing("no triad could be told from chance")
        found = by_rule(table, "z")
        return found.assign(triad=found["measure"].str.removeprefix("triad ")).drop(
            columns="measure"
        )

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Points with intervals."""
        purses = list(dict.fromkeys(data["purse"]))
        triads = list(dict.fromkeys(data["triad"]))
        rules = list(dict.fromkeys(data["rule"]))
        canvas, axes = panels(rows=len(purses), columns=1, height_in=2.1)
        colour = colours(rules)
        for ax, purse in zip(axes.flat, purses, strict=True):
            ax.axhspan(-2, 2, color=GREY, alpha=0.12, linewidth=0)
            for place, rule in enumerate(rules):
                part = data[(data["purse"] == purse) & (data["rule"] == rule)]
                x = part["triad"].map(triads.index) + 0.18 * (place - (len(rules) - 1) / 2)
                look = {"color": colour[rule], "marker": "o", "linestyle": "", "markersize": 4}
                whiskers(ax, x, part["mean"], part["low"], part["high"], label=rule, **look)
            ax.set_xticks(range(len(triads)), triads)
            ax.set_ylabel(f"z, {purse} purses")
        legend_below(canvas, axes, columns=4)
        return canvas
