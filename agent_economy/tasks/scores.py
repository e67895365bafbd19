"""Task scores: one number per (predictions, labels), higher is better."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from agent_economy.errors import unknown


def score(metric: str, predictions: ArrayLike, labels: ArrayLike) -> float:
    """The score of predictions under a named metric.

    Args:
        metric: ``"matthews"``, ``"pearson_spearman"``, ``"accuracy"`` or ``"perplexity"``, of
            which the score is minus the logarithm.
        predictions: (n,) class numbers, real values for regression, or for texts the negative
            log-likelihood summed over tokens, in nats.
        labels: (n,) the truth; for texts how many tokens were summed over.

    Raises:
        EconomyError: the metric is not known.
        ValueError: the two lengths differ or are zero.
    """
    if metric not in _METRICS:
        raise unknown("metric", metric, _METRICS)
    one, other = np.asarray(predictions, dtype=float), np.asarray(labels, dtype=float)
    if one.shape != other.shape or one.ndim != 1 or not one.size:
        raise ValueError(f"predictions {one.shape} and labels {other.shape} must be one (n,) each")
    return _METRICS[metric](one, other)


def matthews(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Matthews correlation of two 0/1 vectors (CoLA): their Pearson correlation.

    A constant vector says nothing: 0, as in GLUE.
    """
    return _pearson(predictions, labels)


def pearson_spearman(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Mean of Pearson and Spearman correlation (STS-B, as GLUE reports it); 0 if one is constant.

    Spearman is Pearson of the ranks, ties at their mean rank.
    """
    from scipy.stats import rankdata

    ranked = _pearson(rankdata(predictions), rankdata(labels))
    return (_pearson(predictions, labels) + ranked) / 2


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Share of predictions that equal their label."""
    return float(np.mean(predictions == labels))


def log_likelihood(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Minus the logarithm of perplexity: the mean log-likelihood of a token.

    A hundredth of it is one percent of perplexity.
    """
    return float(-predictions.sum() / labels.sum())


def _pearson(one: np.ndarray, other: np.ndarray) -> float:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


_METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "matthews": matthews,
    "pearson_spearman": pearson_spearman,
    "accuracy": accuracy,
    "perplexity": log_likelihood,
}
