"""Utility against supply: what scarcity costs under each mechanism."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.cells import NO_MARKET, NOT_MARKETS, REFERENCE, STATIC_MASK, lead_rows
from analysis.examples import PERPLEXITY
from analysis.figures.base import Figure, Missing
from analysis.intervals import VARIANT
from analysis.lines import draw_interval, legend_below, over_supply, panels
from analysis.readings import readings_of, spent
from analysis.style import BELOW, MASK, direction, line_styles, words


class Utility(Figure):
    """Utility per mechanism, once against FLOPs on offer and once against FLOPs spent."""

    name = "utility"
    title = "Utility against supply"
    question = (
        "How far does utility fall as compute gets scarce, and is the market worth having? Left: "
        "against the FLOPs on offer; right: against the FLOPs really executed, the market's own "
        "included. A mechanism earns its place where it lies on the better side of random bids "
        "(dashed), of no market (crosses) and of the best static mask (black diamonds), which "
        "was chosen on text that nobody measures. Each mechanism bids with its lead policy. Bands: "
        "95 % bootstrap intervals over seeds and steps, or over examples."
    )
    needs = ("metrics",)
    place = 10

    def data(self, run: Run) -> pd.DataFrame:
        """Utility and executed FLOPs with intervals: lead policies and the random reference."""
        found = readings_of(run)
        if found is None:
            raise Missing("the run measured no utility")
        utility = found.table()
        flops = spent(run.table("metrics")).drop(columns=["unit", "n"])
        flops = flops.rename(
            columns={"mean": "flops_fraction", "low": "flops_low", "high": "flops_high"}
        )
        both = utility.rename(columns={"mean": "utility"}).merge(flops, on=VARIANT, how="left")
        lines = lead_rows(both).assign(role="mechanism")
        masks = lines["mechanism"] == STATIC_MASK
        if masks.any() and not masks.all():  # a mask has no scope: it is a rival in all of them
            scopes = lines.loc[~masks, ["scope"]].drop_duplicates()
            everywhere = lines[masks].drop(columns="scope").merge(scopes, how="cross")
            lines = pd.concat([lines[~masks], everywhere[lines.columns]], ignore_index=True)
        markets = lines.loc[~lines["mechanism"].isin(NOT_MARKETS), "mechanism"]
        random = both[(both["policy"] == REFERENCE) & both["mechanism"].isin(markets)]
        random = random[random["mechanism"] == random["mechanism"].iloc[0]] if len(random) else None
        return pd.concat(
            [lines, random.assign(role="reference")] if random is not None else [lines],
            ignore_index=True,
        )

    def draw(self, data: pd.DataFrame) -> Canvas:
        """A row of two panels for each scope and unit of utility."""
        rows = list(data.groupby(["scope", "unit"], sort=False))
        canvas, axes = panels(rows=len(rows), columns=2, height_in=3.7, share_y="row")
        styles = line_styles(list(data["mechanism"]))
        for (left, right), ((scope, unit), part) in zip(axes, rows, strict=True):
            for (mechanism, policy, role), line in part.groupby(
                ["mechanism", "policy", "role"], sort=False
            ):
                style, label = styles[mechanism], words(mechanism)
                if role == "reference":
                    style = BELOW
                    label = f"random bids ({words(mechanism)})"
                elif mechanism == STATIC_MASK:
                    style, label = MASK, f"{words(policy)} static mask"
                elif mechanism != NO_MARKET:
                    label += f", {words(policy)} bids"
                bounds = line["utility"], line["low"], line["high"]
                for ax, column in ((left, "budget_fraction"), (right, "flops_fraction")):
                    draw_interval(ax, line[column], *bounds, label=label, **style)
            left.set_ylabel(direction(unit))
            left.set_yscale("log" if unit == PERPLEXITY else "linear")
            left.set_title(f"{scope} scope: supplied")
            right.set_title(f"{scope} scope: spent")
            over_supply(left)
            over_supply(right, "spent, % of dense agent FLOPs")
        legend_below(canvas, axes)
        return canvas
