"""Who is left in business, step by step, and what that costs the model."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure, Missing
from analysis.laboratory import colours
from analysis.lines import legend_below, panels
from analysis.style import percent

_QUANTITIES = {"cost_share": "cost of those in business,\nof dense FLOPs", "loss": "loss"}


class EntryExit(Figure):
    """One column per supply, one line per rule of income and of entry."""

    name = "entry_exit"
    title = "Entry and exit"
    question = (
        "Does ruin stop, and where? Above: what all agents in business would cost if they served "
        "every token; dotted: supply. Once they fit into supply the price is 0 and nobody else "
        "is ruined. Below: loss on the batches that were traded on. Means over seeds."
    )
    needs = ("entry_steps",)
    place = 10
    scenario = "entry_exit"

    def data(self, run: Run) -> pd.DataFrame:
        """Means over seeds."""
        table = run.table("entry_steps")
        if table.empty:
            raise Missing("the run recorded no step")
        keys = ["supply", "income", "entry", "step"]
        return table.groupby(keys, sort=False)[[*_QUANTITIES]].mean().reset_index()

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Lines over steps."""
        supplies = list(dict.fromkeys(data["supply"]))
        canvas, axes = panels(rows=2, columns=len(supplies), height_in=2.5, share_y="row")
        colour = colours(data["income"])
        looks = dict(zip(dict.fromkeys(data["entry"]), ("-", (0, (4, 1.5)), ":"), strict=False))
        for column, supply in enumerate(supplies):
            part = data[data["supply"] == supply]
            for row, (quantity, label) in enumerate(_QUANTITIES.items()):
                ax = axes[row, column]
                for (income, entry), line in part.groupby(["income", "entry"], sort=False):
                    look = {"color": colour[income], "linestyle": looks[entry]}
                    look["label"] = f"{income} income, entry: {entry}"
                    ax.plot(line["step"], line[quantity], **look)
                if row == 0:
                    ax.axhline(supply, color="black", linestyle=":", linewidth=1)
                    ax.set_title(f"{percent(supply)} supply")
                ax.set_ylim(bottom=0)
                if column == 0:
                    ax.set_ylabel(label)
            axes[1, column].set_xlabel("step (batch)")
        legend_below(canvas, axes, columns=2)
        return canvas
