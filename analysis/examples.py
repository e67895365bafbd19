"""Scores over a whole set of examples, and their bootstrap intervals over examples.

A correlation or a perplexity is no mean over batches, so a run keeps each example's outcome and the
score is taken of all of them. An interval resamples examples, with the same draws for every
variant: two variants that met the same examples are compared example by example.
"""

from __future__ import annotations

from functools import cache, cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from agent_economy.metrics.resampled import resampled_score
from analysis.intervals import LEVEL, RESAMPLES, Interval

Floats = NDArray[np.float64]
OUTCOME = ["loss", "prediction", "label", "tokens"]


def score(unit: str, outcomes: pd.DataFrame, weight_RX: Floats) -> Floats:
    """The score of every resample.

    Args:
        unit: as the run wrote it: "accuracy", "Matthews correlation", "mean of Pearson and
            Spearman" or "perplexity".
        outcomes: one row an example, with the columns `OUTCOME`.
        weight_RX: how often each resample draws each example.

    Returns:
        (R,) scores.

    Raises:
        KeyError: an unknown unit.
    """
    if unit == PERPLEXITY:
        return _perplexity(outcomes, weight_RX)
    found_R: Floats = resampled_score(
        _METRICS[unit], outcomes["prediction"], outcomes["label"], weight_RX
    )
    return found_R


class Scored:
    """One variant's outcomes, and its score under every resample, computed once.

    Args:
        unit: of the score.
        outcomes: with the columns ``seed`` and ``example`` beside `OUTCOME`.
    """

    def __init__(self, unit: str, outcomes: pd.DataFrame) -> None:
        self.unit = unit
        self.outcomes = outcomes.sort_values(["seed", "example"], kind="stable")

    @cached_property
    def scores(self) -> tuple[float, Floats]:
        """The score over all examples, and of every resample."""
        n = len(self.outcomes)
        whole = float(score(self.unit, self.outcomes, np.ones((1, n)))[0])
        return whole, score(self.unit, self.outcomes, _weights(n))

    @property
    def interval(self) -> Interval:
        """The score over all examples and its percentile interval."""
        return _between(*self.scores, len(self.outcomes))

    def gain(self, other: Scored) -> Interval:
        """How much better this is than another, on the examples that both met.

        Perplexities are compared by their logarithms, in nats a token.
        """
        one, two = self, other
        keys = ["seed", "example"]
        if not np.array_equal(one.outcomes[keys], two.outcomes[keys]):
            one, two = (
                Scored(self.unit, part) for part in _met_by_both(one.outcomes, two.outcomes)
            )
        if one.outcomes.empty:
            return Interval(np.nan, np.nan, np.nan, 0)
        (mean, draws_R), (other_mean, other_R) = one.scores, two.scores
        if self.unit == PERPLEXITY:
            mean, other_mean = -np.log(mean), -np.log(other_mean)
            draws_R, other_R = -np.log(draws_R), -np.log(other_R)
        return _between(float(mean - other_mean), draws_R - other_R, len(one.outcomes))


def loss_gain(ours: pd.DataFrame, theirs: pd.DataFrame) -> Interval:
    """By how much the first loses less than the second on the examples that both met.

    The task's own loss, a token or a prediction: it sees errors that a correlation is blind to,
    such as a shift of all predictions, and it tells allocations apart on fewer examples.
    """
    one, other = _met_by_both(ours, theirs)
    less_X = (other["loss"] - one["loss"]).to_numpy(np.float64)
    tokens_X = one["tokens"].to_numpy(np.float64)
    n = len(one)
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    weight_RX = _weights(n)
    draws_R = (weight_RX @ less_X) / (weight_RX @ tokens_X)
    return _between(float(less_X.sum() / tokens_X.sum()), draws_R, n)


def _met_by_both(ours: pd.DataFrame, theirs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The examples that both met, in one order."""
    keys = ["seed", "example"]
    both = ours[keys].merge(theirs[keys])
    return both.merge(ours, on=keys, how="left"), both.merge(theirs, on=keys, how="left")


def _between(mean: float, draws_R: Floats, n: int) -> Interval:
    if n == 1:
        return Interval(mean, np.nan, np.nan, 1)
    low, high = np.quantile(draws_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean, float(low), float(high), n)


@cache
def _weights(n: int) -> Floats:
    draws = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), RESAMPLES)
    return draws.astype(np.float64)


def _perplexity(outcomes: pd.DataFrame, weight_RX: Floats) -> Floats:
    loss_X, tokens_X = (outcomes[name].to_numpy(np.float64) for name in ("loss", "tokens"))
    return np.exp((weight_RX @ loss_X) / (weight_RX @ tokens_X))


PERPLEXITY = "perplexity"
_METRICS = {
    "accuracy": "accuracy",
    "Matthews correlation": "matthews",
    "mean of Pearson and Spearman": "pearson_spearman",
}
