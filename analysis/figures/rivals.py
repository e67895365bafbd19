"""Every market against random bids and against the best static mask, at equal supply."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

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
        "bootstrap intervals, above by utility, below by the task's own loss where a run keeps it: "
        "to random bids under the same mechanism (grey) and to the static "
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
        """A column of panels a budget, one line a variant; below, the loss where it was kept."""
        budgets = sorted(data["budget_fraction"].unique(), reverse=True)
        names = _names(data)
        variants = list(dict.fromkeys(names))
        measures = [("gain", "low", "high", data["unit"].iloc[0])]
        if data["loss_gain"].notna().any():
            measures.append(("loss_gain", "loss_low", "loss_high", "less mean loss"))
        canvas, axes = panels(
            len(measures), len(budgets), height_in=0.6 + 0.2 * len(variants), share_y="row"
        )
        for row, (middle, low, high, unit) in zip(axes, measures, strict=True):
            for ax, budget in zip(row, budgets, strict=True):
                for rival, part in data[data["budget_fraction"] == budget].groupby("rival"):
                    shift = 0.14 if rival == MASK_RIVAL else -0.14
                    y = np.array([variants.index(name) for name in names[part.index]]) + shift
                    colour = COLOURS[rival]
                    ax.hlines(y, part[low], part[high], color=colour, linewidth=1.4)
                    ax.plot(part[middle], y, "o", color=colour, label=f"against {rival}")
                ax.axvline(0, **BELOW)
                ax.xaxis.set_major_locator(MaxNLocator(2))  # panels are narrow
                ax.set_title(f"{percent(budget)} supply")
            row[0].set_ylabel(unit)
            row[0].set_yticks(range(len(variants)), variants)
            row[0].set_ylim(len(variants) - 0.5, -0.5)
        legend_below(canvas, axes)
        return canvas

    def findings(self, data: pd.DataFrame) -> list[str]:
        """How often each rival is beaten, and by whom most."""
        said = []
        for rival, rows in data.groupby("rival", sort=True):
            for budget, part in sorted(rows.groupby("budget_fraction"), reverse=True):
                better, worse = (part["low"] > 0).sum(), (part["high"] < 0).sum()
                best = part.loc[part["gain"].idxmax()]
                sentence = (
                    f"At {percent(budget)} supply, against {rival}: {better} of {len(part)} "
                    f"variants clearly better, {worse} clearly worse. The best is "
                    f"{words(best['mechanism'])} with {words(best['policy'])} bids: "
                    f"{number(best['gain'])} ({number(best['low'])} to {number(best['high'])}) "
                    f"{best['unit']}."
                )
                if part["loss_gain"].notna().any():
                    less, more = (part["loss_low"] > 0).sum(), (part["loss_high"] < 0).sum()
                    sentence += f" By mean loss {less} are clearly better and {more} clearly worse."
                said.append(sentence)
        return said


def _names(data: pd.DataFrame) -> pd.Series:
    """Mechanism, scope where it is not the row, and policy of each comparison."""
    scope = data["scope"].map(lambda scope: "" if scope == "sequence" else f" ({scope})")
    return data["mechanism"].map(words) + scope + ", " + data["policy"].map(words)
