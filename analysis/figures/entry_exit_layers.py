"""Where the survivors are, and where pruning looks."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.entry_exit import KEYS, SURVIVORS, by_layer
from analysis.figures.base import Figure, Missing
from analysis.laboratory import colours
from analysis.lines import legend_below, panels
from analysis.style import percent, percentages

#: An economy that keeps this share of its agents has no structure to speak of.
_HARDLY = 0.95


class EntryExitLayers(Figure):
    """One column per supply and rule of income, heads above, blocks below."""

    name = "entry_exit_layers"
    title = "Who survives"
    question = (
        "Which layers keep their agents? The share of each layer's heads (above) and blocks "
        "(below) that is left in business, and that masks of the same cost keep. Means over seeds, "
        "under the first rule of entry; economies that lost hardly anybody are left out."
    )
    needs = ("entry_agents",)
    place = 11
    scenario = "entry_exit"

    def data(self, run: Run) -> pd.DataFrame:
        """Shares by layer."""
        table = run.table("entry_agents")
        if table.empty:
            raise Missing("the run judged no structure")
        return by_layer(table[table["entry"] == table["entry"].iloc[0]])

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Lines over layers."""
        kept = data[data["structure"] == SURVIVORS].groupby(KEYS, sort=False)["kept"].mean()
        economies = list(kept[kept < _HARDLY].index) or list(kept.index)
        canvas, axes = panels(rows=2, columns=len(economies), height_in=2.1, share_y=True)
        colour = colours(data["structure"])
        for column, (supply, income, entry) in enumerate(economies):
            at = (data["supply"] == supply) & (data["income"] == income) & (data["entry"] == entry)
            for row, kind in enumerate(("head", "block")):
                ax, part = axes[row, column], data[at & (data["kind"] == kind)]
                for structure, line in part.groupby("structure", sort=False):
                    own = structure == SURVIVORS
                    look = {"color": colour[structure], "linewidth": 2.2 if own else 1.3}
                    look["linestyle"] = "-" if own else "--"
                    label = structure.replace("_", " ")
                    ax.plot(line["layer"] + 1, line["kept"], label=label, **look)
                ax.set_ylim(-0.03, 1.03)
                ax.set_xticks(sorted(part["layer"].unique() + 1))
                percentages(ax.yaxis)
                if column == 0:
                    ax.set_ylabel(f"{kind}s kept")
            axes[0, column].set_title(f"{percent(supply)}, {income}")
            axes[1, column].set_xlabel("layer")
        legend_below(canvas, axes, columns=4)
        return canvas
