"""Task scores of many resamples at once.

A resample only changes how often each example counts, so a score is a function of weighted sums:
nothing is copied, and one call scores all resamples. With weights of one they are the scores of
``agent_economy.tasks.scores``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray

from agent_economy.errors import unknown

Floats = NDArray[np.float64]
_NOTHING = 1e-12
"""A variance below this share of its sum of squares is rounding: the resample is constant."""


def resampled_score(
    metric: str,
    predictions_X: ArrayLike,
    labels_X: ArrayLike,
    weight_RX: Float[np.ndarray, "R X"],
) -> Float[np.ndarray, "R"]:
    """The score of every resample.

    Args:
        metric: ``"matthews"``, ``"pearson_spearman"``, ``"accuracy"`` or ``"perplexity"``, of
            which the score is minus the logarithm.
        predictions_X: class numbers, real values for regression, or for texts the negative
            log-likelihood summed over tokens.
        labels_X: the truth; for texts the number of tokens.
        weight_RX: how often each resample counts each example.

    Returns:
        One score a resample, 0 where a correlation has a constant side, NaN where a resample
        counts nothing.

    Raises:
        EconomyError: the metric is not known.
    """
    if metric not in _METRICS:
        raise unknown("metric", metric, _METRICS)
    one, other = (np.asarray(side, dtype=np.float64) for side in (predictions_X, labels_X))
    score_R = _METRICS[metric](one, other, weight_RX)
    return np.where(weight_RX.any(axis=1), score_R, np.nan)


def accuracy(predictions_X: Floats, labels_X: Floats, weight_RX: Floats) -> Floats:
    """Share of predictions that equal their label."""
    right_X = (predictions_X == labels_X).astype(np.float64)
    share_R: Floats = weight_RX @ right_X / np.maximum(weight_RX.sum(axis=1), _NOTHING)
    return share_R


def pearson(one_X: Floats, other_X: Floats, weight_RX: Floats) -> Floats:
    """Pearson's correlation; that of two 0/1 vectors is Matthews'.

    From the five weighted sums of ``x, y, xx, yy, xy`` after both sides lost their overall mean:
    one product of matrices, and no cancellation that matters.
    """
    x, y = _centred(one_X), _centred(other_X)
    sums_R5 = weight_RX @ np.stack([x, y, x * x, y * y, x * y], axis=1)
    return _correlation(weight_RX.sum(axis=1), *sums_R5.T)


def pearson_spearman(one_X: Floats, other_X: Floats, weight_RX: Floats) -> Floats:
    """Mean of Pearson's and Spearman's correlation, the latter with ranks anew in each resample."""
    ranked_R = _spearman(_ranks(one_X, weight_RX), _ranks(other_X, weight_RX), weight_RX)
    return (pearson(one_X, other_X, weight_RX) + ranked_R) / 2


def log_likelihood(predictions_X: Floats, labels_X: Floats, weight_RX: Floats) -> Floats:
    """Minus the logarithm of perplexity: mean log-likelihood of a token, not of a text."""
    tokens_R: Floats = np.maximum(weight_RX @ labels_X, _NOTHING)
    return -(weight_RX @ predictions_X) / tokens_R


_METRICS: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "matthews": pearson,
    "pearson_spearman": pearson_spearman,
    "accuracy": accuracy,
    "perplexity": log_likelihood,
}


def _centred(values_X: Floats) -> Floats:
    if np.ptp(values_X) == 0:  # spares a constant the rounding of its mean
        return np.zeros_like(values_X)
    centred: Floats = values_X - values_X.mean()
    return centred


def _correlation(n: Floats, x: Floats, y: Floats, xx: Floats, yy: Floats, xy: Floats) -> Floats:
    n = np.maximum(n, _NOTHING)
    spread_x, spread_y = xx - x * x / n, yy - y * y / n
    varies = (spread_x > _NOTHING * xx) & (spread_y > _NOTHING * yy)
    scale = np.sqrt(np.where(varies, spread_x * spread_y, 1.0))
    return np.where(varies, (xy - x * y / n) / scale, 0.0)


def _ranks(values_X: Floats, weight_RX: Floats) -> Floats:
    """Ranks minus their mean in each resample; an example counted ``w`` times ties with itself.

    ``rank = weight below + (weight of equals + 1) / 2``, whose weighted mean is ``(n + 1) / 2``.
    """
    _, place_X = np.unique(values_X, return_inverse=True)
    order = np.argsort(place_X, kind="stable")
    starts = np.flatnonzero(np.diff(place_X[order], prepend=-1))
    tied_RV = np.add.reduceat(weight_RX[:, order], starts, axis=1)
    middle_RV = np.cumsum(tied_RV, axis=1) - tied_RV / 2
    centred_RV = middle_RV - weight_RX.sum(axis=1, keepdims=True) / 2
    return np.take(centred_RV, place_X, axis=1)


def _spearman(one_RX: Floats, other_RX: Floats, weight_RX: Floats) -> Floats:
    weighted_RX = weight_RX * one_RX
    xx, xy = (np.einsum("rx,rx->r", weighted_RX, side) for side in (one_RX, other_RX))
    yy = np.einsum("rx,rx,rx->r", weight_RX, other_RX, other_RX)
    none = np.zeros(len(weight_RX))
    # Ranks are multiples of a half: a resample that is constant has exactly no spread.
    return _correlation(weight_RX.sum(axis=1), none, none, xx, yy, xy)
