"""One measured value and all that is known of it; the same columns for every question."""

from __future__ import annotations

from typing import Any

from benchmarks.timing import rounded, spread

Row = dict[str, Any]


def row(
    question: str,
    candidate: str,
    bids: int,
    times_ms: list[float],
    *,
    ratio: float | None = None,
    to: str | None = None,
    peak_mib: float | None = None,
    difference: float | None = None,
) -> Row:
    """A row of the result.

    Args:
        question: ``forward``, ``scale`` or ``solver``.
        candidate: what was timed.
        bids: agents x tokens of the market.
        times_ms: readings.
        ratio: of its time to that of ``to``.
        to: what it is compared with.
        peak_mib: extra memory at the peak.
        difference: of its result from that of ``to``, relative.
    """
    timed = spread(times_ms)
    return {
        "question": question,
        "candidate": candidate,
        "bids": bids,
        **timed,
        "ns_per_bid": rounded(timed["median_ms"] * 1e6 / bids),
        "ratio": None if ratio is None else rounded(ratio),
        "to": to,
        "peak_mib": peak_mib,
        "difference": None if difference is None else float(f"{difference:.2g}"),
    }
