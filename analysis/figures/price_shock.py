"""A supply shock step by step: prices, losses, how many trade."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure, Missing
from analysis.laboratory import colours
from analysis.lines import legend_below, panels
from analysis.price_shock import DURING, SHOCK, STEADY, by_step
from analysis.style import GREY

_QUANTITIES = {
    "price_per_gflop": "price, credits per GFLOP",
    "loss": "loss against dense",
    "trading_agents": "agents that trade",
    "gini_wealth": "Gini of wallets",
}


class PriceShock(Figure):
    """One panel per quantity, one line per market."""

    name = "price_shock"
    title = "A supply shock"
    question = (
        "How fast do prices settle, what is lost, who stops trading, and what does not come back? "
        "Solid: supply is short in the shaded steps; dotted: the same stream under steady supply. "
        "Means over seeds."
    )
    needs = ("shock_steps",)
    place = 10
    scenario = "price_shock"

    def data(self, run: Run) -> pd.DataFrame:
        """Means over seeds of every quantity, arm, schedule and step."""
        table = run.table("shock_steps")
        if table.empty:
            raise Missing("the run recorded no step")
        steps = by_step(table)
        mean = steps.groupby(["arm", "schedule", "step", "phase"], sort=False)[[*_QUANTITIES]]
        return (
            mean.mean()
            .reset_index()
            .melt(["arm", "schedule", "step", "phase"], var_name="quantity", value_name="mean")
        )

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Four panels over one time axis."""
        canvas, axes = panels(rows=2, columns=2, height_in=2.7)
        colour = colours(data["arm"])
        during = data.loc[data["phase"] == DURING, "step"]
        for ax, (quantity, label) in zip(axes.flat, _QUANTITIES.items(), strict=True):
            part = data[data["quantity"] == quantity]
            ax.axvspan(during.min() - 0.5, during.max() + 0.5, color=GREY, alpha=0.12, linewidth=0)
            for (arm, schedule), line in part.groupby(["arm", "schedule"], sort=False):
                look = colour[arm]
                if schedule == STEADY:
                    ax.plot(line["step"], line["mean"], color=look, linestyle=":", linewidth=1.1)
                else:
                    ax.plot(line["step"], line["mean"], color=look, label=arm)
            ax.set_ylabel(label)
            ax.set_ylim(bottom=0)
        for ax in axes[-1]:
            ax.set_xlabel("step (batch)")
        legend_below(canvas, axes, columns=5)
        return canvas

    def findings(self, data: pd.DataFrame) -> list[str]:
        """The dearest short step against the last step before it, for each arm."""
        found = []
        at = data[(data["schedule"] == SHOCK) & (data["quantity"] == "price_per_gflop")]
        for arm, line in at.groupby("arm", sort=False):
            short = line["phase"] == DURING
            before = line.loc[line["step"] < line.loc[short, "step"].min(), "mean"].iloc[-1]
            if before > 0:
                ratio = line.loc[short, "mean"].iloc[-1] / before
                found.append(f"{arm}: short supply ends at {ratio:.2f} times the price before it.")
        return found
