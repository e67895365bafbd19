"""Bootstrap intervals over seeds and steps."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

LEVEL = 0.95
RESAMPLES = 2000
VARIANT = ["mechanism", "policy", "scope", "budget_fraction"]
"""The columns that name a cell of the study, up to its seed."""


class Interval(NamedTuple):
    """A mean with its percentile bootstrap interval; the bounds are NaN for one observation."""

    mean: float
    low: float
    high: float
    n: int


def bootstrap(values_ST: ArrayLike, *, level: float = LEVEL, seed: int = 0) -> Interval:
    """The mean of seed x step observations and its percentile interval.

    Seeds and steps are resampled independently of each other (Owen 2007, *The pigeonhole
    bootstrap*): the same batches come back under every seed, so that seed x step observations are
    not independent and resampling them one by one would give intervals that are too narrow. This
    one errs on the wide side.

    Args:
        values_ST: one observation per seed (row) and step (column), NaN where there is none.
        level: the coverage aimed at.
        seed: of the resampling alone; the same input always gives the same interval.
    """
    values = np.atleast_2d(np.asarray(values_ST, dtype=np.float64))
    seen = np.isfinite(values)
    n = int(seen.sum())
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    mean = float(values[seen].mean())
    if n == 1:
        return Interval(mean, np.nan, np.nan, 1)
    if np.ptp(values[seen]) == 0:  # Spares a constant the rounding of weighted sums.
        constant = float(values[seen][0])
        return Interval(constant, constant, constant, n)
    low, high = np.quantile(_resampled(values, seed), [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), n)


def bootstrap_difference(
    values_ST: ArrayLike, base_ST: ArrayLike, *, level: float = LEVEL
) -> Interval:
    """How much higher one mean is than another of other observations, with its interval.

    Nothing pairs up, so both are resampled independently.

    Args:
        values_ST: as for `bootstrap`.
        base_ST: what is taken away; any number of seeds and steps.
        level: the coverage aimed at.
    """
    one, other = bootstrap(values_ST, level=level), bootstrap(base_ST, level=level)
    n, difference = min(one.n, other.n), one.mean - other.mean
    if n < 2:
        return Interval(difference, np.nan, np.nan, n)
    drawn = [
        _resampled(np.atleast_2d(np.asarray(values, dtype=np.float64)), seed)
        for seed, values in enumerate((values_ST, base_ST))
    ]
    size = min(map(len, drawn))
    low, high = np.quantile(drawn[0][:size] - drawn[1][:size], [(1 - level) / 2, (1 + level) / 2])
    return Interval(difference, float(low), float(high), n)


def _resampled(values_ST: np.ndarray, seed: int) -> np.ndarray:
    """The means of the resamples."""
    seen = np.isfinite(values_ST)
    weight_RS, weight_RT = _weights(*values_ST.shape, seed)
    drawn_R = ((weight_RS @ seen) * weight_RT).sum(axis=1)
    total_R = ((weight_RS @ np.where(seen, values_ST, 0.0)) * weight_RT).sum(axis=1)
    # A ragged array can lose every observation of a resample; such a one has no mean.
    means_R: np.ndarray = total_R[drawn_R > 0] / drawn_R[drawn_R > 0]
    return means_R


def by_variant(metrics: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One metric's mean and interval for every variant of a study.

    Args:
        metrics: the ``metrics`` table of a run.
        metric: for example ``"utility"``.

    Returns:
        `VARIANT` and ``unit``, then ``mean, low, high, n``; variants in the run's own order,
        budgets ascending. Empty where the run did not measure it.
    """
    rows = metrics[metrics["metric"] == metric]
    found = []
    for key, group in rows.groupby([*VARIANT, "unit"], sort=False):
        found.append((*key, *bootstrap(grid(group))))
    return in_run_order(pd.DataFrame(found, columns=[*VARIANT, "unit", *Interval._fields]))


def in_run_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Variants in the order in which they first appear, budgets ascending."""
    ranks = {
        column: frame[column].map({name: i for i, name in enumerate(frame[column].unique())})
        for column in VARIANT[:3]
    }
    order = pd.DataFrame({**ranks, "budget_fraction": frame["budget_fraction"]})
    return frame.loc[order.sort_values(VARIANT, kind="stable").index].reset_index(drop=True)


def grid(rows: pd.DataFrame) -> np.ndarray:
    """The observations of one metric in one variant as a seed x step array, NaN where none is."""
    _, seed_index = np.unique(rows["seed"], return_inverse=True)
    _, step_index = np.unique(rows["step"], return_inverse=True)
    found = np.full((seed_index.max() + 1, step_index.max() + 1), np.nan)
    found[seed_index, step_index] = rows["value"]
    return found


@cache
def _weights(seeds: int, steps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each resample draws each seed and each step; kept, as most cells have one shape."""
    generator = np.random.default_rng(seed)
    weight_RS = generator.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES)
    weight_RT = generator.multinomial(steps, np.full(steps, 1 / steps), RESAMPLES)
    return weight_RS.astype(np.float64), weight_RT.astype(np.float64)
