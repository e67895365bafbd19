"""Where the economy loses: paired comparisons with random bids and with no market at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from analysis.cells import NO_MARKET, REFERENCE, lead_policies
from analysis.intervals import VARIANT, bootstrap
from analysis.style import lower_is_better

TIE = 1e-9
"""A smaller difference is rounding: at full supply every mechanism is the dense model."""


class Verdict(NamedTuple):
    """What the comparisons say.

    Attributes:
        compared: one row per cell and rival: `VARIANT`, ``scope`` included, ``rival``, ``gain``
            (positive: the economy is better, whatever the unit), ``low``, ``high``, ``n``,
            ``spent`` and ``rival_spent`` (shares of the dense agent FLOPs).
        losses: the rows where the gain is negative, the worst first, with ``sure`` (the interval
            excludes zero) and ``lead`` (the policy is the one that stands for its mechanism).
        variants: the losses put together over budgets, lead policies first, then the worst first:
            ``count`` and ``sure`` of ``compared``, and the worst one.
    """

    compared: pd.DataFrame
    losses: pd.DataFrame
    variants: list[dict]


COLUMNS = [*VARIANT, "unit", "rival", "gain", "low", "high", "n", "spent", "rival_spent"]


def judge(metrics: pd.DataFrame) -> Verdict:
    """Compare every market cell with random bids and with no market at the same budget.

    Differences are taken per seed and step, where both met the same batch, before they are
    averaged: that is what makes small differences visible.

    Args:
        metrics: the ``metrics`` table of a run.
    """
    compared = pd.DataFrame(list(_comparisons(metrics)), columns=COLUMNS)
    losses = compared[compared["gain"] < -TIE].sort_values("gain", kind="stable")
    lead = losses["mechanism"].map(lead_policies(metrics))
    losses = losses.assign(sure=losses["high"] < 0, lead=losses["policy"] == lead)
    return Verdict(compared, losses.reset_index(drop=True), _variants(compared, losses))


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


def _comparisons(metrics: pd.DataFrame) -> Iterator[tuple]:
    spent = metrics[metrics["metric"] == "flops_fraction"].groupby(VARIANT)["value"].mean()
    readings = {
        key: rows.pivot(index="seed", columns="step", values="value")
        for key, rows in metrics[metrics["metric"] == "utility"].groupby(
            [*VARIANT, "unit"], sort=False
        )
    }
    for key, ours_ST in readings.items():
        mechanism, policy, scope, budget, unit = key
        if mechanism == NO_MARKET or policy == REFERENCE:
            continue
        rivals = {
            "random bids": (mechanism, REFERENCE, scope, budget, unit),
            "no market": _no_market(readings, key),
        }
        sign = -1 if lower_is_better(str(unit)) else 1
        for name, rival in rivals.items():
            if rival not in readings:
                continue
            # Aligned by seed and step: what only one of the two met becomes NaN and is not counted.
            gain = bootstrap(sign * (ours_ST - readings[rival]))
            if gain.n:
                shares = (float(spent.get(k[:4], float("nan"))) for k in (key, rival))
                yield (*key, name, *gain, *shares)


def _no_market(readings: dict, key: tuple) -> tuple | None:
    """The key of the no-market cells at the same budget, in the same scope where there is one."""
    _, _, scope, budget, unit = key
    same = [k for k in readings if k[0] == NO_MARKET and k[3:] == (budget, unit)]
    return next((k for k in same if k[2] == scope), same[0] if same else None)
