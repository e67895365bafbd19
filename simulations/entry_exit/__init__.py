"""Entry and exit: agents that cannot pay leave, entrants come back; what is left is a structure.

See Readme.md beside this file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_economy.runs.scenario import Cell, Log, Scenario

if TYPE_CHECKING:
    import pandas as pd

    from agent_economy.runs.config import StrictModel


class EntryExit(Scenario):
    """The structure that survives a market against the one that pruning picks."""

    name = "entry_exit"
    summary = "Bankruptcy as pruning: who survives, against masks of the same cost"

    def config_type(self) -> type[StrictModel]:
        """See ``Scenario``."""
        from simulations.entry_exit.config import EntryExitConfig

        return EntryExitConfig

    def default_toml(self) -> Path:
        """MiniLM over Python's own manual."""
        return Path(__file__).with_name("minilm.toml")

    def cells(self, config: Any) -> list[Cell]:
        """Every supply and rule of income, with and without entrants, under every seed."""
        from simulations.entry_exit.config import check_entry

        check_entry(config)
        return [
            {"supply": supply, "income": income.name, "entry": entry, "seed": seed}
            for supply in config.supplies
            for income in config.incomes
            for entry in config.entries
            for seed in config.seeds
        ]

    def open(self, config: Any, log: Log) -> Any:
        """Load the model and its texts."""
        from simulations.laboratory.session import Laboratory

        return Laboratory(config, log)

    def run_cell(self, session: Any, cell: Cell) -> dict[str, pd.DataFrame]:
        """One economy's way through the stream, and what is left of it."""
        from simulations.entry_exit.cell import run_cell

        return run_cell(session, cell)


SCENARIO = EntryExit()
