"""The winner's curse: what a market closes because it is undervalued."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure, Missing
from analysis.figures.valuation import MEASURED, PREDICTED
from analysis.fits import FAMILIES, MARKET, rows_of, said, transferred, whiskers
from analysis.lines import legend_below, panels
from analysis.style import GREY, line_styles, percentages, words


class ValuationSelection(Figure):
    """One panel per random family, one line per policy."""

    name = "valuation_selection"
    title = "The winner's curse"
    question = (
        "Does selection spoil valuations? A market closes what was bid least for, so it collects "
        "what was valued too low. Loss per credit closed by the policy's market, over that of "
        "allocations drawn by lot at the same FLOPs: 1 where bids are unbiased under selection. "
        "Random bids show the curse at its purest. Bars: 95 % bootstrap intervals over texts."
    )
    needs = ("allocations_measured",)
    place = 13
    scenario = "valuation"

    def data(self, run: Run) -> pd.DataFrame:
        """The ratio per policy, budget and random family."""
        table = run.table("allocations_measured")
        if table.empty:
            raise Missing("the run measured no allocation")
        return pd.DataFrame(list(_ratios(table.assign(text=rows_of(table)))))

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Ratios over supply, on a log scale."""
        families = list(dict.fromkeys(data["family"]))
        canvas, axes = panels(rows=1, columns=len(families), height_in=3.4, share_y=True)
        policies = list(dict.fromkeys(data["policy"]))
        styles = line_styles(policies)
        for ax, family in zip(axes.flat, families, strict=True):
            for policy in policies:
                line = data[(data["policy"] == policy) & (data["family"] == family)]
                line = line.sort_values("budget_fraction")
                bounds = line["value"], line["low"], line["high"]
                label = f"{words(policy)} bids"
                whiskers(ax, line["budget_fraction"], *bounds, label=label, **styles[policy])
            ax.axhline(1.0, color=GREY, linestyle="--", linewidth=1)
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(FixedLocator([0.5, 1, 2, 5, 10, 20]))
            ax.yaxis.set_minor_locator(NullLocator())
            ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            ax.set_title(f"over {FAMILIES[family][0]}")
            percentages(ax.xaxis)
            ax.set_xlabel("supply, % of dense agent FLOPs")
        axes[0, 0].set_ylabel("loss per credit,\nmarket over random")
        legend_below(canvas, axes)
        return canvas

    def findings(self, data: pd.DataFrame) -> list[str]:
        """Where each policy is furthest off, over random pairs."""
        found = []
        for policy, part in data[data["family"] == "random_tokens"].groupby("policy", sort=False):
            worst = part.loc[part["value"].idxmax()]
            found.append(
                f"{words(policy)} bids: at worst {said(worst[['value', 'low', 'high']])} times the "
                f"loss per credit of random pairs, at {worst['budget_fraction']:.0%} supply."
            )
        return found


def _ratios(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for (policy, budget), rows in table.groupby(["policy", "budget_fraction"], sort=False):
        families = dict(iter(rows.groupby("family", sort=False)))
        for family in FAMILIES:
            if family == MARKET or family not in families or MARKET not in families:
                continue
            bias = transferred(families[family], families[MARKET], PREDICTED, MEASURED).bias
            key = {"policy": policy, "family": family, "budget_fraction": budget}
            yield {**key, **bias._asdict()}
