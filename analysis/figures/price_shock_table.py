"""A supply shock in numbers."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.figures.base import Figure, Missing
from analysis.laboratory import told
from analysis.price_shock import by_step, verdicts
from analysis.text_table import draw_table

_HEADS = {
    "settles_shock": "steps to\nsettle,\ndrop",
    "settles_recovery": "steps to\nsettle,\nrecovery",
    "extra_during": "extra loss,\nduring",
    "extra_after": "extra loss,\nafter",
    "hysteresis": "hysteresis",
    "stopped": "agents\nthat stop\ntrading",
    "stayed_out": "that\nstay out",
    "bankrupt": "bankrupt\nbeyond\nsteady",
}
_DIGITS = {"extra_during": 3, "extra_after": 3, "hysteresis": 3}


class PriceShockTable(Figure):
    """One row per market."""

    name = "price_shock_table"
    title = "A supply shock: the numbers"
    question = (
        "Settling: steps until the price, relative to the clairvoyant's on the same batch, stays "
        "within 10 % of where it ends. Extra loss: beyond the clairvoyant's in the same steps. "
        "Hysteresis: loss after the shock less the loss of the same steps without one. In "
        "brackets: 95 % bootstrap intervals over seeds and steps; counts over seeds."
    )
    needs = ("shock_steps", "shock_agents")
    place = 11
    scenario = "price_shock"

    def data(self, run: Run) -> pd.DataFrame:
        """Every measure of every arm."""
        steps, agents = run.table("shock_steps"), run.table("shock_agents")
        if steps.empty:
            raise Missing("the run recorded no step")
        return verdicts(by_step(steps), agents)

    def draw(self, data: pd.DataFrame) -> Canvas:
        """The table."""
        cells = {(row.arm, row.measure): _told(row) for row in data.itertuples()}
        rows = [
            [arm, *(cells.get((arm, measure), "") for measure in _HEADS)]
            for arm in dict.fromkeys(data["arm"])
        ]
        return draw_table(["market", *_HEADS.values()], rows)


def _told(row: tuple) -> str:
    return told(row.mean, row.low, row.high, _DIGITS.get(row.measure, 1))
