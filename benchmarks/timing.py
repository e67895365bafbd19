"""Interleaved, warmed-up timing: every round runs every candidate once, in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

Candidates = dict[str, Callable[[], object]]


def interleaved(candidates: Candidates, *, rounds: int, warm_up: int = 2) -> dict[str, list[float]]:
    """Milliseconds of every candidate in every round.

    Interleaving lets a machine whose speed drifts slow all candidates alike, so that ratios within
    a round hold.
    """
    for _ in range(warm_up):
        for run in candidates.values():
            run()
    readings: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            readings[name].append((time.perf_counter() - start) * 1e3)
    return readings


def median_ratio(readings: dict[str, list[float]], name: str, base: str) -> float:
    """Median over rounds of one candidate's time against another's in the same round."""
    pairs = zip(readings[name], readings[base], strict=True)
    return statistics.median(one / other for one, other in pairs)
