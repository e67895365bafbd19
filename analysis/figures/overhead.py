"""What the market itself costs on the clock."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.cells import lead_rows
from analysis.figures.base import Figure, Missing
from analysis.style import GREY, PHASE_COLOURS, WIDTH_IN, percentages, words

MARKET = ("features", "bids", "clearing", "ledger", "recording")
FORWARD = "forward"
AIM = 0.10
"""The share of a forward's time that the whole market may take."""


class Overhead(Figure):
    """Time spent on features, bids, clearing, ledger and recording beside one forward pass."""

    name = "overhead"
    title = "What the market costs"
    question = (
        "What does running the economy add to a forward pass on this machine? Bars stack the "
        "median time of each market phase, as a share of the median forward under the same "
        "mechanism; the dashed line is the aim of 10 %. Medians over batches, budgets and seeds. "
        "Clock readings differ from run to run."
    )
    needs = ("timings",)
    place = 80

    def data(self, run: Run) -> pd.DataFrame:
        """Median and quartiles of each phase per mechanism, in ms and as a share of forward."""
        timings = run.table("timings")
        timings = timings[timings["phase"].isin([*MARKET, FORWARD])]
        if timings.empty or FORWARD not in set(timings["phase"]):
            raise Missing("no clock reading of the market's phases beside a forward pass")
        timings = lead_rows(timings)
        keys = ["mechanism", "phase"]
        found = (
            timings.groupby(keys, sort=False)["milliseconds"]
            .quantile([0.25, 0.5, 0.75])
            .unstack()
            .set_axis(["low_ms", "median_ms", "high_ms"], axis=1)
            .assign(n=timings.groupby(keys).size())
            .reset_index()
        )
        forward = found[found["phase"] == FORWARD].set_index("mechanism")["median_ms"]
        found["share_of_forward"] = found["median_ms"] / found["mechanism"].map(forward)
        return found

    def draw(self, data: pd.DataFrame) -> Canvas:
        """One stacked bar per mechanism."""
        mechanisms = list(dict.fromkeys(data["mechanism"]))[::-1]
        canvas = Canvas(figsize=(WIDTH_IN, 1.7 + 0.42 * len(mechanisms)), layout="constrained")
        ax = canvas.subplots()
        ax.grid(True, axis="x")
        share = data.pivot(index="mechanism", columns="phase", values="share_of_forward")
        share = share.reindex(index=mechanisms, columns=MARKET).fillna(0.0)
        left = pd.Series(0.0, index=mechanisms)
        for phase, color in zip(MARKET, PHASE_COLOURS, strict=True):
            label = phase if data["phase"].eq(phase).any() else f"{phase} (not timed)"
            ax.barh(mechanisms, share[phase], left=left, color=color, label=label, height=0.62)
            left += share[phase]
        medians = data.pivot(index="mechanism", columns="phase", values="median_ms")
        for row, mechanism in enumerate(mechanisms):
            total = medians.loc[mechanism].drop(FORWARD).sum()
            ax.annotate(
                f"{100 * left[mechanism]:.1f} %  ({total:.2f} of "
                f"{medians.loc[mechanism, FORWARD]:.1f} ms)",
                (left[mechanism], row),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
            )
        ax.axvline(AIM, color=GREY, linestyle="--", linewidth=1.2)
        ax.set_yticks(range(len(mechanisms)), [words(name) for name in mechanisms])
        percentages(ax.xaxis)
        ax.set_xlim(0, 1.35 * max(float(left.max()), AIM))
        ax.set_xlabel("market time, % of a forward pass")
        canvas.legend(loc="outside lower center", ncols=len(MARKET))
        return canvas
