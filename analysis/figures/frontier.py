"""Score against measured FLOPs: the frontier itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure, Missing
from analysis.frontier import METRICS, scores
from analysis.frontier_names import DENSE, MARKET, in_order, label, method_styles
from analysis.lines import legend_below, panels
from analysis.style import BELOW, percent, percentages

SCENARIO = "frontier"
NEAR = 3.0
"""Points below the best score from which on a method is far behind."""


class Frontier(Figure):
    """A panel per part of the data, or two, one line per method."""

    name = "frontier"
    title = "The frontier"
    question = (
        "What does a method score at the compute that it really takes? Means over seeds; bars "
        "reach from the least to the most of the seeds. FLOPs are those measured at evaluation, "
        "padding left out and the market's own included, as a share of the dense agents'. Dashed: "
        "dense models. Close up, where there is such a panel: without points that are three or "
        "more below the best."
    )
    needs = ("metrics", "verdicts")
    place = 10
    scenario = SCENARIO

    def data(self, run: Run) -> pd.DataFrame:
        """Mean, least and most of score and FLOPs by method and budget, and the metric."""
        metrics = run.table("metrics")
        judged = run.table("verdicts")
        found = scores(metrics[metrics["part"].isin(judged["part"])])
        if found["flops"].isna().all():
            raise Missing("no cell measured its FLOPs")
        return found.assign(metric=judged["metric"].iloc[0])

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Lines with bars both ways."""
        return draw_scores(data, "flops", "measured FLOPs, % of the dense agents'")

    def findings(self, data: pd.DataFrame) -> list[str]:
        """The economy and the best rival at each budget of the first part."""
        rows = data[(data["part"] == data["part"].iloc[0]) & ~data["method"].isin(DENSE)]
        said = []
        for budget, at in sorted(rows.groupby("budget_fraction"), reverse=True):
            ours, rivals = at[at["method"] == MARKET], at[at["method"] != MARKET]
            if ours.empty or rivals.empty:
                continue
            own, best = ours.iloc[0], rivals.loc[rivals["score"].idxmax()]
            said.append(
                f"At a budget of {percent(budget)} the economy scores {_spread(own)}; of the "
                f"rivals at that budget {label(best['method'])} scores most: {_spread(best)}."
            )
        return said


def draw_scores(data: pd.DataFrame, cost: str, says: str) -> Canvas:
    """Scores over what they cost: a panel per part of the data, bars both ways.

    Where some methods fall far behind, a second panel shows closely those that do not.

    Args:
        data: part, method, metric, and ``score`` and ``cost`` with their ``_low`` and ``_high``.
        cost: the column.
        says: the axis.
    """
    parts = list(dict.fromkeys(data["part"]))
    views: list[tuple[str, tuple[float, float] | None]] = []
    for part in parts:
        close = _close(data[data["part"] == part])
        views += [(part, None)] if close is None else [(part, None), (part, close)]
    canvas, axes = panels(1, len(views), height_in=5.0, share_y=False)
    styles = method_styles(data["method"])
    for ax, (part, close) in zip(axes[0], views, strict=True):
        rows = data[data["part"] == part]
        for method in in_order(rows["method"]):
            line = rows[rows["method"] == method].sort_values(cost)
            if method in DENSE:
                dashes = {"linestyle": ":"} if method == DENSE[0] else {}
                ax.axhline(line["score"].mean(), **BELOW | dashes, label=label(method))
                continue
            x, y = line[cost].to_numpy(), line["score"].to_numpy()
            ax.errorbar(
                x,
                y,
                xerr=np.abs(line[[f"{cost}_low", f"{cost}_high"]].to_numpy().T - x),
                yerr=np.abs(line[["score_low", "score_high"]].to_numpy().T - y),
                elinewidth=1.0,
                label=label(method),
                **styles[method],
            )
        ax.set_title(part if close is None else f"{part}, close up")
        if close is not None:
            ax.set_ylim(*close)
        ax.set_xlabel(says)
        percentages(ax.xaxis)
        ax.set_xlim(left=0)
    axes[0][0].set_ylabel(METRICS.get(data["metric"].iloc[0], data["metric"].iloc[0]))
    legend_below(canvas, axes, columns=4)
    return canvas


def _close(rows: pd.DataFrame) -> tuple[float, float] | None:
    """The scores between which all points near the best one lie; None where all are near."""
    near = rows["score"] >= rows["score"].max() - NEAR
    if near.all() or not (near & ~rows["method"].isin(DENSE)).any():
        return None
    low, high = rows.loc[near, "score_low"].min(), rows.loc[near, "score_high"].max()
    room = max(0.05 * (high - low), 0.1)
    return low - room, high + room


def _spread(row: pd.Series) -> str:
    if row["seeds"] == 1:
        return f"{row['score']:.1f} (one seed)"
    return f"{row['score']:.1f} ({row['score_low']:.1f} to {row['score_high']:.1f})"
