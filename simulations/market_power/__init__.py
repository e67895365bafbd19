"""Market power: agents that shade together, and agents that learn to shade, rule by rule.

See Readme.md beside this file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_economy.runs.scenario import Cell, Log, Scenario

if TYPE_CHECKING:
    import pandas as pd

    from agent_economy.runs.config import StrictModel


class MarketPower(Scenario):
    """Rents and welfare under collusion and learning; what truthfulness is worth."""

    name = "market_power"
    summary = "Agents collude or learn to shade: rents, welfare lost, what truthfulness is worth"

    def config_type(self) -> type[StrictModel]:
        """See ``Scenario``."""
        from simulations.market_power.config import MarketPowerConfig

        return MarketPowerConfig

    def default_toml(self) -> Path:
        """MiniLM's own bids."""
        return Path(__file__).with_name("minilm.toml")

    def cells(self, config: Any) -> list[Cell]:
        """Every mechanism: coalitions of every size, then agents that learn, under every seed."""
        from simulations.market_power.config import check_power

        check_power(config)
        collusion = [
            {"study": "collusion", "mechanism": mechanism, "coalition": size, "seed": seed}
            for mechanism in config.mechanisms
            for size in config.coalitions
            for seed in config.seeds
        ]
        learning = [
            {"study": "learning", "mechanism": mechanism, "coalition": 0, "seed": seed}
            for mechanism in config.mechanisms
            for seed in config.seeds
            if config.steps > 1
        ]
        return collusion + learning

    def open(self, config: Any, log: Log) -> Any:
        """Load the model and its texts."""
        from simulations.market_power.session import Session

        return Session(config, log)

    def run_cell(self, session: Any, cell: Cell) -> dict[str, pd.DataFrame]:
        """Many markets with a coalition, or one economy that learns."""
        from simulations.market_power.cell import run_cell

        return run_cell(session, cell)


SCENARIO = MarketPower()
