"""How attention of trained models differs from dense, layer by layer."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.cells import SCARCE
from analysis.figures.base import Figure, Missing
from analysis.figures.frontier import SCENARIO
from analysis.frontier import ALL, MEASURES
from analysis.frontier_names import DENSE, MARKET, label, method_styles
from analysis.lines import draw_interval, legend_below, panels
from analysis.style import BELOW, percent


class FrontierAttention(Figure):
    """One panel per measure."""

    name = "frontier_attention"
    title = "Attention against the dense model, layer by layer"
    question = (
        "Does training under a budget leave attention that is more concentrated? Difference to the "
        "dense model, row by row, of the entropy of what served heads look at and of the Gini of "
        "what tokens receive, at one budget. Bands: 95 % intervals over seeds and rows. A "
        "layer none of whose heads serves a row is left out for that row."
    )
    needs = ("interpretability",)
    place = 12
    scenario = SCENARIO

    def data(self, run: Run) -> pd.DataFrame:
        """Changes per layer at the budget nearest to 40 % that the economy has."""
        table = run.table("interpretability")
        if table.empty:
            raise Missing("no dense model's attention was measured")
        table = table[(table["part"] == table["part"].iloc[0]) & (table["layer"] != ALL)]
        own = table.loc[table["method"] == MARKET, "budget_fraction"]
        if own.empty:
            raise Missing("the economy's attention was not measured")
        budget = min(own.unique(), key=lambda b: (abs(b - SCARCE), b))
        rows = table[(table["budget_fraction"] == budget) & ~table["method"].isin(DENSE)]
        columns = ["part", "method", "budget_fraction", "measure", "layer", "reference"]
        return rows[[*columns, "difference", "difference_low", "difference_high"]].reset_index(
            drop=True
        )

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Lines over layers."""
        canvas, axes = panels(1, len(MEASURES), height_in=3.6)
        styles = method_styles(data["method"])
        for ax, (measure, noun) in zip(axes[0], MEASURES.items(), strict=True):
            rows = data[data["measure"] == measure]
            for method, line in rows.groupby("method", sort=False):
                values = (line["difference"], line["difference_low"], line["difference_high"])
                draw_interval(ax, line["layer"], *values, label=label(method), **styles[method])
            ax.axhline(0, **BELOW)
            ax.set_title(noun)
            ax.set_xlabel("layer")
            ax.set_xticks(sorted(rows["layer"].unique()))
        about = data.iloc[0]
        axes[0][0].set_ylabel(
            f"minus {label(about['reference'])}, at {percent(about['budget_fraction'])}"
        )
        legend_below(canvas, axes, columns=4)
        return canvas
