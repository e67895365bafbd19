"""Pacing in numbers: exponents, and where regret comes from."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure
from analysis.figures.pacing import Pacing
from analysis.laboratory import told
from analysis.pacing import PARTS, REGRET, exponents
from analysis.style import words
from analysis.text_table import draw_table


class PacingTable(Figure):
    """One row per order and method."""

    name = "pacing_table"
    title = "Pacing a stream: the numbers"
    question = (
        "Exponent: slope of log regret on log length. At the longest streams, % of the optimum's "
        "welfare: regret, and the parts it is the exact sum of: bids asked for at the wrong price, "
        "refused as FLOPs had run out, FLOPs left over (at the best price). First price: over the "
        "best one; price error: root mean square of the log distance along the stream. In "
        "brackets: 95 % bootstrap intervals over seeds and streams."
    )
    needs = ("pacing",)
    place = 11
    scenario = "pacing"

    def data(self, run: Run) -> pd.DataFrame:
        """Those of the figure above."""
        return Pacing().data(run)

    def draw(self, data: pd.DataFrame) -> Canvas:
        """The table."""
        longest = int(data["tokens"].max())
        at = data[data["tokens"] == longest].set_index(["order", "method", "measure"])
        slope = exponents(data).set_index(["order", "method"])
        rows = []
        for key in dict.fromkeys(zip(data["order"], data["method"], strict=True)):
            grows = _whole(slope.loc[key]) if key in slope.index else ""
            parts = [f"{100 * at.loc[(*key, part), 'mean'] + 0.0:.2f}" for part in PARTS]
            price = [
                f"{at.loc[(*key, each), 'mean']:.2f}" for each in ("first_price", "price_error")
            ]
            regret = _whole(100 * at.loc[(*key, REGRET), ["mean", "low", "high"]].astype(float))
            rows.append([key[0], words(key[1]), grows, regret, *parts, *price])
        head = [
            *("", "price", "exponent", f"regret, %,\n{longest} tokens"),
            *("mispriced,\n%", "refused,\n%", "left over,\n%", "first\nprice", "price\nerror"),
        ]
        return draw_table(head, rows, named=2)


def _whole(row: pd.Series) -> str:
    return told(row["mean"], row["low"], row["high"], 2)
