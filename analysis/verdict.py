"""Where the economy loses: paired comparisons with random bids, no market and static masks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from analysis.cells import NO_MARKET, NOT_MARKETS, REFERENCE, STATIC_MASK, lead_policies
from analysis.intervals import VARIANT
from analysis.readings import BEST, Key, Readings, spent

TIE = 1e-9
"""A smaller difference is rounding: at full supply every mechanism is the dense model."""


class Verdict(NamedTuple):
    """What the comparisons say.

    Attributes:
        compared: one row per cell and rival: `VARIANT`, ``scope`` included, ``rival``, ``gain``
            (positive: the economy is better, whatever the unit), ``low``, ``high``, ``n``,
            ``spent`` and ``rival_spent`` (shares of the dense agent FLOPs), and ``loss_gain``,
            ``loss_low``, ``loss_high``: by how much the economy's mean loss is lower, where the
            run kept the loss of each example.
        losses: the rows where the gain is negative, the worst first, with ``sure`` (the interval
            excludes zero) and ``lead`` (the policy is the one that stands for its mechanism).
        variants: the losses put together over budgets, lead policies first, then the worst first:
            ``count`` and ``sure`` of ``compared``, and the worst one.
        score: per rival and budget, how many variants are clearly ``better``, ``undecided`` and
            clearly ``worse``, and the ``best`` of them.
    """

    compared: pd.DataFrame
    losses: pd.DataFrame
    variants: list[dict]
    score: list[dict]


RANDOM_RIVAL, NO_MARKET_RIVAL, MASK_RIVAL = "random bids", "no market", "best static mask"
RIVALS = (RANDOM_RIVAL, NO_MARKET_RIVAL, MASK_RIVAL)
COLUMNS = [*VARIANT, "unit", "rival", "gain", "low", "high", "n", "spent", "rival_spent"]
COLUMNS += ["loss_gain", "loss_low", "loss_high"]


def judge(metrics: pd.DataFrame, found: Readings) -> Verdict:
    """Compare every market cell with its rivals at the same budget.

    Differences are taken per seed and step, or per example, where both met the same, before they
    are averaged: that is what makes small differences visible.

    Args:
        metrics: the ``metrics`` table of a run.
        found: its utilities.
    """
    compared = pd.DataFrame(list(_comparisons(metrics, found)), columns=COLUMNS)
    losses = compared[compared["gain"] < -TIE].sort_values("gain", kind="stable")
    lead = losses["mechanism"].map(lead_policies(metrics))
    losses = losses.assign(sure=losses["high"] < 0, lead=losses["policy"] == lead)
    return Verdict(
        compared, losses.reset_index(drop=True), _variants(compared, losses), _score(compared)
    )


def _score(compared: pd.DataFrame) -> list[dict]:
    """Clear wins, clear losses and the rest, per rival and budget."""
    score = []
    for (rival, budget), rows in compared.groupby(["rival", "budget_fraction"], sort=True):
        better, worse = int((rows["low"] > 0).sum()), int((rows["high"] < 0).sum())
        first = rows.loc[rows["gain"].idxmax()]
        score.append(
            {
                "rival": rival,
                "budget_fraction": budget,
                "better": better,
                "undecided": len(rows) - better - worse,
                "worse": worse,
                "loses_less": int((rows["loss_low"] > 0).sum()),
                "loses_more": int((rows["loss_high"] < 0).sum()),
                "has_loss": bool(rows["loss_gain"].notna().any()),
                "best": first.to_dict(),
            }
        )
    return sorted(score, key=lambda row: (RIVALS.index(row["rival"]), -row["budget_fraction"]))


def _variants(compared: pd.DataFrame, losses: pd.DataFrame) -> list[dict]:
    keys = ["mechanism", "policy", "scope", "unit", "rival"]
    sizes = compared.groupby(keys).size()
    found = [
        {
            **rows.iloc[0].to_dict(),  # The worst, as losses are sorted.
            "count": len(rows),
            "sure": int(rows["sure"].sum()),
            "compared": int(sizes[key]),
        }
        for key, rows in losses.groupby(keys, sort=False)
    ]
    return sorted(found, key=lambda variant: not variant["lead"])


def _comparisons(metrics: pd.DataFrame, found: Readings) -> Iterator[tuple]:
    shares = spent(metrics).set_index(VARIANT)["mean"]
    keys = found.keys()
    for key in keys:
        mechanism, policy, scope, budget, unit = key
        if mechanism in NOT_MARKETS or policy == REFERENCE:
            continue
        rivals = (
            (mechanism, REFERENCE, scope, budget, unit),
            _same_budget(keys, key, NO_MARKET),
            (STATIC_MASK, BEST, "", budget, unit),
        )
        for name, rival in zip(RIVALS, rivals, strict=True):
            if rival not in keys:
                continue
            gain = found.gain(key, rival)
            if gain.n:
                spends = (float(shares.get(k[:4], float("nan"))) for k in (key, rival))
                less = found.loss_gain(key, rival)[:3]
                yield (*key[:4], found.gain_unit, name, *gain, *spends, *less)


def _same_budget(keys: list[Key], key: Key, mechanism: str) -> Key | None:
    """The cells of a mechanism at the same budget, in the same scope where there are any."""
    _, _, scope, budget, unit = key
    same = [k for k in keys if k[0] == mechanism and k[3:] == (budget, unit)]
    return next((k for k in same if k[2] == scope), same[0] if same else None)
