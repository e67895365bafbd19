"""Paired bootstrap over training seeds and examples.

Every model of a study is scored on the same examples, under several training seeds. A resample
draws examples once, for all models and all seeds (an example is hard for all of them), and seeds
once, for all models: the crossed, or pigeonhole, bootstrap (Owen 2007). It errs on the wide side.

Of ``S`` seeds a resample draws ``S - 1``, with replacement (Rao and Wu 1988). Drawing ``S`` makes
the variance of a mean too small by ``(S - 1) / S``: with three seeds a third is missing. What no
resampling can mend is that few seeds know little of their own spread. In simulations with three
seeds a 95 % interval covered 98 % where seeds hardly matter, 92 % where they matter as much as
examples, 81 % where they are nearly all there is (five seeds: 97, 95 and 91 %). With one seed only
examples are drawn, and the interval says nothing about other seeds: `Paired.seeds` tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray

from agent_economy.metrics.resampled import Floats, resampled_score

LEVEL = 0.95
RESAMPLES = 1000


class Estimate(NamedTuple):
    """A number with its percentile interval; the bounds are NaN where nothing can be resampled."""

    value: float
    low: float
    high: float


class Scored(NamedTuple):
    """One trained model's score, between -1 and 1.

    Attributes:
        score: over all examples.
        drawn_R: of every resample of the examples.
    """

    score: float
    drawn_R: Floats


class Paired(NamedTuple):
    """One method against another, over the seeds that both were trained under.

    Attributes:
        seeds: these seeds; with one, intervals cover examples only.
        ours: mean score in points, 100 times the score.
        theirs: likewise.
        difference: ours minus theirs, points.
        relative: the difference as a percentage of theirs; NaN where theirs is not above 0.
    """

    seeds: tuple[int, ...]
    ours: Estimate
    theirs: Estimate
    difference: Estimate
    relative: Estimate


class Draws:
    """The resamples of one study: the same for every model.

    Args:
        examples: how many there are.
        resamples: how many draws.
        seed: of the drawing alone; the same input always gives the same intervals.

    Example:
        >>> draws = Draws(4, resamples=10)
        >>> draws.score("accuracy", [0, 1, 1, 0], [0, 1, 0, 0]).score
        0.75
    """

    def __init__(self, examples: int, *, resamples: int = RESAMPLES, seed: int = 0) -> None:
        if examples < 1 or resamples < 1:
            raise ValueError(f"{examples} examples, {resamples} resamples: both must be above 0")
        self.examples, self.resamples, self._seed = examples, resamples, seed

    @cached_property
    def weight_RX(self) -> Floats:
        """How often each resample draws each example."""
        generator = np.random.default_rng([self._seed, 0])
        equal_X = np.full(self.examples, 1 / self.examples)
        return generator.multinomial(self.examples, equal_X, self.resamples).astype(np.float64)

    def share_RS(self, seeds: int) -> Floats:
        """How much each resample counts each of so many training seeds; rows sum to 1."""
        if seeds == 1:
            return np.ones((self.resamples, 1))
        generator = np.random.default_rng([self._seed, 1, seeds])
        drawn_RS = generator.multinomial(seeds - 1, np.full(seeds, 1 / seeds), self.resamples)
        return drawn_RS / (seeds - 1)

    def score(
        self,
        metric: str,
        predictions_X: ArrayLike,
        labels_X: ArrayLike,
        rows: NDArray[np.int64] | None = None,
    ) -> Scored:
        """A model's score and those of every resample.

        Args:
            metric: a name that `resampled_score` knows.
            predictions_X: one per example.
            labels_X: the truth.
            rows: which of the study's examples these are, where a model met only some; None: all.
        """
        once_1X = np.ones((1, len(np.asarray(labels_X))))
        whole = resampled_score(metric, predictions_X, labels_X, once_1X)
        weight_RX = self.weight_RX if rows is None else self.weight_RX[:, rows]
        return Scored(float(whole[0]), resampled_score(metric, predictions_X, labels_X, weight_RX))

    def estimate(self, value: float, drawn_R: Floats, *, seeds: int = 1) -> Estimate:
        """A number with its interval; ``seeds`` of them went into it."""
        drawn_R = drawn_R[np.isfinite(drawn_R)]
        if (self.examples < 2 and seeds < 2) or not len(drawn_R) or not np.isfinite(value):
            return Estimate(float(value), np.nan, np.nan)
        low, high = np.quantile(drawn_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Estimate(float(value), float(low), float(high))


def mean_over_seeds(draws: Draws, value_S: Floats, drawn_RS: Floats) -> Estimate:
    """The mean over seeds of a number, with its interval over seeds and examples.

    Args:
        draws: the study's.
        value_S: each seed's number.
        drawn_RS: the same of every resample of the examples.
    """
    seeds = len(value_S)
    drawn_R = np.einsum("rs,rs->r", draws.share_RS(seeds), drawn_RS)
    return draws.estimate(float(np.mean(value_S)), drawn_R, seeds=seeds)


def paired_scores(
    draws: Draws, ours: Mapping[int, Scored], theirs: Mapping[int, Scored]
) -> Paired | None:
    """Compare two methods seed by seed.

    Args:
        draws: the study's.
        ours: each seed's score.
        theirs: likewise.

    Returns:
        The comparison in points, or None where no seed is common to both.
    """
    seeds = tuple(sorted(ours.keys() & theirs.keys()))
    if not seeds:
        return None
    share_RS = draws.share_RS(len(seeds))
    means, drawn = [], []
    for side in (ours, theirs):
        means.append(100 * float(np.mean([side[seed].score for seed in seeds])))
        drawn_RS = np.stack([side[seed].drawn_R for seed in seeds], axis=1)
        drawn.append(100 * np.einsum("rs,rs->r", share_RS, drawn_RS))

    def estimate(value: float, drawn_R: Floats) -> Estimate:
        return draws.estimate(value, drawn_R, seeds=len(seeds))

    (one, two), (one_R, two_R) = means, drawn
    positive_R = np.where(two_R > 0, two_R, np.nan)
    relative = 100 * (one - two) / two if two > 0 else np.nan
    return Paired(
        seeds,
        estimate(one, one_R),
        estimate(two, two_R),
        estimate(one - two, one_R - two_R),
        estimate(relative, 100 * (one_R - two_R) / positive_R),
    )


def mean_difference(
    draws: Draws, ours_SX: Float[np.ndarray, "S X"], theirs_SX: Float[np.ndarray, "S X"]
) -> tuple[Estimate, Estimate, Estimate]:
    """Compare two means over seeds and examples, such as attention entropies.

    Args:
        draws: the study's.
        ours_SX: a value per seed and example, NaN where there is none.
        theirs_SX: likewise; a pair counts where both are known.

    Returns:
        Ours, theirs, and ours minus theirs, all over the pairs that count.
    """
    known_SX = np.isfinite(ours_SX) & np.isfinite(theirs_SX)
    share_RS = draws.share_RS(len(known_SX))
    counted_R = np.einsum("rs,rs->r", share_RS, draws.weight_RX @ known_SX.T)
    with_any_R = np.where(counted_R > 0, counted_R, np.nan)

    def mean(value_SX: Floats) -> Estimate:
        value_SX = np.where(known_SX, value_SX, 0.0)
        total_R = np.einsum("rs,rs->r", share_RS, draws.weight_RX @ value_SX.T)
        whole = value_SX.sum() / known_SX.sum() if known_SX.any() else np.nan
        return draws.estimate(whole, total_R / with_any_R, seeds=len(known_SX))

    return mean(ours_SX), mean(theirs_SX), mean(ours_SX - theirs_SX)
