"""Complements and substitutes: closing agents together against the sum of closing them apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure, Missing
from analysis.fits import FAMILIES, MARKET, ratio_of, rows_of, said, whiskers
from analysis.lines import legend_below, panels
from analysis.style import GREY, line_styles, percentages, words


class ValuationUnions(Figure):
    """Left: unions of single agents by size; right: whole allocations against their halves."""

    name = "valuation_unions"
    title = "Do values add up?"
    question = (
        "Loss of closing agents together over the sum of closing them apart: 1 is additive, as "
        "declared welfare assumes. Above 1 (losses super-additive) agents are substitutes: each "
        "is worth more once the other is gone. Below 1 they are complements, or loss nears its "
        "ceiling: with the one gone the other is worth less. Left: sets of agents drawn at "
        "random, against closing each alone. Right: a whole allocation against the sum of two "
        "random halves of its closings. Bars: 95 % bootstrap intervals over texts."
    )
    needs = ("allocations_measured",)
    place = 14
    scenario = "valuation"

    def data(self, run: Run) -> pd.DataFrame:
        """Ratios with intervals: by kind and size, by family and budget."""
        found = list(_halves(run.table("allocations_measured")))
        if "unions" in run.tables:
            found += list(_unions(run.table("unions")))
        if not found:
            raise Missing("the run measured no parts")
        return pd.DataFrame(found)

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Ratios over size and over supply."""
        canvas, axes = panels(rows=1, columns=2, height_in=3.6)
        unions, halves = data[data["part"] == "unions"], data[data["part"] == "halves"]
        kinds = list(dict.fromkeys(unions["name"]))
        styles = line_styles(kinds)
        for place, kind in enumerate(kinds):
            line = unions[unions["name"] == kind].sort_values("x")
            aside = 2 ** (0.06 * (place - (len(kinds) - 1) / 2))
            bounds = line["value"], line["low"], line["high"]
            whiskers(axes[0, 0], line["x"] * aside, *bounds, label=words(kind), **styles[kind])
        axes[0, 0].set_xscale("log", base=2)
        sizes = sorted(unions["x"].unique())
        axes[0, 0].set_xticks(sizes, [f"{size:g}" for size in sizes])
        axes[0, 0].set_xlabel("agents closed together")
        axes[0, 0].set_title("sets of single agents")
        names = list(dict.fromkeys(halves["name"]))
        for place, name in enumerate(names):
            family, _, policy = name.partition("/")
            label, colour, marker = FAMILIES[family]
            label = f"market, {words(policy)} bids" if policy else label
            line = halves[halves["name"] == name].sort_values("x")
            bounds = line["value"], line["low"], line["high"]
            style = {"color": colour, "marker": marker, "label": label}
            aside = 0.006 * (place - (len(names) - 1) / 2)
            whiskers(axes[0, 1], line["x"] + aside, *bounds, **style)
        percentages(axes[0, 1].xaxis)
        axes[0, 1].set_xlabel("supply, % of dense agent FLOPs")
        axes[0, 1].set_title("whole allocations, against their halves")
        axes[0, 0].set_ylabel("loss together / sum of losses apart")
        for ax in axes.flat:
            ax.axhline(1.0, color=GREY, linestyle="--", linewidth=1)
        legend_below(canvas, axes, columns=4)
        return canvas

    def findings(self, data: pd.DataFrame) -> list[str]:
        """The extremes, where their interval excludes 1."""
        columns = ["value", "low", "high"]
        found = []
        for part, what in (
            ("unions", "{x:g} agents ({name})"),
            ("halves", "{name}, {x:.0%} supply"),
        ):
            rows = data[(data["part"] == part) & ((data["low"] > 1) | (data["high"] < 1))]
            if rows.empty:
                continue
            far = rows.loc[(rows["value"] - 1).abs().idxmax()]
            where = what.format(x=far["x"], name=words(far["name"]).replace("/", ", "))
            found.append(
                f"Furthest from additive: {where}, {said(far[columns])} times the sum of the parts."
            )
        return found


def _unions(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    table = table.assign(text=rows_of(table))
    for (kind, size), part in table.groupby(["kind", "size"], sort=False):
        found = ratio_of(part, "together_change", "parts_change")
        yield {"part": "unions", "name": kind, "x": float(size), **found._asdict()}


def _halves(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Families that nobody bid for are the same under all policies: the first one's count."""
    table = table.assign(text=rows_of(table))
    lead = table["policy"].iloc[0]
    for (family, budget), part in table[table["policy"] == lead].groupby(
        ["family", "budget_fraction"], sort=False
    ):
        found = ratio_of(part, "measured_change", "parts_change")
        name = f"{family}/{lead}" if family == MARKET else family
        yield {"part": "halves", "name": name, "x": float(budget), **found._asdict()}
