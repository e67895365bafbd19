"""Survivors and masks of the same cost, in numbers."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.entry_exit import SURVIVORS, judged
from analysis.figures.base import Figure, Missing
from analysis.laboratory import told
from analysis.style import percent
from analysis.text_table import draw_table

_HEADS = {
    "agents": "agents",
    "cost_share": "cost",
    "loss": "loss",
    "beyond_survivors": "loss beyond\nsurvivors'",
    "overlap": "overlap",
}


class EntryExitTable(Figure):
    """One row per economy and structure."""

    name = "entry_exit_table"
    title = "Survivors against masks of the same cost"
    question = (
        "Do markets prune well? Each structure serves every token of texts that nothing was traded "
        "on; masks may cost what the survivors cost. Overlap: agents in both over agents in "
        "either; the random mask's is what chance gives. In brackets: 95 % bootstrap intervals "
        "over seeds and texts; of counts, cost and overlap over seeds."
    )
    needs = ("entry_structures",)
    place = 12
    scenario = "entry_exit"

    def data(self, run: Run) -> pd.DataFrame:
        """Every measure of every structure."""
        table = run.table("entry_structures")
        if table.empty:
            raise Missing("the run judged no structure")
        return judged(table)

    def draw(self, data: pd.DataFrame) -> Canvas:
        """The table."""
        keys = ["supply", "income", "entry", "structure"]
        cells = {}
        for row in data.itertuples():
            digits = 0 if row.measure == "agents" else 3
            told_ = told(row.mean, row.low, row.high, digits)
            cells[row.supply, row.income, row.entry, row.structure, row.measure] = told_
        rows = [
            [
                f"{percent(supply)} supply, {income}, entry: {entry}",
                structure.replace("_", " "),
                *(cells[supply, income, entry, structure, measure] for measure in _HEADS),
            ]
            for supply, income, entry, structure in data[keys]
            .drop_duplicates()
            .itertuples(index=False)
        ]
        return draw_table(["", "structure", *_HEADS.values()], rows, named=2)

    def findings(self, data: pd.DataFrame) -> list[str]:
        """Each mask's loss beyond the survivors'."""
        at = data[(data["measure"] == "beyond_survivors") & (data["structure"] != SURVIVORS)]
        return [
            f"{percent(row.supply)} supply, {row.income} income, entry {row.entry}: "
            f"{row.structure.replace('_', ' ')} loses {told(row.mean, row.low, row.high)} more "
            "than the survivors."
            for row in at.itertuples()
        ]
