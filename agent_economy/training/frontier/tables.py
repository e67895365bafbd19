"""The tables of a frontier: what its cells measured, put together and judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agent_economy.errors import EconomyError
from agent_economy.runs.files import write_atomic
from agent_economy.runs.reader import CELLS, COMPLETE
from agent_economy.runs.tables import encode, plain
from agent_economy.tasks.scores import score
from agent_economy.training.frontier.attention import attention_changes
from agent_economy.training.frontier.cells import PERPLEXITY, Cell, read_cells
from agent_economy.training.frontier.statistics import Frontier, hypervolumes, verdicts
from agent_economy.training.frontier.timing import TIMINGS, timings

TRAINING = "training"
"""The part of what was measured on no examples, such as ``train_seconds``."""

CELL_COLUMNS = ["method", "budget_fraction", "seed"]


def collect(folder: Path) -> dict[str, pd.DataFrame]:
    """Put the cells of a frontier together and write the tables that its report is made of.

    Cells that are missing, unfinished or broken are left out and named in ``cells``, so this may
    be called at any time; the same cells give the same bytes.

    Args:
        folder: the sweep: ``cells/<method>-<budget>-<seed>``, see ``cells.py``.

    Returns:
        What was written to ``<name>.parquet``:

        - ``metrics``: method, budget_fraction, seed, part, measure, value. Score and n are taken
          of the predictions, all else of the cells' records.
        - ``predictions`` and ``attention``: those of all cells.
        - ``verdicts``: the economy against each rival at each budget.
        - ``hypervolume``: the area under each method's frontier.
        - ``interpretability``: entropy and Gini of attention against dense.
        - ``timings``: clock readings of the cells that were timed (``timing.py``).
        - ``cells``: each cell's status.

    Raises:
        EconomyError: no cell is complete, or complete cells do not belong together.
    """
    cells = read_cells(folder)
    complete = [cell for cell in cells if cell.status == COMPLETE]
    if not complete:
        broken = next((f" ({c.name}: {c.note})" for c in cells if c.note), "")
        raise EconomyError(f"none of the {len(cells)} cells in {folder} is complete{broken}")
    parts = list(dict.fromkeys(part for cell in complete for part in cell.predictions["part"]))
    parts.sort(key=lambda part: (part != "development", part))
    frontiers = [Frontier(cells, part) for part in parts]
    tables = {
        "metrics": pd.DataFrame(
            [row for cell in complete for row in _measures(cell)],
            columns=[*CELL_COLUMNS, "part", "measure", "value"],
        ),
        "predictions": _together(complete, [cell.predictions for cell in complete]),
        "attention": _together(complete, [cell.attention for cell in complete]),
        "verdicts": _stacked([verdicts(each) for each in frontiers]),
        "hypervolume": _stacked([hypervolumes(each) for each in frontiers]),
        "interpretability": _stacked([attention_changes(complete, part) for part in parts]),
        TIMINGS: timings(folder, complete),
        # Last: a sweep that has this table can be read.
        CELLS: pd.DataFrame([c.key | {"status": c.status, "note": c.note} for c in cells]),
    }
    for name, table in tables.items():
        write_atomic(folder / f"{name}.parquet", encode(plain(table)))
    return tables


def _measures(cell: Cell) -> Iterator[dict[str, Any]]:
    """Every number that a cell measured, part by part."""
    for key, value in cell.record.items():
        if _is_number(value) and key.endswith("_seconds"):
            yield cell.key | {"part": TRAINING, "measure": key, "value": float(value)}
    for part, rows in cell.predictions.groupby("part", sort=True):
        found = score(cell.record["metric"], rows["prediction"], rows["label"])
        said = cell.record["parts"].get(part, {})
        measures = {"score": found, "n": len(rows)}
        if cell.record["metric"] == PERPLEXITY:
            measures[PERPLEXITY] = float(np.exp(-found))
        measures |= {key: v for key, v in said.items() if _is_number(v) and key not in measures}
        for measure, value in measures.items():
            yield cell.key | {"part": part, "measure": measure, "value": float(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _together(cells: Sequence[Cell], frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    parts = [
        frame.assign(**cell.key)[[*CELL_COLUMNS, *frame.columns.drop("example")]]
        for cell, frame in zip(cells, frames, strict=True)
        if len(frame)
    ]
    return _stacked(parts) if parts else pd.DataFrame(columns=CELL_COLUMNS)


def _stacked(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One frame; empty ones, whose columns have no type, are left out unless all are."""
    return pd.concat([f for f in frames if len(f)] or list(frames[:1]), ignore_index=True)
