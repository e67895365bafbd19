"""What truthfulness is worth, in numbers."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure
from analysis.figures.shading_orders import ShadingOrders, rule
from analysis.laboratory import told
from analysis.misreports import BEST, FIXED, NOTHING
from analysis.text_table import draw_table


class ShadingOrdersTable(Figure):
    """One row per kind of market and rule of payment."""

    name = "shading_orders_table"
    title = "What truthfulness is worth: the numbers"
    question = (
        "Order: the gain from the best misreport goes as N to this power, by least squares of "
        "logarithms over all numbers of agents. Gains in % of the rent that truthful bids leave "
        "at a uniform price. One for all: the one misreport that gained most on other markets. "
        "In brackets: 95 % bootstrap intervals over markets."
    )
    needs = ("shading",)
    place = 9
    scenario = "shading"

    def data(self, run: Run) -> pd.DataFrame:
        """Those of the figure above."""
        return ShadingOrders().data(run)

    def draw(self, data: pd.DataFrame) -> Canvas:
        """The table."""
        rows = []
        keys = ["mechanism", "deviation"]
        parts = [
            (market, *key, part)
            for market, at in data.groupby("market", sort=False)
            for key, part in at.groupby(keys, sort=False)
        ]
        for market, mechanism, deviation, part in parts:
            best, fixed = (
                part[part["judged"] == judged].sort_values("agents") for judged in (BEST, FIXED)
            )
            few, many = best.iloc[0], best.iloc[-1]
            order = "none"
            if few["order"] == few["order"]:
                order = told(few["order"], few["order_low"], few["order_high"], 2)
            rows.append(
                [
                    f"{market}, {few['agents']} to {many['agents']} agents",
                    rule(mechanism, deviation, data),
                    order,
                    _percent(few),
                    _percent(many),
                    many["misreport"],
                    _percent(fixed.iloc[-1]),
                ]
            )
        head = ["market", "rule", "order in N", "gain,\nfewest", "gain,\nmost", "most often\nbest"]
        return draw_table([*head, "one for all,\nmost"], rows, named=2)


def _percent(row: pd.Series) -> str:
    """``3.8 (2.8 to 4.8)``, two digits that count; nothing where it is rounding."""
    if abs(row["value"]) < NOTHING and not abs(row["high"]) >= NOTHING:
        return "0"
    value, low, high = (_digits(100 * row[name]) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _digits(number: float) -> str:
    return f"{number:.0f}" if abs(number) >= 10 else f"{float(f'{number:.2g}'):g}"
