"""Cap and trade: agents are endowed with permits to compute and trade them among themselves.

See Readme.md beside this file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_economy.runs.scenario import Cell, Log, Scenario

if TYPE_CHECKING:
    import pandas as pd

    from agent_economy.runs.config import StrictModel


class CapAndTrade(Scenario):
    """Permits dealt out by a rule, bilateral contracts, and the network that they make."""

    name = "cap_and_trade"
    summary = "Permits to compute, traded between agents: who pays whom, and what goes round"

    def config_type(self) -> type[StrictModel]:
        """See ``Scenario``."""
        from simulations.cap_and_trade.config import CapAndTradeConfig

        return CapAndTradeConfig

    def default_toml(self) -> Path:
        """MiniLM over Python's own manual."""
        return Path(__file__).with_name("minilm.toml")

    def cells(self, config: Any) -> list[Cell]:
        """Every rule, with every purse, under every seed."""
        from simulations.laboratory.config import check

        check(config, "rules", "purses")
        return [
            {"rule": rule, "purse": purse, "seed": seed}
            for rule in config.rules
            for purse in config.purses
            for seed in config.seeds
        ]

    def open(self, config: Any, log: Log) -> Any:
        """Load the model and its texts."""
        from simulations.cap_and_trade.cell import checked
        from simulations.laboratory.session import Laboratory

        return checked(Laboratory(config, log))

    def run_cell(self, session: Any, cell: Cell) -> dict[str, pd.DataFrame]:
        """One way to deal out permits, and what the agents make of it."""
        from simulations.cap_and_trade.cell import run_cell

        return run_cell(session, cell)


SCENARIO = CapAndTrade()
