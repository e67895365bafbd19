"""What an agent gains by bidding below value, against how many agents there are."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FixedLocator

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure, Missing
from analysis.fits import whiskers
from analysis.lines import legend_below, panels
from analysis.misreports import ALL_BIDS, BEST, BY_AGENT, FIXED, ONE_BID, SHADE, gains
from analysis.style import line_styles, percent, percentages, words

_LABELS = {
    ALL_BIDS: "",
    ONE_BID: ", one bid alone",
    BY_AGENT: ", charged by agent",
}
_FLOOR = 1e-4


class Shading(Figure):
    """One column per kind of market; with hindsight above, with one factor for all below."""

    name = "shading"
    title = "What shading gains"
    question = (
        "Does it pay to bid below value? One agent multiplies all its bids by a factor, everybody "
        "else is truthful; the gain in rent (value served less payment) as a share of what the "
        "agent's truthful bids leave it at a uniform price. Above: the best factor for each "
        "market, known in hindsight. Below: one factor for all markets, chosen on other draws "
        "than it is judged on. VCG charges every (agent, token) bid as if it were alone: one bid "
        "misreported alone gains nothing, nor would an agent charged for its presence as a whole; "
        "shading all bids at once does gain where agents are few. Bars: 95 % bootstrap intervals "
        "over markets; linear below 0.01 %."
    )
    needs = ("shading",)
    place = 10
    scenario = "shading"

    def data(self, run: Run) -> pd.DataFrame:
        """Relative gains with intervals."""
        table = run.table("shading")
        if table.empty:
            raise Missing("the run drew no market")
        return gains(table[table["family"] == SHADE]).drop(columns="misreport")

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Gains over numbers of agents."""
        markets = list(dict.fromkeys(data["market"]))
        canvas, axes = panels(rows=2, columns=len(markets), height_in=3.0, share_y="row")
        styles = line_styles(list(dict.fromkeys(data["mechanism"])))
        for (row, judged), (column, market) in (
            (one, other) for one in enumerate((BEST, FIXED)) for other in enumerate(markets)
        ):
            ax = axes[row, column]
            part = data[(data["market"] == market) & (data["judged"] == judged)]
            for (mechanism, deviation), line in part.groupby(
                ["mechanism", "deviation"], sort=False
            ):
                line = line.sort_values("agents")
                label = words(mechanism) + _LABELS[deviation]
                if deviation == ALL_BIDS:
                    bounds = line["value"], line["low"].fillna(line["value"]), line["high"]
                    whiskers(ax, line["agents"], *bounds, label=label, **styles[mechanism])
                    continue
                look = "dotted" if deviation == ONE_BID else "dashed"
                colour = styles[mechanism]["color"]
                ax.plot(line["agents"], line["value"], color=colour, linestyle=look, label=label)
            ax.set_xscale("log")
            agents = sorted(part["agents"].unique())
            ax.set_xticks(agents, [str(n) for n in agents], fontsize=8)
            ax.minorticks_off()
            ax.set_yscale("symlog", linthresh=_FLOOR)
            # One factor for all can lose, too.
            losses = [-(10.0**power) for power in range(-4, 0)] if judged == FIXED else []
            ax.set_ylim(-0.3 if losses else -_FLOOR / 4, 1.6)
            ticks = [*losses, 0, *(10.0**power for power in range(-4, 1))]
            ax.yaxis.set_major_locator(FixedLocator(ticks))
            ax.yaxis.set_minor_locator(FixedLocator([]))
            percentages(ax.yaxis)
            ax.set_title(f"{market} markets" if row == 0 else "")
            if row:
                ax.set_xlabel("agents")
        axes[0, 0].set_ylabel("gain, % of truthful rent,\nbest factor in hindsight")
        axes[1, 0].set_ylabel("gain, % of truthful rent,\none factor for all")
        legend_below(canvas, axes, columns=3)
        return canvas

    def findings(self, data: pd.DataFrame) -> list[str]:
        """Few agents against many, for each mechanism, in the first kind of market."""
        market = data["market"].iloc[0]
        part = data[(data["market"] == market) & (data["judged"] == BEST)]
        found = []
        for (mechanism, deviation), line in part.groupby(["mechanism", "deviation"], sort=False):
            line = line.sort_values("agents")
            ends = [line.iloc[0], line.iloc[-1]]
            told = " and ".join(
                f"{percent(round(end['value'], 5))} ({percent(round(end['low'], 5))} to "
                f"{percent(round(end['high'], 5))}) with {end['agents']}"
                for end in ends
            )
            what = words(mechanism) + _LABELS[deviation]
            found.append(f"{market} markets, {what}: shading gains {told} agents.")
        return found
