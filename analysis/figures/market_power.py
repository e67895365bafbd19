"""What coalitions gain, and what they cost everybody else."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure, Missing
from analysis.fits import whiskers
from analysis.laboratory import colours, told
from analysis.lines import legend_below, panels
from analysis.market_power import coalitions, rule
from analysis.style import percentages

_KEYS = ["mechanism", "charge"]
_SHOWN = {
    "gain": "gain of the group",
    "others": "change of the others' rents",
    "welfare": "change of welfare",
}


class MarketPower(Figure):
    """One panel per measure, one line per mechanism."""

    name = "market_power"
    title = "Market power"
    question = (
        "What does it pay to shade together? A group multiplies all its bids by one factor, chosen "
        "on other markets than it is judged on. Shares of the value that the group is served when "
        "truthful; bars: 95 % bootstrap intervals over markets. VCG bid by bid, as the "
        "mechanism bills, charges every (agent, token) as if it were alone; by agent, each pays "
        "what its presence costs the others."
    )
    needs = ("power_collusion",)
    place = 10
    scenario = "market_power"

    def data(self, run: Run) -> pd.DataFrame:
        """Every measure of every coalition."""
        table = run.table("power_collusion")
        if table.empty:
            raise Missing("the run drew no market")
        return coalitions(table)

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Three panels over sizes."""
        canvas, axes = panels(rows=1, columns=3, height_in=2.9)
        data = data.assign(rule=[rule(*key) for key in data[_KEYS].itertuples(index=False)])
        colour = colours(data["rule"])
        for ax, (measure, label) in zip(axes.flat, _SHOWN.items(), strict=True):
            part = data[data["measure"] == measure]
            for name, line in part.groupby("rule", sort=False):
                bounds = line["mean"], line["low"], line["high"]
                look = {"color": colour[name], "marker": "o", "label": name}
                whiskers(ax, line["coalition"], *bounds, **look)
            ax.axhline(0, color="black", linewidth=0.8)
            percentages(ax.yaxis)
            ax.set_xticks(sorted(part["coalition"].unique()))
            ax.set_xlabel("agents in the group")
            ax.set_ylabel(label)
        legend_below(canvas, axes, columns=4)
        return canvas

    def findings(self, data: pd.DataFrame) -> list[str]:
        """Alone and in the largest group."""
        at = data[data["measure"] == "gain"]
        ends = at[at["coalition"].isin([at["coalition"].min(), at["coalition"].max()])]
        return [
            f"{rule(row.mechanism, row.charge)}, group of {row.coalition}: gains "
            f"{told(row.mean, row.low, row.high)} of the value it is served."
            for row in ends.itertuples()
        ]
