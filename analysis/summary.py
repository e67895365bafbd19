"""The summary table: utility and executed FLOPs of every variant at every budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from analysis.cells import NO_MARKET, STATIC_MASK, lead_rows
from analysis.intervals import VARIANT
from analysis.readings import Readings, spent
from analysis.style import number, percent, share, words


class Summary(NamedTuple):
    """A table ready for a page.

    Attributes:
        budgets: the column heads.
        lead: rows of mechanisms with their lead policy.
        rest: rows of all other policies.
        frame: the numbers behind it, tidy.
    """

    budgets: list[str]
    lead: list[dict]
    rest: list[dict]
    frame: pd.DataFrame


def summarise(metrics: pd.DataFrame, found: Readings) -> Summary:
    """Utility with its interval and FLOPs spent, per variant and budget.

    Args:
        metrics: the ``metrics`` table of a run.
        found: its utilities.
    """
    utility = found.table().rename(columns={"mean": "utility"})
    flops = spent(metrics)[[*VARIANT, "mean"]]
    frame = utility.merge(flops.rename(columns={"mean": "flops_fraction"}), on=VARIANT, how="left")
    budgets = sorted(frame["budget_fraction"].unique(), reverse=True)
    lead = lead_rows(frame)
    rest = frame.drop(lead.index)
    return Summary([percent(b) for b in budgets], _rows(lead, budgets), _rows(rest, budgets), frame)


def side_by_side(summaries: Sequence[tuple[str, Summary]]) -> Summary:
    """The lead rows of several runs in one table, one column per budget that any of them has.

    Args:
        summaries: each with the name of its run; names may repeat.
    """
    frames = [summary.frame.assign(run=name) for name, summary in summaries]
    frame = pd.concat(frames, ignore_index=True)
    budgets = sorted(frame["budget_fraction"].unique(), reverse=True)
    rows = [
        {"run": name} | row
        for name, summary in summaries
        for row in _rows(lead_rows(summary.frame), budgets)
    ]
    return Summary([percent(b) for b in budgets], rows, [], frame)


def _rows(frame: pd.DataFrame, budgets: list[float]) -> list[dict]:
    keys = ["mechanism", "policy", "scope", "unit"]
    rows = []
    for (mechanism, policy, scope, unit), part in frame.groupby(keys, sort=False):
        at = part.set_index("budget_fraction")
        about = {NO_MARKET: [f"{scope} scope"], STATIC_MASK: [words(policy)]}
        bids = about.get(mechanism, [f"{words(policy)} bids", f"{scope} scope"])
        rows.append(
            {
                "mechanism": words(mechanism),
                "about": [*bids, unit],
                "cells": [_cell(at.loc[b]) if b in at.index else None for b in budgets],
            }
        )
    return rows


def _cell(row: pd.Series) -> dict[str, str]:
    known = pd.notna(row["low"])
    return {
        "utility": number(row["utility"]),
        "interval": f"{number(row['low'])} to {number(row['high'])}" if known else "one reading",
        "spent": share(row["flops_fraction"]),
    }
