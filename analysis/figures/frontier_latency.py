"""Score against the clock: the frontier as those see it who wait for the model."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure, Missing
from analysis.figures.frontier import SCENARIO
from analysis.frontier import METRICS
from analysis.frontier_names import DENSE, MARKET, in_order, label, method_styles
from analysis.lines import legend_below, panels
from analysis.style import BELOW, percent, percentages

RATIO = "latency_ratio_vs_dense"


class FrontierLatency(Figure):
    """One panel per part of the data, one line per method."""

    name = "frontier_latency"
    title = "The frontier on a clock"
    question = (
        "What does a method score in the time that it really takes? Means over seeds; bars reach "
        "from the least to the most of the seeds. Time is that of a whole forward on development "
        "rows, over the dense model's in the same rounds: static plans run compacted, per-token "
        "allocations routed. Dashed: dense models."
    )
    needs = ("metrics", "verdicts", "timings")
    place = 11
    scenario = SCENARIO

    def data(self, run: Run) -> pd.DataFrame:
        """Mean, least and most of score and time by method and budget, of timed cells."""
        cell = ["method", "budget_fraction", "seed"]
        metrics, judged, timings = (run.table(name) for name in self.needs)
        clock = timings[timings["measure"] == RATIO].set_index(cell)["value"].rename("ratio")
        scored = metrics[
            (metrics["measure"] == "score") & metrics["part"].isin(judged["part"])
        ].rename(columns={"value": "score"})
        both = scored.join(clock, on=cell, how="inner")
        if both.empty:
            raise Missing(
                "no cell was timed; `python -m benchmarks.frontiers FOLDER --time` does that"
            )
        both["score"] *= 100
        keys = ["part", "method", "budget_fraction"]
        found = both.groupby(keys, sort=False).agg(
            score=("score", "mean"),
            score_low=("score", "min"),
            score_high=("score", "max"),
            ratio=("ratio", "mean"),
            ratio_low=("ratio", "min"),
            ratio_high=("ratio", "max"),
            seeds=("seed", "nunique"),
        )
        return found.reset_index().assign(metric=judged["metric"].iloc[0])

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Lines with bars both ways."""
        parts = list(dict.fromkeys(data["part"]))
        canvas, axes = panels(1, len(parts), height_in=5.0, share_y=False)
        styles = method_styles(data["method"])
        for ax, part in zip(axes[0], parts, strict=True):
            rows = data[data["part"] == part]
            for method in in_order(rows["method"]):
                line = rows[rows["method"] == method].sort_values("ratio")
                if method in DENSE:
                    dashes = {"linestyle": ":"} if method == DENSE[0] else {}
                    ax.axhline(line["score"].mean(), **BELOW | dashes, label=label(method))
                    continue
                x, y = line["ratio"].to_numpy(), line["score"].to_numpy()
                ax.errorbar(
                    x,
                    y,
                    xerr=np.abs(line[["ratio_low", "ratio_high"]].to_numpy().T - x),
                    yerr=np.abs(line[["score_low", "score_high"]].to_numpy().T - y),
                    elinewidth=1.0,
                    label=label(method),
                    **styles[method],
                )
            ax.set_title(part)
            ax.set_xlabel("measured time, % of the dense model's")
            percentages(ax.xaxis)
            ax.set_xlim(left=0)
        axes[0][0].set_ylabel(METRICS.get(data["metric"].iloc[0], data["metric"].iloc[0]))
        legend_below(canvas, axes, columns=4)
        return canvas

    def findings(self, data: pd.DataFrame) -> list[str]:
        """What the economy's models take at each budget, on the first part."""
        rows = data[(data["part"] == data["part"].iloc[0]) & (data["method"] == MARKET)]
        return [
            f"At a budget of {percent(row.budget_fraction)} the economy takes "
            f"{100 * row.ratio:.0f} % of the dense model's time ({1 / row.ratio:.1f} times as "
            f"fast) and scores {row.score:.1f}."
            for row in rows.sort_values("budget_fraction", ascending=False).itertuples()
        ]
