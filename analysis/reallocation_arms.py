"""How the arms of a reallocation run look, the same in all of its figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter

from analysis.reallocation import BIDS, LOTS, MARKET, MASK
from analysis.style import line_styles, percent, words

SCENARIO = "reallocation"


def arm_styles(mechanisms: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A style for every mechanism and every rival."""
    mark = {"markersize": 5.0}
    return {
        **{name: {**style, **mark} for name, style in line_styles(mechanisms).items()},
        BIDS: {"color": "#8c6d31", "marker": "v", **mark},
        MASK: {"color": "#CC79A7", "marker": "s", **mark},
        LOTS: {"color": "black", "marker": "x", "markeredgecolor": "black", **mark},
    }


def arm_label(market: tuple[str, ...], arm: str) -> str:
    """An arm in words."""
    if arm == MARKET:
        return f"{words(market[0])}, {words(market[1])} bids"
    return "lots (no market)" if arm == LOTS else arm


def supplies(ax: Axes, budgets: pd.Series) -> None:
    """Make x a supply, a tick at each budget that was run, room at both ends."""
    found = sorted(set(budgets))
    room = 0.3 * (found[-1] - found[0]) / max(len(found) - 1, 1) or 0.05
    ax.set_xlim(found[0] - room, found[-1] + room)
    ax.set_xticks(found, [percent(budget) for budget in found])
    ax.set_xlabel("supply, % of dense agent FLOPs")


def as_points(axis: Axis) -> None:
    """Write an axis of differences between shares in percentage points."""
    axis.set_major_formatter(
        FuncFormatter(lambda share, _: f"{100 * share:+.3g}" if share else "0")
    )


def of_market(rows: pd.DataFrame, market: tuple[str, ...]) -> pd.DataFrame:
    """The rows of one market and its rivals."""
    mechanism, policy, scope = market
    return rows[
        (rows["mechanism"] == mechanism) & (rows["policy"] == policy) & (rows["scope"] == scope)
    ]


def errors(
    ax: Axes,
    x: Any,
    middle: pd.Series,
    low: pd.Series,
    high: pd.Series,
    label: str,
    style: dict[str, Any],
) -> None:
    """A line with a bar at each point; a bar of unknown length (NaN) is left out."""
    middle, low, high = (series.to_numpy() for series in (middle, low, high))
    bars = [(middle - low).clip(min=0), (high - middle).clip(min=0)]
    ax.errorbar(x, middle, yerr=bars, label=label, elinewidth=1.2, capsize=2.5, **style)
