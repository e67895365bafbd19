"""The area that a frontier dominates."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike


def hypervolume(
    flops_fraction_P: ArrayLike, score_P: Float[np.ndarray, "*draws P"]
) -> Float[np.ndarray, "*draws"]:
    """The area between a frontier and the reference point (all FLOPs, score 0), exact.

    With ``s(f)`` the best score of any point that takes at most a share ``f`` of the FLOPs, 0
    where there is none::

        H = integral from 0 to 1 of s(f) df

    (Zitzler and Thiele 1999, in two dimensions). A point at or above all FLOPs, or with a score
    below 0, adds nothing. Sorting the P points makes it a sum of P rectangles.

    Args:
        flops_fraction_P: share of the dense FLOPs of each point, not below 0.
        score_P: score of each point, perhaps of many resamples at once.

    Raises:
        ValueError: there is no point, or a share is negative or no number.
    """
    flops = np.asarray(flops_fraction_P, dtype=np.float64)
    if not flops.size or not (flops >= 0).all():
        raise ValueError(f"shares of FLOPs must be numbers from 0 on, not {flops}")
    order = np.argsort(flops, kind="stable")
    edges = np.append(np.minimum(flops[order], 1.0), 1.0)
    best = np.maximum.accumulate(np.maximum(np.asarray(score_P)[..., order], 0.0), axis=-1)
    return np.asarray(best @ np.diff(edges))
