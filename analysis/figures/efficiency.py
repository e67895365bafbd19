"""Welfare against the LP optimum."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.cells import lead_rows, one_scope
from analysis.figures.base import Figure, Missing
from analysis.intervals import by_variant
from analysis.lines import draw_interval, legend_below, over_supply, panels
from analysis.style import BELOW, GREY, line_styles, percentages, words


class Efficiency(Figure):
    """Welfare realised by each mechanism beside the best that the bids allowed."""

    name = "efficiency"
    title = "Welfare against the optimum"
    question = (
        "How much of what the bids promised does each mechanism realise? Left: welfare in credits "
        "(solid) and the LP optimum on the same bids (dashed, same colour); mechanisms meet "
        "different bids, so only their gap to the optimum compares. Right: that share, with 95 % "
        "bootstrap intervals; 100 % is the dashed line. Declared welfare adds agents up as if "
        "they were independent: it is not utility."
    )
    needs = ("metrics",)
    place = 70

    def data(self, run: Run) -> pd.DataFrame:
        """Welfare, LP optimum and their ratio per mechanism and budget, with intervals."""
        metrics = run.table("metrics")
        parts = [
            by_variant(metrics, metric).assign(metric=metric)
            for metric in ("efficiency", "welfare", "lp_welfare")
        ]
        if parts[0].empty:
            raise Missing("the run measured no efficiency")
        return one_scope(lead_rows(pd.concat(parts, ignore_index=True)))

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Two panels over supply: credits and share of the optimum."""
        canvas, ((credits, share),) = axes = panels(rows=1, columns=2, height_in=3.7)
        styles = line_styles(list(data["mechanism"]))
        for (mechanism, metric), line in data.groupby(["mechanism", "metric"], sort=False):
            style = styles[mechanism] | {"label": words(mechanism)}
            ax = share if metric == "efficiency" else credits
            if metric == "lp_welfare":
                style = {"color": style["color"], "linestyle": "--", "linewidth": 1.2}
                # No band: the optimum varies with the batches just as the welfare under it does.
                line = line.assign(low=np.nan, high=np.nan)
            bounds = line["mean"], line["low"], line["high"]
            draw_interval(ax, line["budget_fraction"], *bounds, **style)
        share.axhline(1.0, **BELOW)
        credits.plot([], [], color=GREY, linestyle="--", linewidth=1.2, label="LP optimum")
        for ax in (credits, share):
            over_supply(ax)
        percentages(share.yaxis)
        share.set_ylabel("share of the LP optimum")
        credits.set_ylabel("welfare, credits")
        credits.set_title(f"{data['scope'].iloc[0]} scope: welfare")
        share.set_title("allocative efficiency")
        legend_below(*axes)
        return canvas
