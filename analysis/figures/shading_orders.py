"""What truthfulness is worth: the best misreport's gain against the number of agents."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FixedLocator

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure, Missing
from analysis.laboratory import told
from analysis.lines import draw_interval, legend_below, panels
from analysis.misreports import ALL_BIDS, BEST, BY_AGENT, ONE_BID, gains, orders
from analysis.style import BELOW, line_styles, percent, percentages, words

#: The axis ends here; what gains less is drawn on the edge.
_FLOOR = 1e-6
_UNIFORM = "uniform_price"
_KEYS = ["market", "mechanism", "deviation"]


class ShadingOrders(Figure):
    """One panel per kind of market, one line per rule of payment, both axes logarithmic."""

    name = "shading_orders"
    title = "What truthfulness is worth"
    question = (
        "What does the best misreport gain that an agent could choose if it knew everything, as a "
        "share of the rent that truthful bids leave it at a uniform price? It shades or overbids "
        "all its bids, withholds tokens, or caps its bids near the price. VCG by agent charges "
        "what an agent's presence costs the others; bid by bid, as the mechanism does, each "
        "(agent, token) pays as if it were alone. Bands: 95 % bootstrap intervals over markets; "
        "the lower edge stands for nothing. Grey: a gain that falls with the square of N."
    )
    needs = ("shading",)
    place = 8
    scenario = "shading"

    def data(self, run: Run) -> pd.DataFrame:
        """Gains, and the order of those in hindsight."""
        table = run.table("shading")
        if table.empty:
            raise Missing("the run drew no market")
        table = table[table["deviation"] != ONE_BID]
        found = orders(table).rename(columns={"low": "order_low", "high": "order_high"})
        return gains(table).merge(found.assign(judged=BEST), on=[*_KEYS, "judged"], how="left")

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Gains over numbers of agents."""
        data = data[data["judged"] == BEST]
        markets = list(dict.fromkeys(data["market"]))
        canvas, axes = panels(rows=1, columns=len(markets), height_in=3.4, share_y="row")
        styles = line_styles(list(dict.fromkeys(data["mechanism"])))
        for ax, market in zip(axes[0], markets, strict=True):
            part = data[data["market"] == market]
            for (mechanism, deviation), line in part.groupby(_KEYS[1:], sort=False):
                look = styles[mechanism]
                if (mechanism, deviation) in _bid_by_bid(part):
                    look = {**look, "linestyle": ":", "marker": ""}
                bounds = (line[name].clip(lower=_FLOOR) for name in ("value", "low", "high"))
                label = rule(mechanism, deviation, part)
                draw_interval(ax, line["agents"], *bounds, label=label, **look)
            self._reference(ax, part)
            ax.set_title(f"{market} markets")
            ax.set_xlabel("agents")
            ax.set_xscale("log")
            agents = sorted(part["agents"].unique())
            ax.set_xticks(agents, [str(n) for n in agents], fontsize=8)
            ax.minorticks_off()
            ax.set_yscale("log")
            ax.set_ylim(_FLOOR * 0.8, 2)
            ax.yaxis.set_major_locator(FixedLocator([10.0**power for power in range(-6, 1)]))
            ax.yaxis.set_minor_locator(FixedLocator([]))
            percentages(ax.yaxis)
        axes[0, 0].set_ylabel("gain from the best misreport,\n% of truthful rent")
        legend_below(canvas, axes, columns=5)
        return canvas

    def findings(self, data: pd.DataFrame) -> list[str]:
        """Each rule's order, and its gain among the most agents."""
        found = []
        for (market, mechanism, deviation), line in data[data["judged"] == BEST].groupby(
            _KEYS, sort=False
        ):
            what = f"{market} markets, {rule(mechanism, deviation, data)}"
            last = line.loc[line["agents"].idxmax()]
            if last["order"] != last["order"]:
                found.append(f"{what}: at most {percent(_two(last['largest']))} is ever gained.")
                continue
            order = told(last["order"], last["order_low"], last["order_high"], 2)
            value, low, high = (percent(_two(last[name])) for name in ("value", "low", "high"))
            found.append(
                f"{what}: the gain goes as N to the {order}; {value} ({low} to {high}) with "
                f"{last['agents']} agents."
            )
        return found

    @staticmethod
    def _reference(ax: Axes, part: pd.DataFrame) -> None:
        """A slope of -2 through the uniform price's line where it is best known: its middle."""
        line = part[(part["mechanism"] == _UNIFORM) & (part["value"] > _FLOOR)]
        if line.empty:
            return
        line = line.sort_values("agents")
        middle = line.iloc[len(line) // 2]
        agents = line["agents"]
        falling = middle["value"] * (agents / middle["agents"]) ** -2.0
        ax.plot(agents, falling, label="as N⁻²", linewidth=1.2, **BELOW)


def rule(mechanism: str, deviation: str, data: pd.DataFrame) -> str:
    """What a reader calls a rule of payment."""
    if deviation == BY_AGENT:
        return "VCG, by agent"
    return "VCG, bid by bid" if (mechanism, deviation) in _bid_by_bid(data) else words(mechanism)


def _bid_by_bid(data: pd.DataFrame) -> set[tuple[str, str]]:
    """Truthful mechanisms as they charge: there is another way to charge beside it."""
    return {(name, ALL_BIDS) for name in data.loc[data["deviation"] == BY_AGENT, "mechanism"]}


def _two(value: float) -> float:
    """Two digits that count."""
    return float(f"{value:.2g}")
