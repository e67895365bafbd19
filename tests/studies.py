"""What every study's tests ask: a run that was interrupted, a figure drawn from its CSV alone."""

from __future__ import annotations

import io
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from agent_economy.errors import EconomyError
from agent_economy.runs.reader import Run
from agent_economy.runs.runner import execute
from analysis.figures.base import FIGURES


def interrupted_and_resumed(
    scenario: Any,
    config: Any,
    cell: ModuleType,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    at: int,
) -> Path:
    """Run a study, interrupt it when its ``at``-th cell begins, and take it up; its folder.

    Args:
        scenario: the study.
        config: its settings.
        cell: the module that holds its ``run_cell``.
        folder: a new one.
        monkeypatch: of the test.
        at: which cell.
    """
    real, calls = cell.run_cell, []

    def interrupted(session: Any, point: Any) -> Any:
        calls.append(point)
        if len(calls) == at:
            raise KeyboardInterrupt
        return real(session, point)

    monkeypatch.setattr(cell, "run_cell", interrupted)
    with pytest.raises(EconomyError, match="--resume"):
        execute(scenario, config, folder, False)
    monkeypatch.setattr(cell, "run_cell", real)
    return execute(scenario, config, folder, True)


def assert_csv_draws_the_same(name: str, run: Run) -> None:
    """A figure from its CSV is the figure to the pixel, and its findings are whole sentences."""
    figure = FIGURES.get(name)()
    data = figure.data(run)
    again = pd.read_csv(io.StringIO(data.to_csv(index=False)))
    one, other = (io.BytesIO() for _ in range(2))
    figure.draw(data).savefig(one, format="png", dpi=40)
    figure.draw(again).savefig(other, format="png", dpi=40)
    assert one.getvalue() == other.getvalue()
    assert all(each.endswith(".") and "nan" not in each for each in figure.findings(data))
