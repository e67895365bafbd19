"""Score against the clock: the frontier as those see it who wait for the model."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure, Missing
from analysis.figures.frontier import SCENARIO, draw_scores
from analysis.frontier_names import MARKET
from analysis.style import percent

RATIO = "latency_ratio_vs_dense"


class FrontierLatency(Figure):
    """A panel per part of the data, or two, one line per method."""

    name = "frontier_latency"
    title = "The frontier on a clock"
    question = (
        "What does a method score in the time that it really takes? Means over seeds; bars reach "
        "from the least to the most of the seeds. Time is that of a whole forward on development "
        "rows, over the dense model's in the same rounds: static plans run compacted, per-token "
        "allocations routed. Dashed: dense models. Close up, where there is such a panel: without "
        "points that are three or more below the best."
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
        return draw_scores(data, "ratio", "measured time, % of the dense model's")

    def findings(self, data: pd.DataFrame) -> list[str]:
        """What the economy's models take at each budget, on the first part."""
        rows = data[(data["part"] == data["part"].iloc[0]) & (data["method"] == MARKET)]
        return [
            f"At a budget of {percent(row.budget_fraction)} the economy takes "
            f"{100 * row.ratio:.0f} % of the dense model's time ({1 / row.ratio:.1f} times as "
            f"fast) and scores {row.score:.1f}."
            for row in rows.sort_values("budget_fraction", ascending=False).itertuples()
        ]
