"""Wallets over time: who gets rich, who goes broke."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from agent_economy.runs.reader import Run
from analysis.cells import CELL, agent_names, lead_rows, one_scope, scarce
from analysis.figures.base import Figure, Missing
from analysis.lines import panels
from analysis.style import GREY, line_styles, percent, words

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MEDIAN = {"marker": "o", "markersize": 3, "markeredgewidth": 0}
RICH, POOR = "#009E73", "#D55E00"


class Wallets(Figure):
    """The spread of wallets step by step, with the richest and the poorest agent by name."""

    name = "wallets"
    title = "Wallets over time"
    question = (
        "Does wealth settle, spread or drain away? Line: the median wallet; bands: half and nine "
        "tenths of the agents. The two named agents are the richest and the poorest at the last "
        "step; ties go to the first by layer and index."
    )
    needs = ("agents",)
    place = 60

    def data(self, run: Run) -> pd.DataFrame:
        """Quantiles of the wallets per mechanism and step, and the two extreme agents' own."""
        agents = run.table("agents")
        if agents.empty:
            raise Missing("the run recorded no agents")
        agents = scarce(one_scope(lead_rows(agents)))
        agents = agents.assign(name=agent_names(agents))
        found = []
        for _, rows in agents.groupby("mechanism", sort=False):
            wallet = rows.pivot_table(index="step", columns="name", values="wallet_credits")
            names = rows.sort_values(["layer", "agent"])["name"].unique()
            last = wallet[names].iloc[-1]
            for series, values in {
                **{f"q{100 * q:02.0f}": wallet.quantile(q, axis=1) for q in QUANTILES},
                f"richest: {last.idxmax()}": wallet[last.idxmax()],
                f"poorest: {last.idxmin()}": wallet[last.idxmin()],
            }.items():
                cell = rows[CELL].iloc[0].to_dict()
                points = {"step": wallet.index, "series": series, "wallet_credits": values}
                found.append(pd.DataFrame({**points, **cell})[[*CELL, *points]])
        return pd.concat(found, ignore_index=True)

    def draw(self, data: pd.DataFrame) -> Canvas:
        """One panel per mechanism on a common scale."""
        markets = list(data.groupby("mechanism", sort=False))
        columns = min(len(markets), 3)
        rows = -(-len(markets) // columns)
        canvas, axes = panels(rows=rows, columns=columns, height_in=2.9, share_y=True)
        styles = line_styles([str(mechanism) for mechanism, _ in markets])
        for ax in axes.flat[len(markets) :]:
            ax.set_visible(False)
        for ax, (mechanism, part) in zip(axes.flat, markets, strict=False):
            line = part.pivot_table(
                index="step", columns="series", values="wallet_credits", sort=False
            )
            color = styles[mechanism]["color"]
            band = {"color": color, "linewidth": 0}
            ax.fill_between(line.index, line["q05"], line["q95"], alpha=0.15, **band)
            ax.fill_between(line.index, line["q25"], line["q75"], alpha=0.30, **band)
            ax.plot(line.index, line["q50"], color=color, **MEDIAN)
            _name_extremes(ax, line)
            ax.set_title(words(mechanism))
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            ax.set_xlabel("step (batch)")
            ax.margins(y=0.18)
        for ax in axes[:, 0]:
            ax.set_ylabel("wallet, credits")
        first = data.iloc[0]
        canvas.suptitle(
            f"{first['scope']} scope, {percent(first['budget_fraction'])} supply, "
            f"seed {first['seed']}",
            x=0.01,
            ha="left",
            fontsize=11,
        )
        _legend(canvas)
        return canvas


def _name_extremes(ax: Axes, line: pd.DataFrame) -> None:
    """Draw the richest and the poorest agent and write their names at the ends of their lines."""
    found = {column.partition(": ")[0]: column for column in line if ": " in column}
    rich, poor = (line[found[end]] for end in ("richest", "poorest"))
    if rich.iloc[-1] == poor.iloc[-1]:
        ax.text(0.5, 0.6, "all wallets equal", transform=ax.transAxes, ha="center")
        return
    for series, color, dash, up in ((rich, RICH, "-.", 1), (poor, POOR, ":", -1)):
        ax.plot(series.index, series, color=color, linestyle=dash, linewidth=1.5)
        ax.annotate(
            str(series.name).partition(": ")[2],
            (series.index[-1], series.iloc[-1]),
            xytext=(0, 4 * up),  # Away from the band between the two.
            textcoords="offset points",
            ha="right",
            va="bottom" if up > 0 else "top",
            fontsize=8.5,
            color=color,
        )


def _legend(canvas: Canvas) -> None:
    """What bands and dashes mean; colours differ by panel, so the legend is grey."""
    line = {"color": GREY, "linewidth": 0}
    handles = [
        Line2D([], [], color=GREY, **MEDIAN, label="median"),
        Patch(alpha=0.45, label="25 to 75 % of agents", **line),
        Patch(alpha=0.15, label="5 to 95 %", **line),
        Line2D([], [], color=RICH, linestyle="-.", label="richest at the end"),
        Line2D([], [], color=POOR, linestyle=":", label="poorest at the end"),
    ]
    canvas.legend(handles=handles, loc="outside lower center", ncols=5)
