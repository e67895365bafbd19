"""Two runs or more, one beside the other: what was set differently, what was measured in both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from agent_economy.errors import EconomyError
from agent_economy.runs.reader import Run
from analysis.intervals import Interval, bootstrap
from analysis.pairing import compared, values_of
from analysis.style import number, words

LEFT_OUT = ("timings", "allocations", "attention", "predictions", "hypervolume", "verdicts")
"""Clock readings, tables of single tokens, and what is itself a comparison."""
_LONGEST = 72
_ABSENT = "not set"


class Setting(NamedTuple):
    """A key of the configs that differs.

    Attributes:
        key: dotted.
        values: one per run, as JSON says it.
    """

    key: str
    values: list[str]

    @property
    def shared(self) -> bool:
        """Whether all configs have it."""
        return _ABSENT not in self.values


@dataclass(frozen=True)
class Measure:
    """One measure of one table in both runs.

    Attributes:
        table: whose.
        name: of the measure.
        rows: ready for the page: group, one, other, difference, pairs, clear.
        clear: rows whose difference has an interval without zero.
    """

    table: str
    name: str
    rows: list[dict[str, Any]]
    clear: int


@dataclass(frozen=True)
class Beside:
    """A run beside the first one.

    Attributes:
        name: the run.
        frame: every compared value, tidy; the data behind the page.
        measures: those that differ anywhere.
        equal: names of measures without any difference.
        overall: measures of runs whose cells do not correspond: each run's own mean.
        only: groups that one of the two lacks, in words.
        same_texts: whether differences were taken pair by pair.
    """

    name: str
    frame: pd.DataFrame
    measures: list[Measure]
    equal: list[str]
    overall: list[dict[str, str]]
    only: list[str]
    same_texts: bool

    @property
    def compared(self) -> int:
        """Values with an interval of their difference."""
        return sum(row["known"] for measure in self.measures for row in measure.rows)

    @property
    def clear(self) -> int:
        """How many of them differ clearly."""
        return sum(measure.clear for measure in self.measures)


@dataclass(frozen=True)
class Comparison:
    """All runs of a page.

    Attributes:
        names: of the runs, all different.
        settings: what was set differently.
        others: every run after the first, beside it.
    """

    names: list[str]
    settings: list[Setting]
    others: list[Beside]


def compare(runs: Sequence[Run]) -> Comparison:
    """Lay runs beside the first of them.

    Raises:
        EconomyError: a run is named twice, or none has anything in common with the first.
    """
    paths = [run.path.resolve() for run in runs]
    for place, path in enumerate(paths):
        if path in paths[:place]:
            raise EconomyError(f"{runs[place].path} is named twice; name different run folders")
    names = labels(paths)
    others = [_beside(runs[0], run, name) for run, name in zip(runs[1:], names[1:], strict=True)]
    if not any(other.overall or len(other.frame) for other in others):
        rest = ", ".join(f"{n} ({r.scenario})" for n, r in zip(names[1:], runs[1:], strict=True))
        raise EconomyError(
            f"{names[0]} ({runs[0].scenario}) and {rest} measured nothing in common; "
            "report on each of them by itself"
        )
    return Comparison(names, settings([run.config for run in runs]), others)


def labels(paths: Sequence[Path]) -> list[str]:
    """The names of folders, with as many parents as it takes to tell them apart."""
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def settings(configs: Sequence[dict[str, Any]]) -> list[Setting]:
    """Every key whose value is not the same in all configs, in the first one's order."""
    flat = [dict(_flat(config)) for config in configs]
    keys = dict.fromkeys(key for each in flat for key in each)
    told = {key: [each.get(key, _ABSENT) for each in flat] for key in keys}
    return [Setting(key, values) for key, values in told.items() if len(set(values)) > 1]


def same_texts(one: Run, other: Run) -> bool:
    """Whether the same seed and step met the same texts in two runs."""
    hashes = one.manifest.get("data_hashes") or {}, other.manifest.get("data_hashes") or {}
    shared = set(hashes[0]) & set(hashes[1])
    cut_alike = one.config.get("batch_size") == other.config.get("batch_size")
    return cut_alike and bool(shared) and all(hashes[0][key] == hashes[1][key] for key in shared)


def _beside(first: Run, run: Run, name: str) -> Beside:
    same = same_texts(first, run)
    tables = [table for table in _in_order(first) if table in run.tables]
    parts = [
        compared(first.table(table), run.table(table), same_texts=same).assign(table=table)
        for table in tables
        if first.scenario == run.scenario
    ]
    parts = [part for part in parts if len(part)]
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    measures, equal = [], []
    for (table, measure), rows in frame.groupby(["table", "measure"], sort=False) if parts else ():
        if _all_equal(rows):
            equal.append(words(str(measure)))
        else:
            told = [_row(row) for row in rows.to_dict("records")]
            clear = sum(row["clear"] for row in told)
            measures.append(Measure(str(table), words(str(measure)), told, clear))
    overall = [] if parts else list(_overall(first, run))
    only = list(_only(first, run, tables)) if parts else []
    return Beside(name, frame, measures, list(dict.fromkeys(equal)), overall, only, same)


def _row(row: dict[Any, Any]) -> dict[str, Any]:
    low, high = row["difference_low"], row["difference_high"]
    known = low == low
    return {
        "group": words(row["group"]) or "all",
        **{who: _told(*(row[f"{who}_{part}"] for part in ("mean", "low", "high")))
           for who in ("one", "other", "difference")},
        "pairs": row["pairs"] or "",
        "known": known,
        "clear": bool(known and (low > 0 or high < 0)),
    }  # fmt: skip


def _overall(first: Run, run: Run) -> Iterator[dict[str, str]]:
    """Measures of one name in runs that share no cell: means over everything."""
    here, there = _means(first), _means(run)
    for measure, (table, own, spread) in here.items():
        if measure in there:
            other_table, other, other_spread = there[measure]
            yield {
                "measure": words(measure),
                "one": _told(*own[:3]),
                "one_about": f"{table}; cells {spread}",
                "other": _told(*other[:3]),
                "other_about": f"{other_table}; cells {other_spread}",
            }


def _means(run: Run) -> dict[str, tuple[str, Interval, str]]:
    """Every measure of a run: its table, its mean over everything, and the range of its cells."""
    found: dict[str, tuple[str, Interval, str]] = {}
    for table in _in_order(run):
        cells: dict[str, list[pd.DataFrame]] = {}
        for _, measure, values in values_of(run.table(table)):
            cells.setdefault(measure, []).append(values)
        for measure, parts in cells.items():
            own = [float(np.nanmean(part)) for part in parts if part.notna().any(axis=None)]
            if not own or measure in found:
                continue
            whole = pd.concat(parts).groupby(level=0).mean()
            spread = f"{number(min(own))} to {number(max(own))}"
            found[measure] = table, bootstrap(whole), spread
    return found


def _in_order(run: Run) -> list[str]:
    """The tables to compare, the study's metrics first."""
    return sorted(set(run.tables) - set(LEFT_OUT), key=lambda table: (table != "metrics", table))


def _only(first: Run, run: Run, tables: list[str]) -> Iterator[str]:
    """Groups that one of two runs lacks."""
    for table in tables:
        groups = [
            dict.fromkeys(
                ", ".join(filter(None, key)) for key, _, _ in values_of(each.table(table))
            )
            for each in (first, run)
        ]
        for own, others, whose in ((*groups, "first"), (*groups[::-1], "other")):
            missing = [words(group) for group in own if group not in others]
            if missing:
                shown = "; ".join(missing[:6]) + ("; ..." if len(missing) > 6 else "")
                yield f"{table}: only in the {whose} run: {shown}"


def _all_equal(rows: pd.DataFrame) -> bool:
    sides = [rows[[f"{who}_{part}" for part in ("mean", "low", "high")]].to_numpy(dtype=float)
             for who in ("one", "other")]  # fmt: skip
    return bool(np.array_equal(*sides, equal_nan=True))


def _told(mean: float, low: float, high: float) -> dict[str, str]:
    interval = "" if low != low or low == high else f"{number(low)} to {number(high)}"
    return {"mean": number(mean), "interval": interval}


def _flat(tree: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Leaves of a config by dotted key; tables in a list by their name where they have one."""
    if isinstance(tree, dict) and tree:
        for name, value in tree.items():
            yield from _flat(value, f"{key}.{name}" if key else str(name))
    elif isinstance(tree, list) and tree and all(isinstance(each, dict) for each in tree):
        names = [str(each.get("name", place)) for place, each in enumerate(tree)]
        unique = len(set(names)) == len(names)
        for place, each in enumerate(tree):
            yield from _flat(each, f"{key}[{names[place] if unique else place}]")
    else:
        text = dumps(tree, ensure_ascii=False, default=str)
        yield key, text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
