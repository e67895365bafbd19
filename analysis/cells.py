"""Which cells of a study a figure shows, chosen by rule and never by result."""

from __future__ import annotations

import pandas as pd

from analysis.figures.base import Missing
from analysis.style import percent, words

CELL = ["mechanism", "policy", "scope", "budget_fraction", "seed"]
SCARCE = 0.4
"""The budget nearest to this one stands for scarcity where a figure can show only one."""

NO_MARKET, STATIC_MASK, REFERENCE = "uniform", "static_mask", "random"
NOT_MARKETS = (NO_MARKET, STATIC_MASK)


def lead_policies(table: pd.DataFrame) -> dict[str, str]:
    """The policy that stands for each mechanism: random bids last, then the run's own first.

    The policy that covers the most budgets and scopes comes first; among equals the first row of
    the table decides, which is the order that the study's config lists them in.
    """
    variants = table[["mechanism", "policy", "scope", "budget_fraction"]].drop_duplicates()
    lead = {}
    for mechanism, rows in variants.groupby("mechanism", sort=False):
        counts = rows["policy"].value_counts(sort=False)  # In order of appearance.
        counts = counts.drop(REFERENCE) if len(counts) > 1 and REFERENCE in counts else counts
        lead[str(mechanism)] = str(counts.idxmax())
    return lead


def lead_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table where every mechanism runs with its lead policy."""
    lead = table["mechanism"].map(lead_policies(table))
    return table[table["policy"] == lead]


def lead_mechanism(table: pd.DataFrame) -> str:
    """The first mechanism of the study that is a market, else the first."""
    names = list(dict.fromkeys(table["mechanism"]))
    return next((name for name in names if name not in NOT_MARKETS), names[0])


def showcase(table: pd.DataFrame, *, scope: str | None = None) -> pd.DataFrame:
    """The rows of the one cell that stands for the study in a figure with room for only one.

    The lead mechanism with its lead policy, the wished scope if it is there, the budget nearest
    to `SCARCE` and the smallest seed.

    Raises:
        Missing: the table is empty.
    """
    return scarce(one_mechanism(table, scope=scope))


def one_mechanism(table: pd.DataFrame, *, scope: str | None = None) -> pd.DataFrame:
    """The rows of the lead mechanism with its lead policy, in one scope, at every budget.

    Raises:
        Missing: the table is empty.
    """
    if table.empty:
        raise Missing("the run recorded no row for it")
    table = lead_rows(table[table["mechanism"] == lead_mechanism(table)])
    return one_scope(table, scope)


def one_scope(table: pd.DataFrame, scope: str | None = None) -> pd.DataFrame:
    """The rows of the wished scope, or of the table's first where it has no such rows."""
    chosen = scope if scope in set(table["scope"]) else table["scope"].iloc[0]
    return table[table["scope"] == chosen]


def scarce(table: pd.DataFrame) -> pd.DataFrame:
    """The rows at the budget nearest to `SCARCE`, under the smallest seed."""
    budgets = sorted(table["budget_fraction"].unique(), key=lambda b: (abs(b - SCARCE), b))
    table = table[table["budget_fraction"] == budgets[0]]
    return table[table["seed"] == table["seed"].min()]


def first(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """The rows with the smallest value of a column, such as the first step."""
    return table[table[column] == table[column].min()]


def describe(cell: pd.Series) -> str:
    """A cell in words, for a figure's title line."""
    return (
        f"{words(cell['mechanism'])}, {words(cell['policy'])} bids, {cell['scope']} scope, "
        f"{percent(cell['budget_fraction'])} supply, seed {cell['seed']}"
    )


def agent_names(agents: pd.DataFrame) -> pd.Series:
    """A name for each row's agent, such as ``L2 head 7``; layers and agents count from 0.

    Agents of a layer are numbered heads first, then blocks: the first block is block 0.
    """
    blocks = agents[agents["kind"] == "block"].groupby("layer")["agent"].min()
    start = agents["layer"].map(blocks).where(agents["kind"] == "block", 0).fillna(0)
    index = (agents["agent"] - start).astype(int)
    return "L" + agents["layer"].astype(str) + " " + agents["kind"] + " " + index.astype(str)
