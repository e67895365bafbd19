"""Lines with intervals, drawn one way in every figure."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from analysis.style import WIDTH_IN, percentages


def panels(
    rows: int, columns: int, height_in: float, share_y: bool | Literal["row"] = False
) -> tuple[Canvas, np.ndarray]:
    """A page-wide figure of equal panels with a light grid, made without pyplot's global state.

    Returns:
        The figure and its axes, always a ``rows x columns`` array.
    """
    canvas = Canvas(figsize=(WIDTH_IN, 0.7 + height_in * rows), layout="constrained")
    axes = canvas.subplots(rows, columns, squeeze=False, sharey=share_y)
    for ax in axes.flat:
        ax.grid(True)
    return canvas, axes


def draw_interval(
    ax: Axes, x: pd.Series, middle: pd.Series, low: pd.Series, high: pd.Series, **style: Any
) -> None:
    """A line with its interval as a band; a band of unknown width (NaN) is left out."""
    order = np.argsort(x.to_numpy(), kind="stable")
    x, middle, low, high = (series.to_numpy()[order] for series in (x, middle, low, high))
    ax.plot(x, middle, **style)
    ax.fill_between(x, low, high, color=style["color"], alpha=0.16, linewidth=0)


def legend_below(canvas: Canvas, axes: np.ndarray, columns: int = 3) -> None:
    """One legend for all panels, under them: each label once, in the order first drawn."""
    entries: dict[str, Any] = {}
    for ax in axes.flat:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    canvas.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns)


def over_supply(ax: Axes, label: str = "supply, % of dense agent FLOPs") -> None:
    """Make x a share of the dense FLOPs, from nothing to all."""
    percentages(ax.xaxis)
    ax.set_xlim(0, 1.04)
    ax.set_xlabel(label)
