"""Utility per bid policy under one mechanism: whose bids are worth clearing."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.cells import REFERENCE, lead_mechanism
from analysis.examples import PERPLEXITY
from analysis.figures.base import Figure, Missing
from analysis.lines import draw_interval, legend_below, over_supply, panels
from analysis.readings import readings_of
from analysis.style import BELOW, direction, line_styles, words


class Policies(Figure):
    """The same market fed with different bids."""

    name = "policies"
    title = "Which bids are worth clearing"
    question = (
        "Do better valuations make a better economy? One mechanism, every policy of the study; "
        "random bids are the dashed reference. A policy under the reference is worse than knowing "
        "nothing. Bands: 95 % bootstrap intervals over seeds and steps."
    )
    needs = ("metrics",)
    place = 15

    def data(self, run: Run) -> pd.DataFrame:
        """Utility with intervals per policy, scope and budget under the lead mechanism."""
        found = readings_of(run)
        if found is None:
            raise Missing("the run measured no utility")
        utility = found.table()
        chosen = utility[utility["mechanism"] == lead_mechanism(utility)]
        if chosen["policy"].nunique() < 2:
            raise Missing("the study runs one bid policy only, so there is nothing to compare")
        return chosen.reset_index(drop=True)

    def draw(self, data: pd.DataFrame) -> Canvas:
        """One panel for each scope and unit."""
        parts = list(data.groupby(["scope", "unit"], sort=False))
        one_unit = data["unit"].nunique() == 1
        canvas, axes = panels(rows=1, columns=len(parts), height_in=3.7, share_y=one_unit)
        styles = line_styles([name for name in data["policy"] if name != REFERENCE])
        for ax, ((scope, unit), part) in zip(axes.flat, parts, strict=True):
            for policy, line in part.groupby("policy", sort=False):
                style = BELOW if policy == REFERENCE else styles[policy]
                bounds = line["mean"], line["low"], line["high"]
                draw_interval(ax, line["budget_fraction"], *bounds, label=words(policy), **style)
            ax.set_title(f"{words(data['mechanism'].iloc[0])}, {scope} scope")
            ax.set_ylabel(direction(unit))
            ax.set_yscale("log" if unit == PERPLEXITY else "linear")
            over_supply(ax)
        legend_below(canvas, axes, columns=5)
        return canvas
