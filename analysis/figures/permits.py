"""Cap and trade over time: what is lost, and how unequal wallets become, rule by rule."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure, Missing
from analysis.intervals import bootstrap
from analysis.laboratory import colours
from analysis.lines import draw_interval, legend_below, panels

_QUANTITIES = {
    "loss": "loss against dense",
    "gini_wealth": "Gini of wallets",
    "traded_share": "permits traded, share of supply",
}


class Permits(Figure):
    """One column per quantity, one line per rule."""

    name = "permits"
    title = "Cap and trade"
    question = (
        "Does it matter who gets the permits? Where credits never bind (dotted, black) every rule "
        "leads to the same allocation: permits move money, not compute. Where they bind, each "
        "rule has its own line. Bands: 95 % bootstrap intervals over seeds."
    )
    needs = ("permit_steps",)
    place = 10
    scenario = "cap_and_trade"

    def data(self, run: Run) -> pd.DataFrame:
        """Means with intervals per rule, purse, step and quantity."""
        table = run.table("permit_steps")
        if table.empty:
            raise Missing("the run recorded no step")
        keys = ["rule", "purse", "step"]
        mean = table.groupby([*keys, "seed"], sort=False)[[*_QUANTITIES]].mean().reset_index()
        rows = []
        for key, part in mean.groupby(keys, sort=False):
            for quantity in _QUANTITIES:
                found = bootstrap(part[quantity].to_numpy()[:, None])._asdict()
                rows.append({**dict(zip(keys, key, strict=True)), "quantity": quantity, **found})
        return pd.DataFrame(rows)

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Three panels over one time axis."""
        canvas, axes = panels(rows=1, columns=3, height_in=2.9)
        colour = colours(data["rule"])
        for ax, (quantity, label) in zip(axes.flat, _QUANTITIES.items(), strict=True):
            part = data[data["quantity"] == quantity]
            for (rule, purse), line in part.groupby(["rule", "purse"], sort=False):
                if purse == "rich":
                    if quantity == "loss":
                        look = {"color": "black", "linestyle": ":", "linewidth": 1.1}
                        ax.plot(line["step"], line["mean"], **look)
                    continue
                bounds = line["step"], line["mean"], line["low"], line["high"]
                draw_interval(ax, *bounds, color=colour[rule], label=rule)
            ax.set_ylabel(label)
            ax.set_xlabel("step (batch)")
            ax.set_ylim(bottom=0)
        legend_below(canvas, axes, columns=4)
        return canvas

    def findings(self, data: pd.DataFrame) -> list[str]:
        """Loss at the last step, rule by rule."""
        last = data[(data["step"] == data["step"].max()) & (data["quantity"] == "loss")]
        return [
            f"{row.purse} purses, {row.rule}: loss {row.mean:.3f} at the last step."
            for row in last.itertuples()
        ]
