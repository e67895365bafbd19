"""Shading: what an agent gains by not bidding its values, and how that dies with numbers.

See Readme.md beside this file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_economy.runs.scenario import Cell, Log, Scenario

if TYPE_CHECKING:
    import pandas as pd

    from agent_economy.runs.config import StrictModel


class Shading(Scenario):
    """One agent misreports its bids, the others bid their values."""

    name = "shading"
    summary = "What truthfulness is worth: the best misreport's gain against how many agents"

    def config_type(self) -> type[StrictModel]:
        """See ``Scenario``."""
        from simulations.shading.config import ShadingConfig

        return ShadingConfig

    def default_toml(self) -> Path:
        """Synthetic markets, and MiniLM's own bids."""
        return Path(__file__).with_name("minilm.toml")

    def cells(self, config: Any) -> list[Cell]:
        """Every mechanism on every kind of market, at every number of agents, under every seed."""
        from simulations.shading.config import check

        check(config)
        return [
            {"mechanism": mechanism, "market": market, "agents": agents, "seed": seed}
            for mechanism in config.mechanisms
            for market in config.markets
            for agents in config.counts(market)
            for seed in config.seeds
        ]

    def open(self, config: Any, log: Log) -> Any:
        """Load the model whose bids are taken, if any are."""
        from simulations.shading.session import Session

        return Session(config, log)

    def run_cell(self, session: Any, cell: Cell) -> dict[str, pd.DataFrame]:
        """Many markets of one kind."""
        from simulations.shading.cell import run_cell

        return run_cell(session, cell)


SCENARIO = Shading()
