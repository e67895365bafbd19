"""Allocation heat map: who served which token."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Patch

from agent_economy.runs.reader import Run
from analysis.cells import CELL, describe, first, showcase
from analysis.figures.base import Figure
from analysis.heat import wide
from analysis.style import BLOCK, GREY, HEAD, WIDTH_IN, frame_all, label_tokens, percent

UNSERVED = "#f1f1f1"


class Allocations(Figure):
    """Which agent serves which token of the showcase sentence."""

    name = "allocations"
    title = "Allocation"
    question = (
        "Who works for whom? A coloured cell is an agent (row) that won compute for a token "
        "(column). Unbroken rows are agents that every token buys, empty rows are idle ones, and "
        "ragged columns mean that tokens are treated differently. The strips give the share of "
        "agents that serve a token, and the share of tokens that an agent serves."
    )
    needs = ("allocations",)
    place = 30

    def data(self, run: Run) -> pd.DataFrame:
        """Agent x token allocation of one sentence, in the same cell as the prices."""
        rows = showcase(run.table("allocations"), scope="token")
        for column in ("step", "row"):
            rows = first(rows, column) if column in rows else rows
        columns = [*CELL, "layer", "agent", "kind", "token", "token_text", "allocation", "bid"]
        # Heads are numbered before blocks, so that the agent's index also groups by kind.
        return rows[columns].sort_values(["layer", "agent", "token"], ignore_index=True)

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Tokens along x; agents downwards by layer, heads above blocks."""
        share_NL, tokens = wide(data, ["layer", "agent"], "token", "allocation")
        agents = data.drop_duplicates(["layer", "agent"])
        is_block_N = (agents["kind"] == "block").to_numpy()
        layer_N = agents["layer"].to_numpy()

        height = float(np.clip(0.045 * len(agents), 3.0, 11.0))
        canvas = Canvas(figsize=(WIDTH_IN, height + 2.4), layout="constrained")
        grid = canvas.add_gridspec(2, 2, height_ratios=[0.55, height], width_ratios=[WIDTH_IN, 0.9])
        ax = canvas.add_subplot(grid[1, 0])
        top = canvas.add_subplot(grid[0, 0], sharex=ax)
        side = canvas.add_subplot(grid[1, 1], sharey=ax)

        # Colour says kind, presence says served; a relaxed share counts as served by rounding.
        code_NL = np.where(share_NL.to_numpy() >= 0.5, 1 + is_block_N[:, None], 0)
        colours = ListedColormap([UNSERVED, HEAD, BLOCK])
        ax.imshow(code_NL, aspect="auto", cmap=colours, vmin=0, vmax=2, interpolation="nearest")
        label_tokens(ax.xaxis, tokens, inches=0.82 * WIDTH_IN)
        _separate(ax, layer_N, is_block_N, height)
        ax.set_xlabel("token")
        ax.set_ylabel("agent, by layer")
        frame_all(ax)

        top.bar(range(len(tokens)), share_NL.mean(axis=0), color=GREY, width=0.9)
        top.set_ylim(0, 1)
        top.set_yticks([0, 1], ["0", "100 %"])
        top.tick_params(axis="x", bottom=False, labelbottom=False)
        served = percent(round(float(share_NL.to_numpy().mean()), 3))
        top.set_title(f"{describe(data.iloc[0])}: {served} of pairs served")
        side.barh(
            range(len(agents)),
            share_NL.mean(axis=1),
            color=np.where(is_block_N, BLOCK, HEAD),
            height=1.0,
        )
        side.set_xlim(0, 1)
        side.set_xticks([0, 1], ["0", "100 %"])
        side.tick_params(axis="y", left=False, labelleft=False)
        canvas.legend(
            handles=[
                Patch(color=HEAD, label="served by a head"),
                Patch(color=BLOCK, label="served by an FFN block"),
                Patch(facecolor=UNSERVED, edgecolor=GREY, label="not served"),
            ],
            loc="outside lower center",
            ncols=3,
        )
        return canvas


def _separate(ax, layer_N: np.ndarray, is_block_N: np.ndarray, inches: float) -> None:
    """Rule off layers (thick) and kinds (thin), and name the layers at their middle."""
    for row in range(1, len(layer_N)):
        if layer_N[row] != layer_N[row - 1]:
            ax.axhline(row - 0.5, color="black", linewidth=1.0)
        elif is_block_N[row] != is_block_N[row - 1]:
            ax.axhline(row - 0.5, color="black", linewidth=0.4)
    layers = np.unique(layer_N)
    middles = [float(np.flatnonzero(layer_N == layer).mean()) for layer in layers]
    room_pt = 72 * inches / len(layers) * 0.86
    ax.set_yticks(middles, [f"L{layer}" for layer in layers])
    ax.tick_params(axis="y", labelsize=min(9.0, room_pt), length=0)
