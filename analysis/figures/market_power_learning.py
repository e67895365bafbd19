"""Agents that learn how much of their value to bid: the way there."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure, Missing
from analysis.laboratory import colours
from analysis.lines import draw_interval, legend_below, panels
from analysis.market_power import BILLED, learning, rule
from analysis.style import percentages

_SHOWN = {
    "factor": "share of value bid",
    "revenue": "revenue, of truthful",
    "extra_loss": "loss beyond truthful",
}


class MarketPowerLearning(Figure):
    """One panel per measure, one line per mechanism."""

    name = "market_power_learning"
    title = "Agents that learn to shade"
    question = (
        "Every agent is a bandit (EXP3) over factors of its value, beside the same economy with "
        "truthful agents on the same texts. Means over ten parts of the stream; bands: 95 % "
        "bootstrap intervals over seeds and steps."
    )
    needs = ("power_learning",)
    place = 11
    scenario = "market_power"

    def data(self, run: Run) -> pd.DataFrame:
        """Every measure of every mechanism, part by part."""
        table = run.table("power_learning")
        if table.empty:
            raise Missing("nobody learned")
        return learning(table, over="parts")

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Three panels over steps."""
        canvas, axes = panels(rows=1, columns=3, height_in=2.7)
        colour = colours(data["mechanism"])
        for ax, (measure, label) in zip(axes.flat, _SHOWN.items(), strict=True):
            part = data[data["measure"] == measure]
            for mechanism, line in part.groupby("mechanism", sort=False):
                bounds = line["mean"], line["low"], line["high"]
                look = {"color": colour[mechanism], "label": rule(mechanism, BILLED)}
                draw_interval(ax, line["last"], *bounds, **look)
            ax.set_xlabel("step (batch)")
            ax.set_ylabel(label)
            if measure == "extra_loss":
                ax.axhline(0, color="black", linewidth=0.8)
            else:
                percentages(ax.yaxis)
        legend_below(canvas, axes)
        return canvas
