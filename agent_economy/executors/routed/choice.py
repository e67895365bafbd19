"""Which of several ways is fastest, found out by running them in turn."""

from __future__ import annotations

import statistics
from collections.abc import Hashable

#: Forwards of each way on each shape: the first is a warm-up, the median of the others decides.
TRIALS = 4


class Choice:
    """Remembers, for every kind of forward, how long each way took.

    Every forward that is timed serves somebody: nothing is run only to be measured.

    Args:
        ways: names; the first one wins ties.
    """

    def __init__(self, ways: tuple[str, ...]) -> None:
        self.ways = ways
        self._seconds: dict[Hashable, dict[str, list[float]]] = {}
        self._made: dict[Hashable, str] = {}

    def next(self, key: Hashable) -> str:
        """The way to go: the least tried one, then the fastest."""
        if key in self._made:
            return self._made[key]
        tried = self._seconds.setdefault(key, {way: [] for way in self.ways})
        return min(self.ways, key=lambda way: len(tried[way]))

    def made(self, key: Hashable) -> str | None:
        """What was decided; None as long as ways are being tried."""
        return self._made.get(key)

    def took(self, key: Hashable, way: str, seconds: float) -> None:
        """Note a forward's time."""
        if key in self._made:
            return
        tried = self._seconds[key]
        tried[way].append(seconds)
        if all(len(each) >= TRIALS for each in tried.values()):
            median = {each: statistics.median(tried[each][1:]) for each in self.ways}
            self._made[key] = min(self.ways, key=median.__getitem__)
            del self._seconds[key]
