"""Every mechanism's marks, side by side."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure, Missing
from analysis.laboratory import told
from analysis.lines import legend_below, panels
from analysis.race import by_loss, named, raced

_SHOWN = {
    "loss": "loss against dense",
    "efficiency": "welfare, of the optimum",
    "revenue_share": "revenue, of declared value",
    "envy": "envy, of own value",
    "gini_served": "Gini of service",
    "gini_rent": "Gini of rents",
    "churn": "gates turned by noise",
    "clearing_ms": "clearing, ms per batch",
}
_SAME, _OWN = "#0072B2", "#D55E00"


class Race(Figure):
    """One panel per measure, one row per mechanism, the least loss first."""

    name = "race"
    title = "The race of mechanisms"
    question = (
        "Same model, texts, bids and supply; wallets never bind. Lower is better for loss, envy, "
        "inequality and turnover; revenue is what agents pay of all they declare. Mechanisms are "
        "in the order of their loss. Bars: 95 % bootstrap intervals over seeds and steps; of "
        "clearing times, quartiles. Orange: bids read off what the market's own gates left of the "
        "hidden states, as in use."
    )
    needs = ("race", "timings")
    place = 10
    scenario = "mechanism_race"

    def data(self, run: Run) -> pd.DataFrame:
        """Every measure of every market."""
        race = run.table("race")
        if race.empty:
            raise Missing("nobody took part")
        return raced(race, run.table("timings"))

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Dots with intervals."""
        order = by_loss(data)
        data = data.assign(name=named(data))
        canvas, axes = panels(rows=2, columns=4, height_in=0.5 + 0.17 * len(order))
        places = pd.Series(range(len(order)), index=order)
        for ax, (measure, label) in zip(axes.flat, _SHOWN.items(), strict=True):
            marks = [(measure, _SAME, "the same bids for all", 0.0)]
            if measure == "loss":
                marks = [(*marks[0][:3], -0.16), ("own_loss", _OWN, "bids of its own", 0.16)]
            for at, colour, text, beside in marks:
                part = data[data["measure"] == at].set_index("name").loc[order]
                low, high = (part[side].fillna(part["mean"]) for side in ("low", "high"))
                error = [(part["mean"] - low).clip(lower=0), (high - part["mean"]).clip(lower=0)]
                look = {"fmt": "o", "color": colour, "markersize": 4.5, "elinewidth": 1.2}
                ax.errorbar(part["mean"], places + beside, xerr=error, label=text, **look)
            ax.set_yticks(places, order, fontsize=8)
            ax.invert_yaxis()
            ax.set_xlabel(label, fontsize=9)
            ax.tick_params(axis="x", labelsize=8)
            if measure == "clearing_ms":
                ax.set_xscale("log")
                ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
                ax.xaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:g}"))
                ax.xaxis.set_minor_formatter(NullFormatter())
            elif measure != "loss":
                ax.set_xlim(left=min(0.0, float(part["mean"].min())))
        for ax in axes[:, 1:].flat:
            ax.tick_params(axis="y", labelleft=False)
        legend_below(canvas, axes)
        return canvas

    def findings(self, data: pd.DataFrame) -> list[str]:
        """The best and the worst by loss; whether welfare and loss agree."""
        at = data.assign(name=named(data)).pivot_table(
            index="name", columns="measure", values=["mean", "low", "high"], sort=False
        )
        order = by_loss(data)
        best, worst = (
            f"{name} ({told(*(at.loc[name, (k, 'loss')] for k in ('mean', 'low', 'high')))})"
            for name in (order[0], order[-1])
        )
        found = [f"Least loss: {best}; most: {worst}."]
        if len(order) > 2:
            rank = at["mean"]["welfare_share"].corr(at["mean"]["loss"], method="spearman")
            found.append(
                f"Rank correlation of declared welfare with loss over {len(order)} markets: "
                f"{rank:.2f}."
            )
        return found
