"""What moved attention: which heads are left, or what they look at."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure, Missing
from analysis.lines import legend_below, panels
from analysis.reallocation import ALL_LAYERS, MARKET, RIVALS, VALUES, estimates, lead_market
from analysis.reallocation_arms import SCENARIO, as_points, of_market
from analysis.style import percent, words

_COMPOSITION, _WITHIN = "#56B4E9", "#E69F00"


class ReallocationParts(Figure):
    """Composition and change within heads, stacked, one bar per arm and supply."""

    name = "reallocation_parts"
    title = "What moved attention: composition or heads themselves"
    question = (
        "Is it the same heads that look elsewhere, or only others that are left? Composition: the "
        "change of the share when gates choose whose dense attention still counts. Within heads: "
        "the further change because the heads that are left see other inputs. The two add up to "
        "the whole change, the black mark. Thin bars: 95 % intervals of each."
    )
    needs = ("reallocation",)
    place = 11
    scenario = SCENARIO

    def data(self, run: Run) -> pd.DataFrame:
        """Estimates of the leading market and its rivals, all layers."""
        table = run.table("reallocation")
        found = estimates(table[table["layer"] == ALL_LAYERS], "share", ["value"])
        if found.empty:
            raise Missing("the run holds no market that values agents")
        parts = found[found["quantity"].isin(["change", "composition", "within"])]
        return of_market(parts, lead_market(table)).reset_index(drop=True)

    def draw(self, data: pd.DataFrame) -> Canvas:
        """One panel per definition of value, all on one scale."""
        values = [value for value in VALUES if value in set(data["value"])]
        arms = [arm for arm in (MARKET, *RIVALS) if arm in set(data["arm"])]
        budgets = sorted(data["budget_fraction"].unique(), reverse=True)
        canvas, axes = panels(rows=len(values), columns=1, height_in=2.5, share_y=True)
        for ax, value in zip(axes.flat, values, strict=True):
            ticks = []
            for group, budget in enumerate(budgets):
                for place, arm in enumerate(arms):
                    x = group * (len(arms) + 1) + place
                    rows = data[
                        (data["value"] == value)
                        & (data["arm"] == arm)
                        & (data["budget_fraction"] == budget)
                    ]
                    if rows.empty:
                        continue
                    _bar(ax, x, rows.set_index("quantity"))
                    ticks.append((x, arm.replace("random ", "random\n")))
                middle = group * (len(arms) + 1) + (len(arms) - 1) / 2
                where = ax.get_xaxis_transform()
                label = f"{percent(budget)} supply"
                ax.text(middle, 0.99, label, ha="center", va="top", transform=where, weight="bold")
            ax.set_xticks([x for x, _ in ticks], [label for _, label in ticks], fontsize=8.5)
            ax.grid(False, axis="x")
            ax.axhline(0, color="#555555", linewidth=0.8)
            ax.set_title(VALUES[value])
            ax.set_ylabel("change of share,\npoints")
            as_points(ax.yaxis)
            ax.margins(y=0.16)
        market = data.iloc[0]
        canvas.suptitle(
            f"market: {words(market['mechanism'])}, {words(market['policy'])} bids",
            x=0.01, ha="left", fontsize=11, weight="bold",
        )  # fmt: skip
        legend_below(canvas, axes, columns=3)
        return canvas


def _bar(ax: object, x: float, rows: pd.DataFrame) -> None:
    """Both parts on top of each other, or to both sides of zero; the whole as a mark."""
    below, above = 0.0, 0.0
    for shift, part, colour, label in (
        (-0.22, "composition", _COMPOSITION, "composition"),
        (0.22, "within", _WITHIN, "within heads"),
    ):
        height = float(rows.loc[part, "mean"])
        bottom = above if height >= 0 else below
        ax.bar(x, height, bottom=bottom, width=0.8, color=colour, label=label)
        _interval(ax, x + shift, rows.loc[part], bottom, colour="#00000088", width=0.9)
        above, below = max(above, bottom + height), min(below, bottom + height)
    whole = rows.loc["change"]
    _interval(ax, x, whole, 0.0, colour="black", width=1.6)
    ax.plot(x, whole["mean"], "D", color="black", markersize=5, linestyle="", label="whole change")


def _interval(ax: object, x: float, row: pd.Series, base: float, colour: str, width: float) -> None:
    if np.isfinite(row["low"]):
        ax.plot([x, x], [base + row["low"], base + row["high"]], color=colour, linewidth=width)
