"""The share of attention on valuable tokens: dense, scarce, random."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import NullFormatter

from agent_economy.runs.reader import Run
from analysis.cells import lead_policies
from analysis.figures.base import Figure, Missing
from analysis.lines import legend_below, panels
from analysis.reallocation import (
    ALL_LAYERS,
    MARKET,
    RIVALS,
    VALUES,
    estimates,
    lead_market,
    markets,
    utilities,
)
from analysis.reallocation_arms import (
    SCENARIO,
    arm_label,
    arm_styles,
    errors,
    of_market,
    supplies,
)
from analysis.reallocation_verdict import in_brief, kept, verdicts
from analysis.style import direction, percentages


class Reallocation(Figure):
    """One panel per definition of value, and one for utility."""

    name = "reallocation"
    title = "Attention on valuable tokens"
    question = (
        "Does scarcity move attention to the tokens that were valuable to the dense model? The "
        "share of gate-weighted attention that the top tokens of a row receive, special tokens "
        "left out; dashed: the dense model. Bars: 95 % bootstrap intervals, over seeds and rows, "
        "of the paired difference to the dense share. Random bids and lots know nothing; the "
        "random mask spends what the first market spent. Last panel: what each keeps of utility."
    )
    needs = ("reallocation",)
    place = 10
    scenario = SCENARIO

    def data(self, run: Run) -> pd.DataFrame:
        """Estimates over all layers, every market, and utilities."""
        table = run.table("reallocation")
        found = estimates(table[table["layer"] == ALL_LAYERS], "share", ["value"])
        if found.empty:
            raise Missing("the run holds no market that values agents")
        lead = "/".join(lead_market(table))
        utility = utilities(run).assign(quantity="utility", value="utility")
        return pd.concat([found, utility], ignore_index=True).assign(lead=lead)

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Share over supply, the leading market with its rivals and other markets beside."""
        values = [value for value in VALUES if value in set(data["value"])]
        named = [*values, "utility"] if "utility" in set(data["value"]) else values
        canvas, axes = panels(rows=(len(named) + 1) // 2, columns=2, height_in=3.3)
        lines = list(_lines(data))
        styles = arm_styles(list(data["mechanism"]))
        for ax, value in zip(axes.flat, named, strict=False):
            rows = data[data["value"] == value]
            dense = rows[rows["arm" if value == "utility" else "quantity"] == "dense"]
            ax.axhline(dense["mean"].mean(), color="#7a7a7a", linestyle="--", label="dense")
            for place, (market, arm) in enumerate(lines):
                line = of_market(rows, market)
                line = line[line["arm"] == arm].sort_values("budget_fraction")
                style = styles[arm if arm != MARKET else market[0]]
                label = arm_label(market, arm)
                # Side by side, so that bars do not cover each other.
                aside = 0.006 * (place - (len(lines) - 1) / 2)
                if value == "utility":
                    middle, low, high = line["mean"], line["low"], line["high"]
                else:
                    change = line[line["quantity"] == "change"]
                    line = line[line["quantity"] == "scarce"]
                    shift = line["mean"].to_numpy() - change["mean"].to_numpy()
                    middle = line["mean"]
                    low, high = change["low"] + shift, change["high"] + shift
                errors(ax, line["budget_fraction"] + aside, middle, low, high, label, style)
            ax.set_title("utility" if value == "utility" else VALUES[value])
            supplies(ax, rows["budget_fraction"])
            if value == "utility":
                unit = str(rows["unit"].iloc[0])
                ax.set_ylabel(direction(unit))
                if unit == "perplexity":
                    ax.set_yscale("log")
                    ax.yaxis.set_major_formatter(lambda score, _: f"{score:,.0f}")
                    ax.yaxis.set_minor_formatter(NullFormatter())
            else:
                ax.set_ylabel("share on the top tokens")
                percentages(ax.yaxis)
        for ax in axes.flat[len(named) :]:
            ax.set_visible(False)
        legend_below(canvas, axes, columns=4)
        return canvas

    def findings(self, data: pd.DataFrame) -> list[str]:
        """The verdict of the market that leads, and what it keeps of utility."""
        mechanism, policy, scope = str(data["lead"].iloc[0]).split("/")
        market = mechanism, policy, scope
        utility = of_market(data[data["value"] == "utility"], market)
        found = data[data["value"] != "utility"]
        others = [in_brief(found, other) for other in markets(found) if other != market]
        return [*verdicts(found, market), *kept(utility), *others]


def _lines(data: pd.DataFrame) -> list[tuple[tuple[str, str, str], str]]:
    """The market that leads with its rivals, then the lead policy of every other mechanism."""
    lead = tuple(str(data["lead"].iloc[0]).split("/"))
    mine = of_market(data, lead)
    found = [(lead, MARKET), *((lead, arm) for arm in RIVALS if arm in set(mine["arm"]))]
    best = lead_policies(data)
    others = data[["mechanism", "policy", "scope"]].drop_duplicates().to_numpy().tolist()
    for mechanism, policy, scope in others:
        if mechanism != lead[0] and policy == best[mechanism]:
            found.append(((mechanism, policy, scope), MARKET))
    return found
