"""The race of mechanisms in numbers."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure
from analysis.figures.race import Race
from analysis.laboratory import told
from analysis.race import by_loss, named
from analysis.text_table import draw_table

_HEADS = {
    "loss": "loss",
    "own_loss": "loss,\nown bids",
    "welfare_share": "welfare,\nof value",
    "efficiency": "of\noptimum",
    "revenue_share": "revenue",
    "envy": "envy",
    "gini_served": "Gini,\nserved",
    "gini_rent": "Gini,\nrents",
    "volatility": "price\nvolatility",
    "churn": "turned\nby noise",
    "spend_fraction": "spend",
    "clearing_ms": "clearing,\nms",
}
_WITH_INTERVAL = ("loss",)


class RaceTable(Figure):
    """One row per mechanism."""

    name = "race_table"
    title = "The race of mechanisms: the numbers"
    question = (
        "Shares of declared value (welfare, revenue), of the linear program's welfare (optimum), "
        "of the agent's own value (envy), of dense agent FLOPs (spend). In brackets: 95 % "
        "bootstrap intervals over seeds and steps; the CSV has those of all numbers. Clearing "
        "time: median per batch on the machine of the run."
    )
    needs = ("race", "timings")
    place = 11
    scenario = "mechanism_race"

    def data(self, run: Run) -> pd.DataFrame:
        """Those of the figure above."""
        return Race().data(run)

    def draw(self, data: pd.DataFrame) -> Canvas:
        """The table."""
        nothing = float("nan")
        cells = {}
        for row, name in zip(data.itertuples(), named(data), strict=True):
            bounds = (row.low, row.high) if row.measure in _WITH_INTERVAL else (nothing, nothing)
            digits = 1 if row.measure == "clearing_ms" else 3
            cells[name, row.measure] = told(row.mean, *bounds, digits)
        rows = [[name, *(cells.get((name, m), "") for m in _HEADS)] for name in by_loss(data)]
        return draw_table(["", *_HEADS.values()], rows)
