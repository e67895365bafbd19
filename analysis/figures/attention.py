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
        "by the gates of the heads that still run. Upper row: mean over layers; lower row: the "
        "layer whose attention changed most. Left and middle share one square-root colour scale; "
        "right: scarce minus dense, red where attention grew. Heads that were dropped count here "
        "too, so a change is composition and reallocation together."
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
        """Two rows (views) of three panels: dense, scarce, difference."""
        views = list(data.groupby("view", sort=False))
        canvas = Canvas(figsize=(WIDTH_IN, 0.9 + 3.5 * len(views)), layout="constrained")
        axes = canvas.subplots(len(views), 3, squeeze=False, sharex=True, sharey=True)
        canvas.suptitle(describe(data.iloc[0]), x=0.01, ha="left", fontsize=11, weight="bold")
        for row, (view, part) in zip(axes, views, strict=True):
            matrices = []
            for setting in ("dense", "scarce"):
                matrix, tokens = wide(part, "query", "key", f"attention_{setting}", "key_text")
                matrices.append(matrix.to_numpy())
            dense, scarce = matrices
            # A square root: separators draw most attention and would hide all else.
            norm = PowerNorm(0.5, vmin=0, vmax=max(np.nanmax(dense), np.nanmax(scarce), 1e-9))
            for ax, matrix in zip(row, matrices, strict=False):
                image = ax.imshow(matrix, cmap=HEAT, norm=norm)
            reach = max(float(np.nanmax(np.abs(scarce - dense))), 1e-9)
            change = row[2].imshow(scarce - dense, cmap=DIFFERENCE, vmin=-reach, vmax=reach)
            for ax, name in zip(row, ("dense", "scarce", "scarce - dense"), strict=True):
                ax.set_title(f"{view}: {name}")
                frame_all(ax)
            row[0].set_ylabel("query")
            label_tokens(row[0].yaxis, tokens, inches=2.6)
            canvas.colorbar(image, ax=row[:2], shrink=0.85, pad=0.01, label="attention")
            canvas.colorbar(change, ax=row[2], shrink=0.85, pad=0.01, label="change of attention")
        for ax in axes[-1]:
            label_tokens(ax.xaxis, tokens, inches=2.6)
            ax.set_xlabel("key")
        return canvas


def _dense_like(dense: pd.DataFrame, cell: pd.Series) -> pd.DataFrame:
    """The dense rows recorded with a cell, or of the first cell: dense is dense everywhere."""
    if dense.empty:
        raise Missing("the run recorded no dense attention")
    own = dense[(dense[CELL] == cell).all(axis=1)]
    if own.empty:
        own = dense[(dense[CELL] == dense[CELL].iloc[0]).all(axis=1)]
    return own
