"""One table of two runs, value against value: which rows pair up, and by how much they differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from pandas.api.types import is_float_dtype, is_numeric_dtype

from analysis.intervals import Interval, bootstrap, bootstrap_difference

SEED = "seed"
_REPLICATES = ("step", "row", "example")
"""What a seed is measured on, over and over; the first that a table has."""
_NAMES = ("metric", "measure")
"""Columns that name what stands in ``value``."""
_NO_MEASURES = ("layer", "agent", "row", "step", "token", "tokens", "text", "prediction", "label")
"""Numbers that say where, or what one example is, and mean nothing on average."""
_VALUE, _UNIT, _MEASURE = "value", "unit", "measure"
_COLUMNS = ["group", _MEASURE, *(f"{who}_{part}" for who in ("one", "other", "difference")
            for part in ("mean", "low", "high")), "pairs"]  # fmt: skip


class Layout(NamedTuple):
    """What the columns of a table are for.

    Attributes:
        cell: columns that name a cell of the study, its seed apart.
        groups: these, and whatever else tells rows apart in words, such as a phase.
        replicate: the column that counts what a seed is measured on; None where there is none.
        name: the column that names what stands in ``value``; None where every measure has a column.
        values: the columns that hold measured numbers.
    """

    cell: list[str]
    groups: list[str]
    replicate: str | None
    name: str | None
    values: list[str]


def layout(table: pd.DataFrame) -> Layout | None:
    """Read a table's columns; None where it is no table of measured values under seeds.

    A cell's own columns come first, the seed last among them (`runs.scenario`). After them, the
    columns that are not real numbers tell the rows of a cell apart, as many as it takes; numbers
    that are left over were measured.
    """
    names = list(table.columns)
    if SEED not in names or table.empty:
        return None
    cell = names[: names.index(SEED)]
    keys, free = [*cell, SEED], names[names.index(SEED) + 1 :]
    for column in free:
        if not table.duplicated(keys).any():
            break
        if not is_float_dtype(table[column]):
            keys.append(column)
    if table.duplicated(keys).any():
        return None
    rest = [column for column in free if column not in keys]
    name = next((column for column in _NAMES if column in free and _VALUE in rest), None)
    measured = [c for c in rest if is_numeric_dtype(table[c]) and c not in _NO_MEASURES]
    values = [_VALUE] if name else measured
    told = [c for c in keys if c not in cell and not is_numeric_dtype(table[c]) and c != name]
    replicate = next((column for column in _REPLICATES if column in keys), None)
    return Layout(cell, [*cell, *told], replicate, name, values)


def values_of(table: pd.DataFrame) -> Iterator[tuple[tuple[str, ...], str, pd.DataFrame]]:
    """Every group's every measure as ``(group, measure, seeds x replicates)``.

    Whatever else tells rows apart (layers, agents, tokens) is averaged over.
    """
    plan = layout(table)
    if plan is None:
        return
    # A leading constant makes a group of everything where no column tells groups apart.
    frame = table.assign(_all="", _once=0)
    if plan.name and _UNIT in frame:  # Numbers of different units are different measures.
        named = frame[_UNIT].where(frame[_UNIT].isin(["", "1"]), ", " + frame[_UNIT])
        frame[plan.name] = frame[plan.name] + named.replace("1", "")
    by = ["_all", *plan.groups, *([plan.name] if plan.name else [])]
    axis = plan.replicate or "_once"
    for key, rows in frame.groupby(by, sort=False, dropna=False):
        told = tuple(_told(part) for part in key[1:])
        means = rows.groupby([SEED, axis])[plan.values].mean()
        for column in plan.values:
            group, measure = (told[: len(plan.groups)], told[-1]) if plan.name else (told, column)
            yield group, measure, means[column].unstack(axis)


def compared(one: pd.DataFrame, other: pd.DataFrame, *, same_texts: bool) -> pd.DataFrame:
    """One row per group and measure that both tables have.

    Args:
        one: the table of the first run.
        other: the same table of another run.
        same_texts: whether equal seeds and steps met the same texts. Only then are differences
            taken pair by pair; else means are, resampled independently.

    Returns:
        ``group`` (words), ``measure``, mean, low and high of ``one``, ``other`` and of the
        ``difference`` (other less one), and ``pairs``: how many observations were paired, 0 where
        they were not. Empty where the tables have nothing in common.
    """
    plans = layout(one), layout(other)
    rows = []
    if plans[0] and plans[1] and plans[0].groups == plans[1].groups:
        first = {(group, measure): values for group, measure, values in values_of(one)}
        for group, measure, values in values_of(other):
            base = first.get((group, measure))
            if base is None or not (_any(base) and _any(values)):
                continue
            difference, pairs = _difference(base, values, same_texts)
            rows.append(
                (
                    ", ".join(part for part in group if part),
                    measure,
                    *bootstrap(base)[:3],
                    *bootstrap(values)[:3],
                    *difference[:3],
                    pairs,
                )
            )
    return pd.DataFrame(rows, columns=_COLUMNS)


def _difference(base: pd.DataFrame, values: pd.DataFrame, same: bool) -> tuple[Interval, int]:
    seeds, steps = base.index.intersection(values.index), base.columns.intersection(values.columns)
    paired = values.reindex(seeds, columns=steps) - base.reindex(seeds, columns=steps)
    if same and _any(paired):
        return bootstrap(paired), int(np.isfinite(paired.to_numpy()).sum())
    return bootstrap_difference(values, base), 0


def _any(values: pd.DataFrame) -> bool:
    return bool(np.isfinite(values.to_numpy(dtype=np.float64)).any())


def _told(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
