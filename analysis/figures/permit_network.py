"""Who pays whom for permits, as numbers of a network."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure, Missing
from analysis.laboratory import told
from analysis.permit_network import LONGER, by_rule
from analysis.text_table import draw_table

_HEADS = {
    "density": "density",
    "reciprocity": "reciprocity",
    "strong_flow": "flow inside\nstrong parts",
    "cyclic_share": "flow that\ngoes round",
    "cycles of 2": "in cycles\nof 2",
    "cycles of 3": "of 3",
    LONGER: "of 4 and\nmore",
}


class PermitNetwork(Figure):
    """One row per purse and rule."""

    name = "permit_network"
    title = "The network of payments"
    question = (
        "Does money circulate or run one way? Agents are nodes, an edge is what one paid another "
        "over a window of the stream. Flow that goes round: the largest circulation inside the "
        "flow, as a share of it; the rest has no cycle. Cycle lengths are one way to peel it. In "
        "brackets: 95 % bootstrap intervals over seeds and windows."
    )
    needs = ("permit_network",)
    place = 11
    scenario = "cap_and_trade"

    def data(self, run: Run) -> pd.DataFrame:
        """Every measure but the triads."""
        table = run.table("permit_network")
        if table.empty:
            raise Missing("nobody traded permits")
        found = by_rule(table)
        return found[~found["measure"].str.startswith("triad")].reset_index(drop=True)

    def draw(self, data: pd.DataFrame) -> Canvas:
        """The table."""
        cells = {
            (row.purse, row.rule, row.measure): told(row.mean, row.low, row.high)
            for row in data.itertuples()
        }
        rows = [
            [f"{purse} purses", rule, *(cells.get((purse, rule, m), "0.000") for m in _HEADS)]
            for purse, rule in dict.fromkeys(zip(data["purse"], data["rule"], strict=True))
        ]
        rows.sort(key=lambda row: row[0])
        return draw_table(["", "permits", *_HEADS.values()], rows, named=2)

    def findings(self, data: pd.DataFrame) -> list[str]:
        """The share that goes round."""
        at = data[data["measure"] == "cyclic_share"]
        return [
            f"{row.purse} purses, permits by {row.rule}: {told(row.mean, row.low, row.high)} of "
            "the flow goes round."
            for row in at.itertuples()
        ]
