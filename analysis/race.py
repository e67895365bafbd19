"""A race of mechanisms in numbers: one row per market and measure, with intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.intervals import bootstrap
from analysis.style import words

MEASURES = (
    *("loss", "own_loss", "welfare_share", "efficiency", "revenue_share", "envy"),
    *("gini_served", "gini_rent", "churn", "spend_fraction"),
)
PHASES = ("bids", "clearing", "ledger")
_KEYS = ["mechanism", "scope"]


def raced(race: pd.DataFrame, timings: pd.DataFrame) -> pd.DataFrame:
    """One row per market and measure, with its interval over seeds and steps.

    Beside `MEASURES`: ``extra_loss`` and ``extra_own_loss`` beyond the first market's on the same
    texts; ``volatility``, the standard deviation of a market's mean price over steps as a share of
    its mean, per seed; ``clearing_ms`` and the like, a median with quartiles in place of an
    interval.
    """
    steps = race.groupby([*_KEYS, "seed", "step"], sort=False).mean(numeric_only=True).reset_index()
    first = None
    rows: list[dict[str, Any]] = []
    for key, part in steps.groupby(_KEYS, sort=False):
        named = dict(zip(_KEYS, key, strict=True))
        first = part if first is None else first
        grids = {measure: _grid(part, measure) for measure in MEASURES}
        grids["extra_loss"] = grids["loss"] - _grid(first, "loss")
        grids["extra_own_loss"] = grids["own_loss"] - _grid(first, "own_loss")
        price = part.groupby("seed")["price_per_gflop"]
        if (price.mean() > 0).all():
            grids["volatility"] = (price.std() / price.mean()).to_numpy()[:, None]
        for measure, values in grids.items():
            rows.append({**named, "measure": measure, **bootstrap(values)._asdict()})
    for (*key, phase), ms in timings.groupby([*_KEYS, "phase"], sort=False)["milliseconds"]:
        named = dict(zip(_KEYS, key, strict=True))
        low, middle, high = np.quantile(ms, [0.25, 0.5, 0.75])
        found = {"mean": middle, "low": low, "high": high, "n": len(ms)}
        rows.append({**named, "measure": f"{phase}_ms", **found})
    return pd.DataFrame(rows)


def named(rows: pd.DataFrame) -> pd.Series:
    """``vcg``, or ``sparse softmax, token`` where the scope is not a sequence."""
    scope = rows["scope"].where(rows["scope"] != "sequence", "")
    return (rows["mechanism"].map(words) + ", " + scope).str.removesuffix(", ")


def by_loss(data: pd.DataFrame) -> list[str]:
    """Names of the markets in a frame of `raced`, the least loss first."""
    at = data[data["measure"] == "loss"].sort_values("mean", kind="stable")
    return named(at).tolist()


def _grid(rows: pd.DataFrame, column: str) -> np.ndarray:
    """Seeds by steps."""
    return rows.pivot_table(index="seed", columns="step", values=column, sort=True).to_numpy()
