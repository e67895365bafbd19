"""Regressions and ratios of a run's rows: tables in, estimates out.

The sums are torch's, which is loaded when the first one is asked for: reports without regressions
do without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.axes import Axes

if TYPE_CHECKING:
    import torch

    from agent_economy.metrics.regression import Estimate, Fit, Transfer

MARKET = "market"
FAMILIES = {
    MARKET: ("what the market made", "#0072B2", "o"),
    "random_tokens": ("random (token, agent) pairs", "#D55E00", "s"),
    "random_agents": ("random whole agents", "#009E73", "^"),
}
"""Families of allocations: their label, colour and marker."""
STATISTICS = ("r2_origin", "slope_origin", "r2", "slope", "intercept", "rank")


def rows_of(table: pd.DataFrame, *extra: str) -> pd.Series:
    """A number for each row of text: the same text under all policies and allocations."""
    return table.groupby(["seed", *extra, "row"], sort=True).ngroup()


def fitted(table: pd.DataFrame, predicted: str, measured: str) -> Fit:
    """Measured on predicted; the table has ``text``, the number of each row of text."""
    from agent_economy.metrics.regression import fit

    return fit(*_tensors(table, predicted, measured, "text"))


def fitted_between(table: pd.DataFrame, predicted: str, measured: str, size: str) -> Fit:
    """Measured on predicted, one point for each value of ``group``, both per unit of size."""
    from agent_economy.metrics.regression import fit_groups

    return fit_groups(*_tensors(table, predicted, measured, size, "group", "text"))


def transferred(one: pd.DataFrame, other: pd.DataFrame, predicted: str, measured: str) -> Transfer:
    """A line through zero fitted on one table, judged on another."""
    from agent_economy.metrics.regression import transfer

    columns = (predicted, measured, "text")
    return transfer(_tensors(one, *columns), _tensors(other, *columns))


def ratio_of(table: pd.DataFrame, top: str, bottom: str | None = None) -> Estimate:
    """Sum over sum, or a mean, with its interval over rows of text."""
    from agent_economy.metrics.regression import ratio

    top_, text = _tensors(table, top, "text")
    bottom_ = top_.new_ones(top_.shape) if bottom is None else _tensors(table, bottom)[0]
    return ratio(top_, bottom_, text)


def tidy(found: Fit) -> Iterator[dict[str, Any]]:
    """One row per statistic of a fit."""
    for name in STATISTICS:
        yield {"statistic": name, **getattr(found, name)._asdict(), "n": found.observations}


def within(table: pd.DataFrame, by: list[str], columns: list[str]) -> pd.DataFrame:
    """The table with the mean of each group taken off some of its columns."""
    centred = table[columns] - table.groupby(by)[columns].transform("mean")
    return table.assign(**{column: centred[column] for column in columns})


def whiskers(
    ax: Axes, x: pd.Series, y: pd.Series, low: pd.Series, high: pd.Series, **style: Any
) -> None:
    """Points with upright intervals."""
    error = [(y - low).clip(lower=0), (high - y).clip(lower=0)]
    ax.errorbar(x, y, yerr=error, elinewidth=1.2, capsize=0, **style)


def said(estimate: Estimate | pd.Series, digits: int = 2) -> str:
    """``0.97 (0.95 to 0.98)``."""
    value, low, high = (float(x) for x in estimate)
    if low != low:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _tensors(table: pd.DataFrame, *columns: str) -> tuple[torch.Tensor, ...]:
    """Columns as tensors: labels whole, everything else in double precision."""
    import torch

    found = (torch.from_numpy(table[column].to_numpy(copy=True)) for column in columns)
    return tuple(
        each if column in ("text", "group") else each.double()
        for column, each in zip(columns, found, strict=True)
    )
