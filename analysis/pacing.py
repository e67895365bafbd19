"""Regret of pacing against the length of a stream: means, and the exponent by which it grows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

RESAMPLES = 2000
REGRET = "regret"
PARTS = ("mispriced", "refused", "unspent")
"""What regret is the sum of, credits."""
STATE = ("spend_share", "first_price", "price_error")
_KEYS = ["order", "method"]
_EXPONENT = 0


def growth(table: pd.DataFrame) -> pd.DataFrame:
    """One row per order, method, measure and length, with its interval over seeds and streams.

    Measures: ``regret`` and its `PARTS` per token of the stream's optimum (shares), ``credits``
    (regret itself) and `STATE`. The row of ``credits`` and of each part with ``tokens`` 0 holds the
    slope of its log mean on ``log tokens`` by least squares, left out where a mean is not positive.
    Seeds are resampled for all lengths at once, as they share texts and calibration; streams within
    each seed and length.
    """
    rows: list[dict[str, Any]] = []
    for key, part in table.groupby(_KEYS, sort=False):
        named = dict(zip(_KEYS, key, strict=True))
        drawn = _Resampled(part)
        optimum_LR = drawn.means("optimum")
        for measure in (REGRET, *PARTS):
            credits_LR = drawn.means(measure)
            rows += ({**named, **row} for row in drawn.rows(measure, credits_LR / optimum_LR))
            name = "credits" if measure == REGRET else measure
            if measure == REGRET:
                rows += ({**named, **row} for row in drawn.rows(name, credits_LR))
            rows += ({**named, **row} for row in drawn.slope(name, credits_LR))
        for measure in STATE:
            rows += ({**named, **row} for row in drawn.rows(measure, drawn.means(measure)))
    return pd.DataFrame(rows)


def exponents(data: pd.DataFrame) -> pd.DataFrame:
    """The exponents of regret in a frame of `growth`."""
    return data[(data["measure"] == "credits") & (data["tokens"] == _EXPONENT)]


class _Resampled:
    """Resampled means of one method's columns, length by length; the first is the mean itself."""

    def __init__(self, part: pd.DataFrame) -> None:
        seeds = sorted(part["seed"].unique())
        self.lengths = sorted(part["tokens"].unique())
        self.groups = [
            [part[(part["tokens"] == t) & (part["seed"] == s)] for s in seeds] for t in self.lengths
        ]
        generator = np.random.default_rng(0)
        count, draws = len(seeds), [[len(group) for group in row] for row in self.groups]
        self.seed_RS = _counts(generator, count)
        self.draws = [[_counts(generator, n) for n in row] for row in draws]

    def means(self, column: str) -> np.ndarray:
        """Lengths by resamples."""
        return np.stack([self._mean(column, place) for place in range(len(self.lengths))])

    def _mean(self, column: str, place: int) -> np.ndarray:
        pairs = zip(self.groups[place], self.draws[place], strict=True)
        mean_RS = np.stack([w_RD @ g[column].to_numpy() / len(g) for g, w_RD in pairs], axis=1)
        return (mean_RS * self.seed_RS).sum(1) / self.seed_RS.sum(1)

    def rows(self, measure: str, value_LR: np.ndarray) -> Iterator[dict[str, Any]]:
        """One row per length."""
        for tokens, value_R in zip(self.lengths, value_LR, strict=True):
            yield {"measure": measure, "tokens": int(tokens), **_interval(value_R)}

    def slope(self, measure: str, value_LR: np.ndarray) -> Iterator[dict[str, Any]]:
        """One row, if there is a slope."""
        if len(self.lengths) < 2 or (value_LR[:, 0] <= 0).any():
            return
        x_L = np.log(np.asarray(self.lengths, dtype=np.float64))
        x_L -= x_L.mean()
        with np.errstate(divide="ignore", invalid="ignore"):
            slope_R = x_L @ np.log(value_LR) / (x_L**2).sum()
        yield {"measure": measure, "tokens": _EXPONENT, **_interval(slope_R)}


def _counts(generator: np.random.Generator, n: int) -> np.ndarray:
    """How often each resample draws each of ``n``; the first draws each once."""
    drawn_RN = generator.multinomial(n, np.full(n, 1 / n), RESAMPLES)
    return np.concatenate([np.ones((1, n)), drawn_RN])


def _interval(value_R: np.ndarray) -> dict[str, float]:
    """The first value, and quantiles of the others that are numbers."""
    drawn = value_R[1:][np.isfinite(value_R[1:])]
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (np.nan, np.nan)
    return {"mean": float(value_R[0]), "low": float(low), "high": float(high)}
