"""Every statistic of measured on predicted loss, as a table."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure
from analysis.figures.valuation import EQUAL, Valuation
from analysis.fits import FAMILIES, said
from analysis.style import words
from analysis.text_table import draw_table

_HEAD = {
    "slope_origin": "slope,\nthrough 0",
    "r2_origin": "R²,\nthrough 0",
    "slope": "slope,\nfree",
    "intercept": "intercept,\nfree",
    "r2": "R²,\nfree",
    "rank": "rank\ncorrelation",
}


class ValuationTable(Figure):
    """One row per policy and family of allocations."""

    name = "valuation_table"
    title = "Measured on predicted loss: all statistics"
    question = (
        "Slopes are loss per 1,000 credits, intercepts losses times 1,000. Through 0: a line that "
        "predicts no loss where nothing is closed. At equal FLOPs: what all policies' markets and "
        "chance made, each text's mean at each budget taken off both sides. In brackets: 95 % "
        "bootstrap intervals over texts."
    )
    needs = ("allocations_measured", "allocations_judged")
    place = 11
    scenario = "valuation"

    def data(self, run: Run) -> pd.DataFrame:
        """The statistics of the figure above."""
        return Valuation().data(run)

    def draw(self, data: pd.DataFrame) -> Canvas:
        """The table."""
        rows = []
        for (policy, family), part in data.groupby(["policy", "family"], sort=False):
            at = part.set_index("statistic")[["value", "low", "high"]]
            label = "at equal FLOPs" if family == EQUAL else FAMILIES[family][0]
            cells = []
            for name in _HEAD:
                thousand = 1000 if name in ("slope_origin", "slope", "intercept") else 1
                cells.append(said(at.loc[name] * thousand))
            rows.append([words(policy), label, *cells])
        return draw_table(["bids", "allocations", *_HEAD.values()], rows, named=2)
