"""Predicted against measured loss, allocation by allocation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure, Missing
from analysis.figures.valuation import MEASURED, PREDICTED
from analysis.fits import FAMILIES, fitted, ratio_of, rows_of, whiskers
from analysis.lines import legend_below, panels
from analysis.style import GREY, words

if TYPE_CHECKING:
    from agent_economy.metrics.regression import Estimate


class ValuationCurves(Figure):
    """One panel per policy, one line per family of allocations."""

    name = "valuation_curves"
    title = "Predicted and measured loss"
    question = (
        "Is a credit worth the same wherever it is closed? Each point is one family of "
        "allocations at one supply, averaged over texts; x is the value that the policy's bids "
        "put on what is closed, in units of loss at the rate that fits random pairs. On the "
        "dashed line prediction and loss agree. A family above it loses more than its bids said; "
        "a bend says that values do not add up. Bars: 95 % bootstrap intervals over texts."
    )
    needs = ("allocations_measured",)
    place = 12
    scenario = "valuation"

    def data(self, run: Run) -> pd.DataFrame:
        """Mean predicted and measured loss per policy, family and budget."""
        table = run.table("allocations_measured")
        if table.empty:
            raise Missing("the run measured no allocation")
        units = run.table("metrics").query("metric == 'measured_change'")["unit"]
        return pd.DataFrame(list(_points(table.assign(text=rows_of(table))))).assign(
            unit=units.iloc[0]
        )

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Small multiples with shared axes."""
        policies = list(dict.fromkeys(data["policy"]))
        columns = min(3, len(policies))
        canvas, axes = panels((len(policies) - 1) // columns + 1, columns, 3.1, share_y=True)
        for ax, policy in zip(axes.flat, policies, strict=False):
            part = data[data["policy"] == policy]
            for family, (label, colour, marker) in FAMILIES.items():
                line = part[part["family"] == family].sort_values("predicted")
                bounds = line["measured"], line["low"], line["high"]
                style = {"color": colour, "marker": marker, "label": label}
                whiskers(ax, line["predicted"], *bounds, **style)
            most = max(part["predicted"].max(), part["measured"].max())
            ax.plot([0, most], [0, most], color=GREY, linestyle="--", zorder=1.5, linewidth=1)
            ax.set_title(f"{words(policy)} bids")
            ax.set_xlabel(f"predicted, {data['unit'].iloc[0]}")
        for ax in axes[:, 0]:
            ax.set_ylabel(f"measured, {data['unit'].iloc[0]}")
        for ax in axes.flat[len(policies) :]:
            ax.set_visible(False)
        legend_below(canvas, axes)
        return canvas


def _points(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for policy, rows in table.groupby("policy", sort=False):
        random = rows[rows["family"] == "random_tokens"]
        rate = fitted(random, PREDICTED, MEASURED).slope_origin.value
        for (family, budget), part in rows.groupby(["family", "budget_fraction"], sort=False):
            measured: Estimate = ratio_of(part, MEASURED)
            yield {
                "policy": policy,
                "family": family,
                "budget_fraction": budget,
                "credits": part[PREDICTED].mean(),
                "predicted": part[PREDICTED].mean() * rate,
                "measured": measured.value,
                "low": measured.low,
                "high": measured.high,
                "flops_fraction": part["flops_fraction"].mean(),
            }
