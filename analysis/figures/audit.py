"""What agents are worth, and what they declared and paid: one point per agent."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.contribution import means
from analysis.figures.base import Figure, Missing
from analysis.lines import legend_below, panels
from analysis.style import BLOCK, HEAD

_SHOWN = {"declared": "declared value", "payment": "payment", "income": "wages"}


class Audit(Figure):
    """One row per policy, one column per quantity."""

    name = "audit"
    title = "Contribution audit"
    question = (
        "Does the market pay, and charge, those without whom the model loses? One point per agent, "
        "means over texts: its Shapley value (loss that it prevents, over random orders of "
        "arrival) against the credits per text that it declared, paid and earned."
    )
    needs = ("audit",)
    place = 10
    scenario = "contribution_audit"

    def data(self, run: Run) -> pd.DataFrame:
        """Means per agent and policy."""
        found = means(run.table("audit"))
        if found.empty or found["shapley"].isna().all():
            raise Missing("the run measured no Shapley value or no market")
        return found

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Scatter plots."""
        policies = list(dict.fromkeys(data["policy"]))
        canvas, axes = panels(rows=len(policies), columns=len(_SHOWN), height_in=2.6)
        for row, policy in enumerate(policies):
            for ax, (quantity, label) in zip(axes[row], _SHOWN.items(), strict=True):
                for kind, colour in (("head", HEAD), ("block", BLOCK)):
                    part = data[(data["policy"] == policy) & (data["kind"] == kind)]
                    look = {"color": colour, "s": 14, "alpha": 0.8, "linewidth": 0}
                    ax.scatter(part["shapley"], part[quantity], label=f"{kind}s", **look)
                ax.set_xlabel("Shapley value, loss prevented")
                ax.set_ylabel(f"{label}, {policy}")
        legend_below(canvas, axes)
        return canvas
