"""How long the phases of a forward's market take."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Phases:
    """Clock readings of one forward.

    Attributes:
        timings_ms: by phase.
    """

    def __init__(self) -> None:
        self.timings_ms: dict[str, float] = defaultdict(float)

    @contextmanager
    def clock(self, phase: str) -> Iterator[None]:
        """Add what runs inside to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings_ms[phase] += (time.perf_counter() - start) * 1e3
