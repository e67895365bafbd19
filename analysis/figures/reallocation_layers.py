"""Where in the model attention moved: the change of the share, layer by layer."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.cells import SCARCE
from analysis.figures.base import Figure, Missing
from analysis.lines import draw_interval, legend_below, panels
from analysis.reallocation import (
    ALL_LAYERS,
    MARKET,
    RIVALS,
    VALUES,
    estimates,
    layer_means,
    lead_market,
)
from analysis.reallocation_arms import SCENARIO, arm_label, arm_styles, as_points, of_market
from analysis.reallocation_verdict import in_points
from analysis.style import percent


class ReallocationLayers(Figure):
    """One panel per definition of value, at the scarce budget."""

    name = "reallocation_layers"
    title = "Attention on valuable tokens, layer by layer"
    question = (
        "Where in the model does attention move? The change of the share on the top tokens against "
        "the dense model, at one scarce supply; a layer none of whose heads serves a row is left "
        "out for that row. Where no layer moves but the pooled share does, other layers are left. "
        "Bands: 95 % intervals over seeds and rows."
    )
    needs = ("reallocation",)
    place = 12
    scenario = SCENARIO

    def data(self, run: Run) -> pd.DataFrame:
        """Changes per layer of the leading market and its rivals, at the supply nearest 40 %.

        Layer -1 is here the mean over layers, every layer weighing the same.
        """
        table = run.table("reallocation")
        table = table[
            (table["layer"] != ALL_LAYERS) & (table["budget_fraction"] == scarcest(table))
        ]
        if table.empty:
            raise Missing("the run tells no layers apart")
        mechanism, policy, scope = lead_market(table)
        # Only what is drawn is resampled: deep models have many layers.
        own = (table["mechanism"] == mechanism) & (table["policy"].isin([policy, "random"]))
        chosen = table[(own & (table["scope"] == scope)) | (table["mechanism"] == "uniform")]
        found = estimates(chosen, "share", ["layer", "value"])
        if found.empty:
            raise Missing("the run holds no market that values agents")
        means = layer_means(chosen, "share", ["value"])
        mean = estimates(means, "share", ["value"]).assign(layer=ALL_LAYERS)
        both = pd.concat([found, mean], ignore_index=True)
        return both[both["quantity"].isin(["change", "gain"])].reset_index(drop=True)

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Change over layers, a line per arm."""
        values = [value for value in VALUES if value in set(data["value"])]
        canvas, axes = panels(rows=1, columns=len(values), height_in=3.4, share_y=True)
        market = tuple(data.iloc[0][["mechanism", "policy", "scope"]])
        styles = arm_styles([market[0]])
        changes = data[(data["quantity"] == "change") & (data["layer"] != ALL_LAYERS)]
        for ax, value in zip(axes.flat, values, strict=True):
            ax.axhline(0, color="#7a7a7a", linestyle="--", label="dense")
            for arm in (MARKET, *RIVALS):
                line = of_market(changes, market)
                line = line[(line["arm"] == arm) & (line["value"] == value)]
                if len(line):
                    style = styles[arm if arm != MARKET else market[0]]
                    bounds = line["mean"], line["low"], line["high"]
                    label = arm_label(market, arm)
                    draw_interval(ax, line["layer"], *bounds, label=label, **style)
            ax.set_title(VALUES[value])
            ax.set_xlabel("layer")
            ax.xaxis.get_major_locator().set_params(integer=True)
        axes[0, 0].set_ylabel(
            f"change of share, points, at {percent(data['budget_fraction'].iloc[0])} supply"
        )
        as_points(axes[0, 0].yaxis)
        legend_below(canvas, axes, columns=5)
        return canvas

    def findings(self, data: pd.DataFrame) -> list[str]:
        """The change with every layer weighing the same: closing a layer moves nothing here."""
        mean = data[data["layer"] == ALL_LAYERS].set_index(["value", "arm", "quantity"])
        supply = percent(data["budget_fraction"].iloc[0])
        sentences = [f"Every layer weighing the same, {supply} supply, points of share:"]
        for value in (value for value in VALUES if value in set(data["value"])):
            said = [f"{in_points(mean.loc[(value, MARKET, 'change')])} against dense"]
            said += [
                f"{in_points(mean.loc[(value, arm, 'gain')])} against {arm}"
                for arm in RIVALS
                if (value, arm, "gain") in mean.index
            ]
            name = VALUES[value][0].upper() + VALUES[value][1:]
            sentences.append(f"{name}: {', '.join(said)}.")
        return sentences


def scarcest(table: pd.DataFrame) -> float:
    """The budget nearest to the one that stands for scarcity."""
    return float(min(table["budget_fraction"].unique(), key=lambda b: (abs(b - SCARCE), b)))
