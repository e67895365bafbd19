"""Mechanism race: every way to clear the market on the same model, bids and supply.

See Readme.md beside this file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_economy.runs.scenario import Cell, Log, Scenario

if TYPE_CHECKING:
    import pandas as pd

    from agent_economy.runs.config import StrictModel


class MechanismRace(Scenario):
    """Utility, welfare, revenue, efficiency, fairness, stability and time of every mechanism."""

    name = "mechanism_race"
    summary = "Every mechanism on the same bids: utility, welfare, revenue, fairness, time"

    def config_type(self) -> type[StrictModel]:
        """See ``Scenario``."""
        from simulations.mechanism_race.config import RaceConfig

        return RaceConfig

    def default_toml(self) -> Path:
        """MiniLM over Python's own manual."""
        return Path(__file__).with_name("minilm.toml")

    def cells(self, config: Any) -> list[Cell]:
        """Every market under every seed."""
        from simulations.mechanism_race.config import check_race

        check_race(config)
        return [
            {"mechanism": market.name, "scope": market.scope, "seed": seed}
            for market in config.markets
            for seed in config.seeds
        ]

    def open(self, config: Any, log: Log) -> Any:
        """Load the model and its texts."""
        from simulations.laboratory.session import Laboratory

        return Laboratory(config, log)

    def run_cell(self, session: Any, cell: Cell) -> dict[str, pd.DataFrame]:
        """One market's way through the stream."""
        from simulations.mechanism_race.cell import run_cell

        return run_cell(session, cell)


SCENARIO = MechanismRace()
