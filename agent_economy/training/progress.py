"""One progress bar for every training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class NumbersColumn(ProgressColumn):
    """Named numbers of a step; those that are not there, or are no numbers, are left out."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = names

    def render(self, task: Task) -> Text:
        """``loss 0.12 budget 0.4``."""
        found = [(name, task.fields.get(name, math.nan)) for name in self.names]
        shown = [f"{name} {value:.4g}" for name, value in found if not math.isnan(value)]
        return Text("  ".join(shown), style="dim")


def progress_bar(console: Console, numbers: Sequence[str]) -> Progress:
    """A bar with steps, time left and the step's numbers."""
    columns: list[Any] = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        NumbersColumn(numbers),
    ]
    return Progress(*columns, console=console)
