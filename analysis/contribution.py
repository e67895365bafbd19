"""What agents are worth against what the market made of them: tables in, rank correlations out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    import torch

QUANTITIES = ("declared", "served", "payment", "rent", "income")
LEAVE_ONE_OUT, SHAPLEY, MARKET = "leave_one_out", "shapley", "market"
GROUPS = {"all": ("head", "block"), "heads": ("head",), "blocks": ("block",)}


def measures(audit: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Every measure as a table, texts by agents.

    Keys: ``leave_one_out``, ``shapley`` (mean over rounds), ``shapley, first round`` and
    ``shapley, other rounds`` where there are several, and ``<quantity>, <policy>`` of the markets.
    """
    found = {LEAVE_ONE_OUT: _wide(audit[audit["study"] == LEAVE_ONE_OUT], "worth")}
    orders = audit[audit["study"] == SHAPLEY]
    found[SHAPLEY] = _wide(orders, "worth")
    if orders["round"].nunique() > 1:
        found["shapley, first round"] = _wide(orders[orders["round"] == 0], "worth")
        found["shapley, other rounds"] = _wide(orders[orders["round"] > 0], "worth")
    markets = audit[audit["study"] == MARKET]
    for policy, rows in markets.groupby("policy", sort=False):
        found |= {f"{name}, {policy}": _wide(rows, name) for name in QUANTITIES}
    return found


def agreements(audit: pd.DataFrame, ratings: pd.DataFrame | None) -> Iterator[dict[str, Any]]:
    """Rank correlation of every market quantity with every measure of worth, group by group.

    Args:
        audit: the ``audit`` table.
        ratings: the ``audit_ratings`` table, if there is one; it has no texts, so no interval.
    """
    from agent_economy.metrics.contribution import rank_agreement

    found = measures(audit)
    kind = _kinds(audit)
    pairs = [(name, worth) for name in found if ", " in name for worth in (LEAVE_ONE_OUT, SHAPLEY)]
    pairs = [pair for pair in pairs if not pair[0].startswith(SHAPLEY)]
    pairs.append((LEAVE_ONE_OUT, SHAPLEY))
    if "shapley, first round" in found:
        pairs.append(("shapley, first round", "shapley, other rounds"))
    for group, kinds in GROUPS.items():
        chosen = _tensor(kind.isin(kinds))
        for one, other in pairs:
            pair = (_tensor(found[name].astype(float)) for name in (one, other))
            value, low, high = rank_agreement(*pair, chosen)
            yield {
                "one": one, "other": other, "group": group, "mean": value, "low": low, "high": high
            }  # fmt: skip
        if ratings is not None:
            rating = ratings.groupby(["layer", "agent"])["rating"].mean()
            worth = found[SHAPLEY].mean()[kind.isin(kinds).to_numpy()]
            rank = worth.corr(rating.reindex(worth.index), method="spearman")
            yield {
                "one": "rating", "other": SHAPLEY, "group": group,
                "mean": float(rank), "low": float("nan"), "high": float("nan"),
            }  # fmt: skip


def means(audit: pd.DataFrame) -> pd.DataFrame:
    """One row per agent and policy: mean worth both ways, and what the market made of it."""
    worth = {
        study: audit[audit["study"] == study].groupby(["layer", "agent", "kind"])["worth"].mean()
        for study in (LEAVE_ONE_OUT, SHAPLEY)
    }
    markets = audit[audit["study"] == MARKET]
    made = markets.groupby(["policy", "layer", "agent", "kind"], sort=False)[[*QUANTITIES]].mean()
    return made.reset_index().join(pd.DataFrame(worth), on=["layer", "agent", "kind"])


def _wide(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    return rows.pivot_table(index=["seed", "row"], columns=["layer", "agent"], values=column)


def _kinds(audit: pd.DataFrame) -> pd.Series:
    agents = audit.drop_duplicates(["layer", "agent"]).set_index(["layer", "agent"])
    return agents["kind"].sort_index()


def _tensor(values: pd.DataFrame | pd.Series) -> torch.Tensor:
    import torch

    return torch.from_numpy(values.to_numpy(copy=True))
