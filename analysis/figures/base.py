"""What a figure is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.registry import Registry
from agent_economy.runs.reader import Run


class Missing(Exception):
    """The run holds too little for this figure; the message says what, for the report's reader."""


class Figure(ABC):
    """One figure of the report: data taken from a run, and a drawing of that data alone.

    A new file in ``analysis/figures`` with a concrete subclass is all that a new figure takes.

    Attributes:
        name: of the files ``figures/<name>.png`` and ``figures/<name>.csv``.
        title: the heading.
        question: the caption: what to look for.
        needs: tables without which there is nothing to draw.
        place: figures appear in this order.
        scenario: the only scenario whose reports show it; None: every study of markets.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    question: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    place: ClassVar[int] = 100
    scenario: ClassVar[str | None] = None

    @abstractmethod
    def data(self, run: Run) -> pd.DataFrame:
        """Everything that is drawn, tidy.

        Raises:
            Missing: the tables are there but hold nothing to draw.
        """

    @abstractmethod
    def draw(self, data: pd.DataFrame) -> Canvas:
        """The figure, from that frame and nothing else: its CSV is enough to draw it again."""

    def findings(self, data: pd.DataFrame) -> list[str]:
        """What the data say, in sentences computed from that frame; none unless overridden."""
        return []


TRAINED = ("frontier",)
"""Scenarios that train models and keep no book of each market: only figures of their own fit."""

FIGURES: Registry[Figure] = Registry("figure", "analysis.figures", Figure)


def in_order(scenario: str) -> list[Figure]:
    """Every figure that a scenario's reports show, in their order."""
    fitting = (scenario,) if scenario in TRAINED else (None, scenario)
    shown = [kind() for kind in FIGURES.members().values() if kind.scenario in fitting]
    return sorted(shown, key=lambda figure: (figure.place, figure.name))
