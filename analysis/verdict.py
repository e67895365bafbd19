"""Where the economy loses: paired comparisons with random bids and with no market at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from analysis.cells import NO_MARKET, REFERENCE
from analysis.intervals import VARIANT, bootstrap, grid
from analysis.style import lower_is_better

TIE = 1e-9
"""A smaller difference is rounding: at full supply every mechanism is the dense model."""


class Verdict(NamedTuple):
    """What the comparisons say.

    Attributes:
        compared: one row per cell and rival: `VARIANT`, ``scope`` included, ``rival``, ``gain``
            (positive: the economy is better, whatever the unit), ``low``, ``high``, ``n``,
            ``spent`` and ``rival_spent`` (shares of the dense agent FLOPs).
        losses: the rows where the gain is negative, the worst first.
        clear: how many of these losses have an interval that excludes zero.
    """

    compared: pd.DataFrame
    losses: pd.DataFrame
    clear: int


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
    return Verdict(compared, losses.reset_index(drop=True), int((losses["high"] < 0).sum()))


def _comparisons(metrics: pd.DataFrame) -> Iterator[tuple]:
    utility = metrics[metrics["metric"] == "utility"]
    spent = metrics[metrics["metric"] == "flops_fraction"].groupby(VARIANT)["value"].mean()
    groups = {key: rows for key, rows in utility.groupby([*VARIANT, "unit"], sort=False)}
    for key, rows in groups.items():
        mechanism, policy, scope, budget, unit = key
        if mechanism == NO_MARKET or policy == REFERENCE:
            continue
        rivals = {
            "random bids": (mechanism, REFERENCE, scope, budget, unit),
            "no market": _no_market(groups, key),
        }
        for name, rival in rivals.items():
            if rival not in groups:
                continue
            pair = pd.merge(rows, groups[rival], on=["seed", "step"], suffixes=("", "_rival"))
            sign = -1 if lower_is_better(str(unit)) else 1
            gain = pair.assign(value=sign * (pair["value"] - pair["value_rival"]))
            if len(gain):
                shares = (float(spent.get(k[:4], float("nan"))) for k in (key, rival))
                yield (*key, name, *bootstrap(grid(gain)), *shares)


def _no_market(groups: dict, key: tuple) -> tuple | None:
    """The key of the no-market cells at the same budget, in the same scope where there is one."""
    _, _, scope, budget, unit = key
    same = [k for k in groups if k[0] == NO_MARKET and k[3:] == (budget, unit)]
    return next((k for k in same if k[2] == scope), same[0] if same else None)
