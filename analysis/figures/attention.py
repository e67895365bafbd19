"""Attention dense against scarce on one sentence."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.cells import CELL, describe, showcase
from analysis.figures.base import Figure, Missing
from analysis.heat import wide
from analysis.style import DIFFERENCE, HEAT, WIDTH_IN, frame_all, label_tokens

KEYS = ["query", "key", "query_text", "key_text"]


class Attention(Figure):
    """Who looks at whom, before and under scarcity."""

    name = "attention"
    title = "Attention, dense against scarce"
    question = (
        "Does scarcity move attention to other tokens? Rows look, columns are looked at, weighted "
        "by the gates of the heads that still run. Above: both on one square-root colour scale. "
        "Below: the difference, red where attention grew, as a mean over layers and in the layer "
        "that changed most; colours saturate at the 98th percentile. Heads that were dropped "
        "count too: a change is composition and reallocation together."
    )
    needs = ("attention",)
    place = 40

    def data(self, run: Run) -> pd.DataFrame:
        """Dense and scarce attention per (query, key): mean over layers, most changed layer."""
        table = run.table("attention")
        scarce = showcase(table[table["setting"] == "scarce"])
        cell = scarce[CELL].iloc[0]
        dense = _dense_like(table[table["setting"] == "dense"], cell)
        both = dense.merge(
            scarce[["layer", "query", "key", "attention"]],
            on=["layer", "query", "key"],
            suffixes=("_dense", "_scarce"),
        )
        if both.empty:
            raise Missing("dense and scarce attention share no layer and token")
        change = (both["attention_scarce"] - both["attention_dense"]).abs()
        most = int(change.groupby(both["layer"]).mean().idxmax())
        mean = both.groupby(KEYS, as_index=False)[["attention_dense", "attention_scarce"]].mean()
        one = both.loc[both["layer"] == most, [*KEYS, "attention_dense", "attention_scarce"]]
        found = pd.concat(
            [mean.assign(view="mean over layers"), one.assign(view=f"layer {most}")],
            ignore_index=True,
        )
        found.insert(0, "view", found.pop("view"))
        return found.assign(**cell.to_dict())[[*CELL, *found.columns]]

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Above: dense and scarce, mean over layers. Below: both views' differences."""
        views = {view: _matrices(part) for view, part in data.groupby("view", sort=False)}
        (dense, scarce, tokens), *_ = views.values()
        canvas = Canvas(figsize=(WIDTH_IN, 9.6), layout="constrained")
        (above, below) = axes = canvas.subplots(2, 2, sharex=True, sharey=True)
        canvas.suptitle(describe(data.iloc[0]), x=0.01, ha="left", fontsize=11, weight="bold")
        # A square root: separators draw most attention and would hide all else.
        norm = PowerNorm(0.5, vmin=0, vmax=max(np.nanmax(dense), np.nanmax(scarce), 1e-9))
        for ax, matrix, setting in zip(above, (dense, scarce), ("dense", "scarce"), strict=True):
            image = ax.imshow(matrix, cmap=HEAT, norm=norm, aspect="auto")
            ax.set_title(f"{setting}, mean over layers")
        changes = {view: scarce - dense for view, (dense, scarce, _) in views.items()}
        # Saturated at the 98th percentile, again for the separators' sake.
        reach = max(float(np.nanquantile(np.abs(list(changes.values())), 0.98)), 1e-9)
        for ax, (view, matrix) in zip(below, changes.items(), strict=True):
            change = ax.imshow(matrix, cmap=DIFFERENCE, vmin=-reach, vmax=reach, aspect="auto")
            ax.set_title(f"scarce - dense, {view}")
            label_tokens(ax.xaxis, tokens, inches=3.7)
            ax.set_xlabel("key: looked at")
        for ax in axes[:, 0]:
            label_tokens(ax.yaxis, tokens, inches=3.7)
            ax.set_ylabel("query: looks")
        for ax in axes.flat:
            frame_all(ax)
        canvas.colorbar(image, ax=list(above), pad=0.01, label="attention")
        canvas.colorbar(
            change, ax=list(below), pad=0.01, extend="both", label="change of attention"
        )
        return canvas


def _matrices(view: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Dense and scarce attention as query x key matrices, and the tokens."""
    dense, tokens = wide(view, "query", "key", "attention_dense", "key_text")
    scarce, _ = wide(view, "query", "key", "attention_scarce", "key_text")
    return dense.to_numpy(), scarce.to_numpy(), tokens


def _dense_like(dense: pd.DataFrame, cell: pd.Series) -> pd.DataFrame:
    """The dense rows recorded with a cell, or of the first cell: dense is dense everywhere."""
    if dense.empty:
        raise Missing("the run recorded no dense attention")
    own = dense[(dense[CELL] == cell).all(axis=1)]
    if own.empty:
        own = dense[(dense[CELL] == dense[CELL].iloc[0]).all(axis=1)]
    return own
