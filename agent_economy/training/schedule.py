"""What changes on the way: learning rate, budget, softness of the gates, noise on the bids."""

from __future__ import annotations

import math

import numpy as np

WARM_UP = 0.1
"""Share of steps before the learning rate is at its height."""


def warmth(step: int, steps: int) -> float:
    """Share of the full learning rate: up over the first tenth of the steps, then down to 0."""
    warm = max(1, math.ceil(WARM_UP * steps))
    return min((step + 1) / warm, (steps - step) / max(1, steps - warm + 1))


def annealed(target: float, progress: float, anneal: float) -> float:
    """A budget that shrinks from 1 to ``target`` over the first ``anneal`` of the training.

    ``target + (1 - target) (1 - progress / anneal)^3``: fast while much can be spared, slow near
    the end (Zhu and Gupta 2017, arXiv 1710.01878).
    """
    if progress >= anneal:
        return target
    return target + (1 - target) * (1 - progress / anneal) ** 3


def drawn(budgets: tuple[float, float], seed: int) -> float:
    """A budget between two, log-uniformly: each halving of supply is as likely as another."""
    low, high = np.log(budgets)
    return float(np.exp(low + np.random.default_rng(seed).random() * (high - low)))


def geometric(start: float, end: float, progress: float) -> float:
    """From ``start`` to ``end`` by equal factors; both above 0."""
    return start * math.exp(math.log(end / start) * min(max(progress, 0.0), 1.0))
