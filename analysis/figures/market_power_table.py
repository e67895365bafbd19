"""What learning to shade changes, in numbers."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure, Missing
from analysis.laboratory import told
from analysis.market_power import BILLED, learning, rule
from analysis.text_table import draw_table

_HEADS = {
    "factor": "share of\nvalue bid",
    "revenue": "revenue,\nof truthful",
    "rent": "change of\nagents' rents",
    "welfare": "change of\nwelfare",
    "extra_loss": "loss beyond\ntruthful",
}


class MarketPowerTable(Figure):
    """One row per mechanism."""

    name = "market_power_table"
    title = "Agents that learn to shade: the numbers"
    question = (
        "The last half of the stream. Rents and welfare at true values, as shares of the value "
        "that truthful agents are served. In brackets: 95 % bootstrap intervals over seeds and "
        "steps."
    )
    needs = ("power_learning",)
    place = 12
    scenario = "market_power"

    def data(self, run: Run) -> pd.DataFrame:
        """Every measure of every mechanism."""
        table = run.table("power_learning")
        if table.empty:
            raise Missing("nobody learned")
        return learning(table)

    def draw(self, data: pd.DataFrame) -> Canvas:
        """The table."""
        cells = {
            (row.mechanism, row.measure): told(row.mean, row.low, row.high)
            for row in data.itertuples()
        }
        rows = [
            [rule(mechanism, BILLED), *(cells[mechanism, measure] for measure in _HEADS)]
            for mechanism in dict.fromkeys(data["mechanism"])
        ]
        return draw_table(["", *_HEADS.values()], rows)

    def findings(self, data: pd.DataFrame) -> list[str]:
        """What learning costs the model."""
        return [
            f"{rule(row.mechanism, BILLED)}: learners lose {told(row.mean, row.low, row.high)} "
            "more than truthful agents."
            for row in data[data["measure"] == "extra_loss"].itertuples()
        ]
