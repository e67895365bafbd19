"""Lorenz curves and Gini coefficients of finite populations."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def lorenz(values: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The Lorenz curve: what share of the total the poorest share of the population holds.

    Args:
        values: one holding per member, none negative.

    Returns:
        Population shares and cumulated holdings, both from 0 to 1, ``len(values) + 1`` points.
        A population that holds nothing is perfectly equal.

    Raises:
        ValueError: there is nobody, or somebody holds less than nothing.
    """
    holdings = np.sort(np.asarray(values, dtype=np.float64))
    if holdings.size == 0 or not np.isfinite(holdings).all() or holdings[0] < 0:
        raise ValueError("a Lorenz curve needs at least one finite holding and none below zero")
    population = np.linspace(0.0, 1.0, holdings.size + 1)
    total = holdings.sum()
    if total == 0:
        return population, population.copy()
    return population, np.concatenate([[0.0], np.cumsum(holdings) / total])


def gini(values: ArrayLike) -> float:
    """The Gini coefficient: twice the area between the Lorenz curve and the diagonal.

    Zero when all hold the same, ``1 - 1/n`` when one of ``n`` holds everything.

    Example:
        >>> gini([1, 1, 1, 1]), gini([0, 0, 0, 1])
        (0.0, 0.75)
    """
    population, held = lorenz(values)
    # Rounding can put the curve of equals a hair above the diagonal.
    return max(0.0, float(2 * np.trapezoid(population - held, population)))
