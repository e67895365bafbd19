"""Rank correlations of an audit."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.contribution import GROUPS, LEAVE_ONE_OUT, SHAPLEY, agreements
from analysis.figures.base import Figure, Missing
from analysis.laboratory import told
from analysis.text_table import draw_table


class AuditTable(Figure):
    """One row per market quantity, one column per measure of worth and group of agents."""

    name = "audit_table"
    title = "Contribution audit: the numbers"
    question = (
        "Spearman's rank correlation over agents. Served share, payment, rent (value served less "
        "payment) and wages come from the market; worth from silencing agents. Halves: how well "
        "Shapley values agree with themselves on other orders, which bounds what anything can "
        "reach. In brackets: 95 % bootstrap intervals over texts; resampling them adds noise, "
        "which lowers a correlation, so intervals lean low and may end below the number itself."
    )
    needs = ("audit",)
    place = 11
    scenario = "contribution_audit"

    def data(self, run: Run) -> pd.DataFrame:
        """Every agreement."""
        audit = run.table("audit")
        if set(audit["study"]) < {LEAVE_ONE_OUT, SHAPLEY}:
            raise Missing("the run measured no worth")
        rated = "audit_ratings" in run.tables
        found = agreements(audit, run.table("audit_ratings") if rated else None)
        return pd.DataFrame(list(found))

    def draw(self, data: pd.DataFrame) -> Canvas:
        """The table."""
        cells = {
            (row.one, row.other, row.group): told(row.mean, row.low, row.high, 2)
            for row in data.itertuples()
        }
        columns = [(LEAVE_ONE_OUT, "all"), *((SHAPLEY, group) for group in GROUPS)]
        rows = [
            [one.replace("_", " "), *(cells.get((one, *column), "") for column in columns)]
            for one in dict.fromkeys(data["one"])
            if not one.startswith(SHAPLEY)
        ]
        halves = ("shapley, first round", "shapley, other rounds")
        if (*halves, "all") in cells:
            own = [cells[*halves, group] for group in GROUPS]
            rows.append(["shapley, halves", "", *own])
        head = ["", *(f"{worth.replace('_', ' ')},\n{group}" for worth, group in columns)]
        return draw_table(head, rows)

    def findings(self, data: pd.DataFrame) -> list[str]:
        """Each quantity against Shapley values, all agents."""
        at = data[(data["other"] == SHAPLEY) & (data["group"] == "all")]
        return [
            f"{row.one.replace('_', ' ')} ranks agents as Shapley values do with "
            f"{told(row.mean, row.low, row.high, 2)}."
            for row in at.itertuples()
        ]
