"""Interleaved, warmed-up timing: every round runs every candidate once, in turn."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np

Candidates = dict[str, Callable[[], object]]
Readings = dict[str, list[float]]


def interleaved(
    candidates: Candidates,
    *,
    rounds: int,
    warm_up: int = 2,
    repeat: Mapping[str, int] | None = None,
    every: Mapping[str, int] | None = None,
    say: str | None = None,
) -> Readings:
    """Milliseconds of every candidate in every round.

    Interleaving lets a machine whose speed drifts slow all candidates alike, so that ratios within
    a round hold.

    Args:
        candidates: what to time.
        rounds: how often.
        warm_up: rounds beforehand that are not counted.
        repeat: calls that one reading is the mean of, for short candidates; 1 where not named.
        every: take part in every so many rounds only, for long candidates; 1 where not named.
        say: what to tell standard error, round by round.
    """
    repeat, every = repeat or {}, every or {}
    if say:
        note(f"{say}: warm-up")
    for _ in range(warm_up):
        for run in candidates.values():
            run()
    readings: Readings = {name: [] for name in candidates}
    for turn in range(rounds):
        if say:
            note(f"{say}: round {turn + 1} of {rounds}")
        for name, run in candidates.items():
            if turn % every.get(name, 1):
                continue
            calls = repeat.get(name, 1)
            start = time.perf_counter()
            for _ in range(calls):
                run()
            readings[name].append((time.perf_counter() - start) * 1e3 / calls)
    return readings


def median_ratio(readings: Readings, name: str, base: str) -> float:
    """Median over rounds of one candidate's time against another's in the same round."""
    pairs = zip(readings[name], readings[base], strict=True)
    return statistics.median(one / other for one, other in pairs)


def spread(times_ms: list[float]) -> dict[str, float | int]:
    """Median, quartiles and number of readings, as columns of a row."""
    low, median, high = np.percentile(times_ms, (25, 50, 75))
    return {
        "median_ms": rounded(median),
        "low_ms": rounded(low),
        "high_ms": rounded(high),
        "readings": len(times_ms),
    }


def rounded(value: float) -> float:
    """Four significant digits: no clock here is better than that."""
    return float(f"{value:.4g}")


def note(text: str) -> None:
    """Say how far a long measurement is, apart from its results."""
    print(f"agent-economy: {text}", file=sys.stderr, flush=True)
