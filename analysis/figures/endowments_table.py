"""Endowments in numbers."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.endowments import ALL
from analysis.figures.base import Figure
from analysis.figures.endowments import Endowments
from analysis.laboratory import told
from analysis.text_table import draw_table

_HEADS = {
    "gini_start": "Gini of wallets,\nstart",
    "gini_end": "end",
    "efficiency": "declared welfare,\nof the optimum",
    "loss": "loss",
    "extra_loss": "loss beyond\nequal wallets",
}


class EndowmentsTable(Figure):
    """One row per rule of income and endowment."""

    name = "endowments_table"
    title = "Endowments: the numbers"
    question = "In brackets: 95 % bootstrap intervals over seeds and steps."
    needs = ("endowment_steps",)
    place = 11
    scenario = "endowments"

    def data(self, run: Run) -> pd.DataFrame:
        """Those of the figure above."""
        data = Endowments().data(run)
        return data[data["endowment"] != ALL]

    def draw(self, data: pd.DataFrame) -> Canvas:
        """The table."""
        cells = {
            (row.income, row.endowment, row.measure): told(row.mean, row.low, row.high)
            for row in data.itertuples()
        }
        pairs = dict.fromkeys(zip(data["income"], data["endowment"], strict=True))
        rows = [
            [
                f"{income} income",
                endowment,
                *(cells.get((income, endowment, m), "") for m in _HEADS),
            ]
            for income, endowment in sorted(pairs, key=lambda pair: pair[0])
        ]
        return draw_table(["", "wallets", *_HEADS.values()], rows, named=2)
