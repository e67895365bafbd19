"""Inequality of wallets and what the model loses."""

from __future__ import annotations

import itertools
from itertools import cycle

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.endowments import ALL, EQUAL, compared
from analysis.figures.base import Figure, Missing
from analysis.fits import whiskers
from analysis.laboratory import colours, told
from analysis.lines import legend_below, panels
from analysis.style import GREY

_APART = 0.007
"""Of Gini, between colours."""


class Endowments(Figure):
    """Left: loss against how unequal wallets are at first; right: how inequality develops."""

    name = "endowments"
    title = "Endowments"
    question = (
        "Does inequality hurt the model? One shape per way to deal out wallets, one colour per "
        "rule of income; the sum of credits is the same. Left: loss beyond that of equal wallets "
        "on the same texts, against the Gini coefficient of wallets at the start. Right: the Gini "
        "coefficient at the end against that at the start. Bars: 95 % bootstrap intervals over "
        "seeds and steps. Colours stand a little apart where they would hide each other."
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
        names = [name for name in dict.fromkeys(data["endowment"]) if name != ALL]
        marker = dict(zip(names, cycle("osD^v<>P"), strict=False))
        colour = colours(data["income"])
        start = data[data["measure"] == "gini_start"].set_index(["endowment", "income"])["mean"]
        for ax, measure, label in zip(
            axes.flat,
            ("extra_loss", "gini_end"),
            ("loss beyond equal wallets", "Gini of wallets, last step"),
            strict=True,
        ):
            part = data[(data["measure"] == measure) & (data["endowment"] != ALL)]
            for income, name in itertools.product(colour, names):
                point = part[(part["income"] == income) & (part["endowment"] == name)]
                if point.empty or (measure == "extra_loss" and name == EQUAL):
                    continue
                apart = _APART * (list(colour).index(income) - (len(colour) - 1) / 2)
                y, low, high = (point[k] for k in ("mean", "low", "high"))
                x = pd.Series([start[name, income] + apart], index=y.index)
                look = {"color": colour[income], "marker": marker[name], "linestyle": ""}
                whiskers(ax, x, y, low.fillna(y), high.fillna(y), **look)
            if measure == "extra_loss":
                ax.axhline(0, color=GREY, linewidth=1, linestyle="--")
            ax.set_xlim(left=-0.03)
            ax.set_xlabel("Gini of wallets, first step")
            ax.set_ylabel(label)
        for income in colour:
            look = {"color": colour[income], "marker": "", "linewidth": 4}
            axes.flat[0].plot([], [], label=f"{income} income", **look)
        for name in names:
            look = {"color": GREY, "marker": marker[name], "linestyle": ""}
            axes.flat[0].plot([], [], label=name, **look)
        legend_below(canvas, axes, columns=5)
        return canvas

    def findings(self, data: pd.DataFrame) -> list[str]:
        """What unequal wallets add to the loss, and what incomes change."""
        extra = data[(data["measure"] == "extra_loss") & (data["endowment"] != EQUAL)]
        told_of = {
            "slope": "loss rises by {} for each 0.1 of Gini that wallets start with",
            "beyond_revenue": "loss beyond that under revenue in equal parts {}, all wallets",
        }
        together = data[data["endowment"] == ALL]
        return [
            *(
                f"{row.income} income: "
                + told_of[row.measure].format(told(row.mean, row.low, row.high))
                + "."
                for row in together.itertuples()
            ),
            *(
                f"{row.endowment} wallets, {row.income} income: loss beyond equal wallets "
                f"{told(row.mean, row.low, row.high)}."
                for row in extra.itertuples()
            ),
        ]
