"""The cells of a frontier, read back one by one.

A cell is a training folder ``cells/<method>-<budget>-<seed>`` that ends up with ``train.json``
(``status``, ``task``, ``metric``, ``parts``: part to measures), ``predictions.parquet`` (part, row,
prediction, label) and ``attention.parquet`` (part, row, layer, entropy_nats, gini). Folders with
other names, such as teachers, stand in no table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agent_economy.errors import EconomyError
from agent_economy.runs.reader import CELLS, COMPLETE, JOBS, MANIFEST
from agent_economy.runs.store import LOG
from agent_economy.runs.sweep import FAILED
from agent_economy.tasks.scores import score
from agent_economy.training.folder import FINETUNE_RECORD, TRAIN_RECORD

RECORD, PREDICTIONS, ATTENTION = TRAIN_RECORD, "predictions.parquet", "attention.parquet"
MISSING, UNFINISHED, BROKEN = "missing", "unfinished", "broken"
ECONOMY = "market"
DENSE = ("dense", "dense_on")
RIVALS = (
    *DENSE,
    *("random", "magnitude", "michel", "kwon", "fisher_retrain", "l0"),
    *("mixture_of_depths", "adaptive_modules"),
)
"""Every rival that a frontier is to be judged against; the order is that of its tables."""

_NAME = re.compile(r"(?P<method>[a-z]\w*)-(?P<budget>\d+(\.\d+)?)-(?P<seed>\d+)")
_COLUMNS = {
    PREDICTIONS: ["part", "row", "prediction", "label"],
    ATTENTION: ["part", "row", "layer", "entropy_nats", "gini"],
}
_SAME_SCORE = 1e-3

PERPLEXITY = "perplexity"
"""The metric where lower is better: tables hold minus its logarithm, so that a point, a hundredth,
is one percent."""


@dataclass
class Cell:
    """One training of one method at one budget under one seed.

    Attributes:
        method: ``"market"`` or a rival.
        budget_fraction: what it was allowed; 1 for dense models, unless one was trained on for as
            many epochs as the others were at a budget: then that budget.
        seed: of the training.
        status: ``complete``, or why it counts for nothing.
        note: more about that.
        record: what ``train.json`` holds.
        predictions: rows in order, ``example`` saying which rows of other cells are the same.
        attention: likewise; empty where it was not measured.
    """

    method: str
    budget_fraction: float
    seed: int
    status: str = COMPLETE
    note: str = ""
    record: dict[str, Any] = field(default_factory=dict)
    predictions: pd.DataFrame = field(default_factory=pd.DataFrame)
    attention: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def name(self) -> str:
        """What messages call it: ``METHOD-BUDGET-SEED``, as its folder."""
        return f"{self.method}-{self.budget_fraction:g}-{self.seed}"

    @property
    def key(self) -> dict[str, Any]:
        """The columns that name it in every table."""
        return {
            "method": self.method,
            "budget_fraction": self.budget_fraction,
            "seed": self.seed,
        }


def is_complete(folder: Path) -> bool:
    """Whether a cell's folder, or a teacher's, holds a finished training."""
    for record in (RECORD, FINETUNE_RECORD):
        try:
            return bool(json.loads((folder / record).read_text("utf-8"))["status"] == COMPLETE)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return False


def read_cells(folder: Path) -> list[Cell]:
    """Every cell that a sweep planned or holds, in the order of its tables.

    Raises:
        EconomyError: there is no cell, or complete cells do not belong together: other tasks, or
            other labels for the same row.
    """
    names = {*_planned(folder), *(path.name for path in (folder / CELLS).glob("*-*-*"))}
    named = [(name, match) for name in names if (match := _NAME.fullmatch(name))]
    failures = _failures(folder)
    cells = [_read(folder / CELLS / name, match, failures.get(name, "")) for name, match in named]
    if not cells:
        raise EconomyError(f"{folder} holds no cells of a frontier; make one with `train`")
    cells.sort(key=lambda cell: (_place(cell.method), -cell.budget_fraction, cell.seed))
    complete = [cell for cell in cells if cell.status == COMPLETE]
    if complete:
        _check_together(folder, complete)
        _number_examples(complete)
    return cells


def in_order(methods: Iterable[str]) -> list[str]:
    """Methods in the order of the tables: the economy, rivals, others by name."""
    return sorted(set(methods), key=_place)


def _place(method: str) -> tuple[int, str]:
    known = (ECONOMY, *RIVALS)
    return (known.index(method), "") if method in known else (len(known), method)


def _planned(folder: Path) -> list[str]:
    try:
        return [str(n) for n in json.loads((folder / MANIFEST).read_text("utf-8"))[JOBS]]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # trainings laid side by side by hand


def _failures(folder: Path) -> dict[str, str]:
    """What each cell that failed said last."""
    found: dict[str, str] = {}
    try:
        lines = (folder / LOG).read_text("utf-8").splitlines()
    except OSError:
        return found
    for line in lines:
        try:
            said = json.loads(line)
        except ValueError:  # torn by a kill
            continue
        if said.get("message") == FAILED:
            found[str(said["cell"])] = str(said["why"])
    return found


def _read(path: Path, match: re.Match[str], failure: str) -> Cell:
    cell = Cell(match["method"], float(match["budget"]), int(match["seed"]))
    if not (path / RECORD).is_file():
        cell.status, cell.note = MISSING, failure
        return cell
    if not is_complete(path):
        cell.status, cell.note = UNFINISHED, failure
        return cell
    try:
        cell.record = json.loads((path / RECORD).read_text("utf-8"))
        _check_record(cell.record)
        cell.predictions = _table(path / PREDICTIONS).sort_values(["part", "row"], kind="stable")
        _check_predictions(cell)
        if (path / ATTENTION).is_file():
            cell.attention = _table(path / ATTENTION)
    except (OSError, ValueError, EconomyError) as error:
        cell.status, cell.note = BROKEN, " ".join(str(error).split())
    return cell


def _table(path: Path) -> pd.DataFrame:
    table = pd.read_parquet(path)
    lacking = [column for column in _COLUMNS[path.name] if column not in table]
    if lacking:
        raise ValueError(f"{path.name} has no column {lacking[0]!r}")
    return table[_COLUMNS[path.name]].reset_index(drop=True)


def _check_record(record: dict[str, Any]) -> None:
    for key, kind in (("task", str), ("metric", str), ("parts", dict)):
        if not isinstance(record.get(key), kind):
            raise ValueError(f"{RECORD} has no {key!r}")


def _check_predictions(cell: Cell) -> None:
    """The predictions are numbers, one a row, and give the scores that the training reported."""
    table = cell.predictions
    if not np.isfinite(table[["prediction", "label"]].to_numpy(np.float64)).all():
        raise ValueError("a prediction or a label is no number")
    if table.duplicated(["part", "row"]).any():
        raise ValueError("a row has two predictions")
    for part, rows in table.groupby("part"):
        found = score(cell.record["metric"], rows["prediction"], rows["label"])
        said = cell.record["parts"].get(part, {}).get("score")
        if said is None:
            continue
        if cell.record["metric"] == PERPLEXITY:  # reported as it is, scored by its logarithm
            said = -np.log(said)
        if abs(found - said) > _SAME_SCORE:
            raise ValueError(
                f"{RECORD} says {said:.4f} on {part}, its predictions give {found:.4f}"
            )


def _check_together(folder: Path, cells: list[Cell]) -> None:
    """One task; and whatever model is trained, the same examples under the same seed."""
    first = cells[0]
    labels: dict[tuple[str, int], tuple[Cell, pd.Series]] = {}
    for cell in cells:
        for key in ("task", "metric"):
            if cell.record[key] != first.record[key]:
                raise EconomyError(
                    f"{folder} mixes {key} {first.record[key]!r} ({first.name}) and "
                    f"{cell.record[key]!r} ({cell.name}); a frontier is of one task"
                )
        for part, own in _labels(cell).items():
            other, known = labels.setdefault((part, cell.seed), (cell, own))
            if not _agree(own, known):
                raise EconomyError(
                    f"{other.name} and {cell.name} have other labels for the same rows of "
                    f"{part!r}; make all cells of {folder} with the same data"
                )


def _number_examples(cells: list[Cell]) -> None:
    """Give every row the number of its example.

    That is the row itself, unless each seed drew examples of its own: then row 0 of one seed is
    not row 0 of another, and resampling must not take the two for one.
    """
    first: dict[str, pd.Series] = {}
    differ: set[str] = set()
    for cell in cells:
        for part, own in _labels(cell).items():
            if not _agree(own, first.setdefault(part, own)):
                differ.add(part)
    span = 1 + max(int(cell.predictions["row"].max()) for cell in cells)
    for cell in cells:
        for table in filter(len, (cell.predictions, cell.attention)):
            apart = table["part"].isin(differ)
            table["example"] = table["row"] + span * cell.seed * apart


def _labels(cell: Cell) -> dict[str, pd.Series]:
    parts = cell.predictions.groupby("part", sort=True)
    return {str(part): rows.set_index("row")["label"] for part, rows in parts}


def _agree(one: pd.Series, other: pd.Series) -> bool:
    both = one.index.intersection(other.index)
    return np.array_equal(one[both], other[both])
