"""Inequality of wallets and what the model loses."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.endowments import compared
from analysis.figures.base import Figure, Missing
from analysis.fits import whiskers
from analysis.laboratory import colours, told
from analysis.lines import legend_below, panels


class Endowments(Figure):
    """Left: loss against how unequal wallets are at first; right: how inequality develops."""

    name = "endowments"
    title = "Endowments"
    question = (
        "Does inequality hurt the model? One point per way to deal out wallets, one colour per "
        "rule of income; the sum of credits is the same. Left: mean loss over the stream against "
        "the Gini coefficient of wallets at the start. Right: the Gini coefficient at the end "
        "against that at the start. Bars: 95 % bootstrap intervals over seeds and steps."
    )
    needs = ("endowment_steps",)
    place = 10
    scenario = "endowments"

    def data(self, run: Run) -> pd.DataFrame:
        """Every measure of every economy."""
        table = run.table("endowment_steps")
        if table.empty:
            raise Missing("the run recorded no step")
        return compared(table)

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Two panels over the same axis."""
        canvas, axes = panels(rows=1, columns=2, height_in=3.2)
        colour = colours(data["income"])
        start = data[data["measure"] == "gini_start"].set_index(["endowment", "income"])["mean"]
        for ax, measure, label in zip(
            axes.flat,
            ("loss", "gini_end"),
            ("loss against dense", "Gini of wallets, last step"),
            strict=True,
        ):
            part = data[data["measure"] == measure]
            for income, line in part.groupby("income", sort=False):
                x = pd.Series([start[name, income] for name in line["endowment"]])
                y, low, high = (line[k].reset_index(drop=True) for k in ("mean", "low", "high"))
                look = {"color": colour[income], "marker": "o", "linestyle": ""}
                whiskers(ax, x, y, low.fillna(y), high.fillna(y), label=f"{income} income", **look)
                for place, name in enumerate(line["endowment"]):
                    at = (x[place], y[place])
                    ax.annotate(name, at, xytext=(4, 3), textcoords="offset points", fontsize=6.5)
            ax.set_xlabel("Gini of wallets, first step")
            ax.set_ylabel(label)
        legend_below(canvas, axes)
        return canvas

    def findings(self, data: pd.DataFrame) -> list[str]:
        """What unequal wallets add to the loss."""
        extra = data[(data["measure"] == "extra_loss") & (data["endowment"] != "equal")]
        return [
            f"{row.endowment} wallets, {row.income} income: loss beyond equal wallets "
            f"{told(row.mean, row.low, row.high)}."
            for row in extra.itertuples()
        ]
