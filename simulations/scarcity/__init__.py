"""Scarcity: what a frozen model keeps when compute runs short, and who gets what is left.

See Readme.md beside this file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_economy.runs.scenario import Cell, Log, Scenario

if TYPE_CHECKING:
    import pandas as pd

    from agent_economy.runs.config import StrictModel


class Scarcity(Scenario):
    """Supply falls from all to a tenth; mechanisms and policies compete."""

    name = "scarcity"
    summary = "A frozen model under falling supply: utility, prices, welfare, inequality"

    def config_type(self) -> type[StrictModel]:
        """See ``Scenario``."""
        from simulations.scarcity.config import ScarcityConfig

        return ScarcityConfig

    def default_toml(self) -> Path:
        """MiniLM over Python's own manual."""
        return Path(__file__).with_name("minilm.toml")

    def cells(self, config: Any) -> list[Cell]:
        """Every market and policy, then every static mask, at every supply, under every seed."""
        from simulations.scarcity.checks import check
        from simulations.scarcity.config import STATIC_MASK

        check(config)
        masks = [
            {
                "mechanism": STATIC_MASK,
                "policy": rival.name,
                "scope": "",
                "timing": "",
                "budget_fraction": budget,
                "seed": seed,
            }
            for rival in config.rivals
            for budget in config.budgets
            for seed in config.seeds
        ]
        markets = [
            {
                "mechanism": market.mechanism,
                "policy": policy,
                "scope": market.scope,
                "timing": market.timing,
                "budget_fraction": budget,
                "seed": seed,
            }
            for market in config.markets
            for policy in market.policies
            for budget in config.budgets
            for seed in config.seeds
        ]
        return markets + masks

    def open(self, config: Any, log: Log) -> Any:
        """Load the model and its texts."""
        from simulations.scarcity.session import Session

        return Session(config, log)

    def run_cell(self, session: Any, cell: Cell) -> dict[str, pd.DataFrame]:
        """Run one cell's batches and the showcase sentence."""
        from simulations.scarcity.cell import run_cell

        return run_cell(session, cell)

    def finish(self, session: Any) -> dict[str, pd.DataFrame]:
        """What the dense model did with every example, where the utility is taken of examples."""
        from simulations.scarcity.cell import dense_examples

        return dense_examples(session)


SCENARIO = Scarcity()
