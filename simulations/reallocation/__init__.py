"""Reallocation: does scarcity move a frozen model's attention to valuable tokens?

See Readme.md beside this file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_economy.runs.scenario import Cell, Log, Scenario

if TYPE_CHECKING:
    import pandas as pd

    from agent_economy.runs.config import StrictModel


class Reallocation(Scenario):
    """Attention on the top fifth of tokens: dense, scarce, and random at the same spend."""

    name = "reallocation"
    summary = "Does scarcity move attention to valuable tokens? Dense, scarce and random compared"

    def config_type(self) -> type[StrictModel]:
        """See ``Scenario``."""
        from simulations.reallocation.config import ReallocationConfig

        return ReallocationConfig

    def default_toml(self) -> Path:
        """MiniLM over Python's own manual."""
        return Path(__file__).with_name("minilm.toml")

    def cells(self, config: Any) -> list[Cell]:
        """Every market and policy, at every supply, under every seed."""
        from simulations.reallocation.checks import check

        check(config)
        return [
            {
                "mechanism": market.mechanism,
                "policy": policy,
                "scope": market.scope,
                "budget_fraction": budget,
                "seed": seed,
            }
            for market in config.markets
            for policy in market.policies
            for budget in config.budgets
            for seed in config.seeds
        ]

    def open(self, config: Any, log: Log) -> Any:
        """Load the model and its texts, run them densely, value their tokens."""
        from simulations.reallocation.session import Session

        return Session(config, log)

    def run_cell(self, session: Any, cell: Cell) -> dict[str, pd.DataFrame]:
        """Run the rows through one market, and through a random mask of the same spend."""
        from simulations.reallocation.cell import run_cell

        return run_cell(session, cell)

    def finish(self, session: Any) -> dict[str, pd.DataFrame]:
        """What the dense model did with every row, where the utility is taken of rows."""
        from simulations.reallocation.cell import dense_examples

        return dense_examples(session)


SCENARIO = Reallocation()
