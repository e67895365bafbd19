"""How concentrated attention is: entropy and Gini, over supply and by layer."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure, Missing
from analysis.figures.reallocation_layers import scarcest
from analysis.lines import draw_interval, legend_below, panels
from analysis.reallocation import ALL_LAYERS, MARKET, RIVALS, estimates, lead_market
from analysis.reallocation_arms import (
    SCENARIO,
    arm_label,
    arm_styles,
    errors,
    of_market,
    supplies,
)
from analysis.reallocation_verdict import signed
from analysis.style import BELOW, percent

_MEASURES = {
    "entropy": "entropy, nats",
    "relative_entropy": "entropy, share of its maximum",
    "gini": "Gini of attention received",
}


class ReallocationSpread(Figure):
    """Entropy, normalised entropy and Gini of gate-weighted attention."""

    name = "reallocation_spread"
    title = "Entropy and Gini of attention"
    question = (
        "Does attention get easier to read, and does a market make it so? Lower entropy and higher "
        "Gini mean more concentrated attention, all real tokens counted. Above: all layers, over "
        "supply. Below: layer by layer, at one scarce supply. Bars and bands: 95 % intervals of "
        "the paired difference to the dense model. What random arms do as well is no sign of "
        "better allocation."
    )
    needs = ("spread",)
    place = 13
    scenario = SCENARIO

    def data(self, run: Run) -> pd.DataFrame:
        """Estimates of the leading market and its rivals."""
        table = run.table("spread")
        whole = table["layer"] == ALL_LAYERS
        parts = table[whole | (table["budget_fraction"] == scarcest(table))]
        market = lead_market(table)
        found = [
            of_market(estimates(parts, measure, ["layer"]), market).assign(measure=measure)
            for measure in _MEASURES
        ]
        data = pd.concat(found, ignore_index=True)
        if data.empty:
            raise Missing("the run holds no market that values agents")
        return data

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Two rows of three panels."""
        canvas, axes = panels(rows=2, columns=3, height_in=3.0)
        market = tuple(data.iloc[0][["mechanism", "policy", "scope"]])
        styles = arm_styles([market[0]])
        scarce = scarcest(data[data["layer"] != ALL_LAYERS])
        for column, (measure, title) in enumerate(_MEASURES.items()):
            rows = data[data["measure"] == measure]
            for ax, part, x in (
                (axes[0, column], rows[rows["layer"] == ALL_LAYERS], "budget_fraction"),
                (axes[1, column], rows[rows["layer"] != ALL_LAYERS], "layer"),
            ):
                dense = part[(part["quantity"] == "dense") & (part["arm"] == MARKET)]
                ax.plot(dense[x], dense["mean"], label="dense", **BELOW)
                for place, arm in enumerate((MARKET, *RIVALS)):
                    line = part[part["arm"] == arm].set_index("quantity")
                    if "change" not in line.index:
                        continue
                    level, change = line.loc[["scarce"]], line.loc[["change"]]
                    shift = level["mean"].to_numpy() - change["mean"].to_numpy()
                    style = styles[arm if arm != MARKET else market[0]]
                    bounds = level["mean"], change["low"] + shift, change["high"] + shift
                    label = arm_label(market, arm)
                    if x == "layer":
                        draw_interval(ax, level[x], *bounds, label=label, **style)
                    else:  # side by side, so that bars do not cover each other
                        errors(ax, level[x] + 0.006 * (place - 1.5), *bounds, label, style)
            axes[0, column].set_title(title)
            supplies(axes[0, column], rows["budget_fraction"])
            axes[1, column].set_xlabel(f"layer, at {percent(scarce)} supply")
            axes[1, column].xaxis.get_major_locator().set_params(integer=True)
        legend_below(canvas, axes, columns=5)
        return canvas

    def findings(self, data: pd.DataFrame) -> list[str]:
        """Change against dense and gain over rivals, all layers, at the scarce supply."""
        whole = data[(data["layer"] == ALL_LAYERS) & (data["budget_fraction"] == scarcest(data))]
        sentences = []
        for measure, title in _MEASURES.items():
            rows = whole[whole["measure"] == measure].set_index(["arm", "quantity"])
            said = [f"{signed(rows.loc[(MARKET, 'change')])} against dense"]
            said += [
                f"{signed(rows.loc[(arm, 'gain')])} against {arm}"
                for arm in RIVALS
                if (arm, "gain") in rows.index
            ]
            supply = percent(whole["budget_fraction"].iloc[0])
            sentences.append(f"{title[0].upper()}{title[1:]}, {supply} supply: {', '.join(said)}.")
        return sentences
