"""Endowments: the same money dealt out equally or not, under several rules of income.

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


class Endowments(Scenario):
    """Wallets dealt out by rule or by lot; does inequality hurt the model?"""

    name = "endowments"
    summary = "Equal and unequal wallets, rules of income: does inequality hurt the model?"

    def config_type(self) -> type[StrictModel]:
        """See ``Scenario``."""
        from simulations.endowments.config import EndowmentsConfig

        return EndowmentsConfig

    def default_toml(self) -> Path:
        """MiniLM over Python's own manual."""
        return Path(__file__).with_name("minilm.toml")

    def cells(self, config: Any) -> list[Cell]:
        """Every way to deal out wallets, with every rule of income, under every seed."""
        from simulations.endowments.config import check_endowments

        check_endowments(config)
        return [
            {"endowment": endowment, "income": income.name, "seed": seed}
            for endowment in config.endowments
            for income in config.incomes
            for seed in config.seeds
        ]

    def open(self, config: Any, log: Log) -> Any:
        """Load the model and its texts."""
        from simulations.laboratory.session import Laboratory

        return Laboratory(config, log)

    def run_cell(self, session: Any, cell: Cell) -> Mapping[str, Rows]:
        """One economy's way through the stream."""
        from simulations.endowments.cell import run_cell

        return run_cell(session, cell)


SCENARIO = Endowments()
