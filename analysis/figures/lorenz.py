"""Lorenz curves of wealth, allocation and attention."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.cells import lead_rows, one_scope, scarce, showcase
from analysis.figures.base import Figure, Missing
from analysis.inequality import gini, lorenz
from analysis.style import BELOW, WIDTH_IN, line_styles, percent, percentages, words

HOLDINGS = {
    "wealth": "wallets at the last step",
    "allocation": "tokens served, over all steps",
    "attention": "attention received",
}


class Lorenz(Figure):
    """How unequal the economy is: wealth and allocation over agents, attention over tokens."""

    name = "lorenz"
    title = "Inequality"
    question = (
        "Who holds how much? The further a curve sags under the dashed line of equality, the more "
        "the few hold; the Gini coefficient is twice the area between the two (0: all hold the "
        "same, near 1: one holds everything). Wealth and allocation are over agents, per "
        "mechanism; attention is over the tokens of the showcase sentence, dense against scarce."
    )
    needs = ("agents",)
    place = 50

    def data(self, run: Run) -> pd.DataFrame:
        """The points of every curve and its Gini coefficient, at one scarce budget."""
        agents = run.table("agents")
        if agents.empty:
            raise Missing("the run recorded no agents")
        agents = scarce(one_scope(lead_rows(agents)))
        curves = []
        budget = float(agents["budget_fraction"].iloc[0])
        for mechanism, rows in agents.groupby("mechanism", sort=False):
            last = rows[rows["step"] == rows["step"].max()]
            served = rows.groupby(["layer", "agent"])["served_fraction"].mean()
            curves.append(_curve("wealth", mechanism, budget, last["wallet_credits"]))
            curves.append(_curve("allocation", mechanism, budget, served))
        if "attention" in run.tables:
            attention = run.table("attention")
            for setting in ("dense", "scarce"):
                rows = attention[attention["setting"] == setting]
                if len(rows):
                    rows = showcase(rows)
                    received = rows.groupby("key")["attention"].sum()
                    budget = float(rows["budget_fraction"].iloc[0])
                    curves.append(_curve("attention", setting, budget, received))
        return pd.concat(curves, ignore_index=True)

    def draw(self, data: pd.DataFrame) -> Canvas:
        """One panel per kind of holding, each curve's Gini coefficient in its legend."""
        kinds = list(data.groupby("holding", sort=False))
        order = [kind for kind in HOLDINGS if kind in dict(kinds)]
        longest = max(part["series"].nunique() for _, part in kinds)
        # Legends get axes of their own: under the panels, aligned with them.
        heights = [3.0, 0.2 + 0.2 * longest]
        canvas = Canvas(figsize=(WIDTH_IN, sum(heights) + 0.9), layout="constrained")
        axes = canvas.subplots(2, len(order), squeeze=False, sharey="row", height_ratios=heights)
        markets = line_styles(list(data.loc[data["holding"] != "attention", "series"]))
        settings = line_styles(["dense", "scarce"])
        for ax, below, kind in zip(*axes, order, strict=True):
            part = data[data["holding"] == kind]
            ax.plot([0, 1], [0, 1], **BELOW)
            for series, line in part.groupby("series", sort=False):
                style = {**markets, **settings}[series]
                points = max(len(line) // 8, 1)
                label = f"{words(series)}: {line['gini'].iloc[0]:.3f}"
                ax.plot(line["population"], line["held"], markevery=points, label=label, **style)
            members = "tokens" if kind == "attention" else "agents"
            budget = percent(part["budget_fraction"].iloc[-1])
            ax.set_title(f"{kind}, {budget} supply")
            ax.set_xlabel(f"poorest share of {members}")
            ax.grid(True)
            for axis in (ax.xaxis, ax.yaxis):
                percentages(axis)
            below.axis("off")
            legend = below.legend(
                *ax.get_legend_handles_labels(),
                title=f"Gini of {HOLDINGS[kind]}",
                title_fontsize=9,
                alignment="left",
                loc="upper left",
                borderaxespad=0,
            )
            legend.set_in_layout(False)  # A wide legend must not push the panels apart.
        axes[0, 0].set_ylabel("share held")
        return canvas


def _curve(holding: str, series: str, budget: float, values: pd.Series) -> pd.DataFrame:
    """One Lorenz curve as rows; a debt counts as holding nothing."""
    values = values.clip(lower=0)
    population, held = lorenz(values)
    return pd.DataFrame(
        {
            "holding": holding,
            "series": series,
            "budget_fraction": budget,
            "gini": gini(values),
            "population": population,
            "held": held,
        }
    )
