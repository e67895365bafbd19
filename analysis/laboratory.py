"""What figures of the studies of allocation dynamics share: colours, numbers as they are told."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8a6d3b")


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name, in order of appearance."""
    return dict(zip(dict.fromkeys(names), cycle(_COLOURS), strict=False))


def told(mean: float, low: float, high: float, digits: int = 3) -> str:
    """``0.97 (0.95 to 0.98)``; the number alone where it has no interval or a point for one."""
    number = f"{mean + 0.0:.{digits}f}"
    if low != low or low == high:
        return number
    return f"{number} ({low:.{digits}f} to {high:.{digits}f})"
