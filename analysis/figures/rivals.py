"""Every market against random bids and against the best static mask, at equal supply."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure, Missing
from analysis.lines import legend_below, panels
from analysis.readings import readings_of
from analysis.style import BELOW, GREY, HEAD, number, percent, words
from analysis.verdict import MASK_RIVAL, RANDOM_RIVAL, judge

COLOURS = {MASK_RIVAL: HEAD, RANDOM_RIVAL: GREY}


class Rivals(Figure):
    """Paired differences of every mechanism and policy."""

    name = "rivals"
    title = "Against random bids and the best static mask"
    question = (
        "Does it matter who allocates, and is deciding anew for every token better than deciding "
        "once? Paired differences of utility, positive where the market is better, with 95 % "
        "bootstrap intervals: to random bids under the same mechanism (grey) and to the static "
        "mask over heads and blocks (blue) of the same whole-model FLOPs that lost least on text "
        "that nobody measures or is fitted on. A mask may move FLOPs between layers; a market "
        "clears every layer with the same fraction."
    )
    needs = ("metrics",)
    place = 12
    scenario = "scarcity"

    def data(self, run: Run) -> pd.DataFrame:
        """The verdict's comparisons with the two rivals, scarce budgets only."""
        found = readings_of(run)
        if found is None:
            raise Missing("the run measured no utility")
        compared = judge(run.table("metrics"), found).compared
        chosen = compared[compared["rival"].isin(COLOURS) & (compared["budget_fraction"] < 1)]
        if not (chosen["rival"] == MASK_RIVAL).any():
            raise Missing("the study runs no static mask")
        return chosen.reset_index(drop=True)

    def draw(self, data: pd.DataFrame) -> Canvas:
        """One panel a budget, one line a variant."""
        budgets = sorted(data["budget_fraction"].unique(), reverse=True)
        columns = min(len(budgets), 4)
        rows = -(-len(budgets) // columns)
        names = (
            data["mechanism"].map(words)
            + np.where(data["scope"] == "sequence", "", " (" + data["scope"].fillna("") + ")")
            + ", "
            + data["policy"].map(words)
        )
        variants = list(dict.fromkeys(names))
        canvas, axes = panels(rows, columns, height_in=0.6 + 0.24 * len(variants), share_y=True)
        for ax, budget in zip(axes.flat, budgets, strict=False):
            for rival, part in data[data["budget_fraction"] == budget].groupby("rival"):
                y = [variants.index(name) for name in names[part.index]]
                shift = 0.14 if rival == MASK_RIVAL else -0.14
                places = np.array(y) + shift
                ax.hlines(places, part["low"], part["high"], color=COLOURS[rival], linewidth=1.4)
                ax.plot(part["gain"], places, "o", color=COLOURS[rival], label=f"against {rival}")
            ax.axvline(0, **BELOW)
            ax.set_title(f"{percent(budget)} supply")
            ax.set_xlabel(f"difference, {data['unit'].iloc[0]}")
        for ax in axes.flat[len(budgets) :]:
            ax.set_visible(False)
        axes[0, 0].set_yticks(range(len(variants)), variants)
        axes[0, 0].set_ylim(len(variants) - 0.5, -0.5)
        legend_below(canvas, axes)
        return canvas

    def findings(self, data: pd.DataFrame) -> list[str]:
        """How often each rival is beaten, and by whom most."""
        said = []
        for rival, rows in data.groupby("rival", sort=True):
            for budget, part in sorted(rows.groupby("budget_fraction"), reverse=True):
                better, worse = (part["low"] > 0).sum(), (part["high"] < 0).sum()
                best = part.loc[part["gain"].idxmax()]
                said.append(
                    f"At {percent(budget)} supply, against {rival}: {better} of {len(part)} "
                    f"variants clearly better, {worse} clearly worse. The best is "
                    f"{words(best['mechanism'])} with {words(best['policy'])} bids: "
                    f"{number(best['gain'])} ({number(best['low'])} to {number(best['high'])}) "
                    f"{best['unit']}."
                )
        return said
