"""Price shock: supply drops in mid-stream and recovers; who stops trading, what does not come back.

See Readme.md beside this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_economy.runs.scenario import Cell, Log, Scenario

if TYPE_CHECKING:
    from agent_economy.runs.config import StrictModel
    from agent_economy.runs.recording import Rows


class PriceShock(Scenario):
    """One stream of text under steady and under broken supply, market by market."""

    name = "price_shock"
    summary = "Supply drops and recovers: prices, losses, who stops trading, hysteresis"

    def config_type(self) -> type[StrictModel]:
        """See ``Scenario``."""
        from simulations.price_shock.config import PriceShockConfig

        return PriceShockConfig

    def default_toml(self) -> Path:
        """MiniLM over Python's own manual."""
        return Path(__file__).with_name("minilm.toml")

    def cells(self, config: Any) -> list[Cell]:
        """Every arm, with and without the shock, under every seed."""
        from simulations.price_shock.config import SCHEDULES, check_shock

        check_shock(config)
        return [
            {"arm": arm.name, "schedule": schedule, "seed": seed}
            for arm in config.arms
            for schedule in SCHEDULES
            for seed in config.seeds
        ]

    def open(self, config: Any, log: Log) -> Any:
        """Load the model and its texts."""
        from simulations.laboratory.session import Laboratory

        return Laboratory(config, log)

    def run_cell(self, session: Any, cell: Cell) -> Mapping[str, Rows]:
        """One market's way through the stream."""
        from simulations.price_shock.cell import run_cell

        return run_cell(session, cell)


SCENARIO = PriceShock()
