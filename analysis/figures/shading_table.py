"""Gains from shading, as a table."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure
from analysis.figures.shading import Shading
from analysis.misreports import ALL_BIDS, BEST, FIXED
from analysis.style import words
from analysis.text_table import draw_table


class ShadingTable(Figure):
    """One row per kind of market and number of agents."""

    name = "shading_table"
    title = "What shading gains: the numbers"
    question = (
        "Gains from shading all bids, % of the rent that truthful bids leave at a uniform price. "
        "Best: the factor known in hindsight; fixed: one factor chosen on other draws. In "
        "brackets: 95 % bootstrap intervals over markets."
    )
    needs = ("shading",)
    place = 11
    scenario = "shading"

    def data(self, run: Run) -> pd.DataFrame:
        """Those of the figure above that concern all bids."""
        data = Shading().data(run)
        return data[data["deviation"] == ALL_BIDS].reset_index(drop=True)

    def draw(self, data: pd.DataFrame) -> Canvas:
        """The table."""
        mechanisms = list(dict.fromkeys(data["mechanism"]))
        cells = {
            (row.market, row.agents, row.mechanism, row.judged): _percent(row)
            for row in data.itertuples()
        }
        rows = [
            [
                f"{market} markets",
                f"{agents}",
                *(
                    cells.get((market, agents, mechanism, judged), "")
                    for mechanism in mechanisms
                    for judged in (BEST, FIXED)
                ),
            ]
            for market, agents in dict.fromkeys(zip(data["market"], data["agents"], strict=True))
        ]
        head = [f"{words(m)},\n{judged}" for m in mechanisms for judged in (BEST, FIXED)]
        return draw_table(["", "agents", *head], rows, named=2)


def _percent(row: tuple) -> str:
    """``3.8 (2.8 to 4.8)``, two digits that count."""
    value, low, high = (f"{float(f'{100 * x:.2g}'):g}" for x in (row.value, row.low, row.high))
    return f"{value} ({low} to {high})"
