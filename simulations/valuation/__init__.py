"""Valuation: whether what agents bid is what the model loses without them.

See Readme.md beside this file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_economy.runs.scenario import Cell, Log, Scenario

if TYPE_CHECKING:
    import pandas as pd

    from agent_economy.runs.config import StrictModel


class Valuation(Scenario):
    """Predicted against measured change of loss; shadow prices against true losses."""

    name = "valuation"
    summary = "Is the market's value real? Bids and prices against measured losses"

    def config_type(self) -> type[StrictModel]:
        """See ``Scenario``."""
        from simulations.valuation.config import ValuationConfig

        return ValuationConfig

    def default_toml(self) -> Path:
        """MiniLM over Python's own manual."""
        return Path(__file__).with_name("minilm.toml")

    def cells(self, config: Any) -> list[Cell]:
        """Under every seed: unions of closed agents, then each policy's allocations and prices."""
        from simulations.valuation.config import check

        check(config)
        studies = [("unions", "none")] if config.unions else []
        for policy in config.policies:
            studies.append(("allocations", policy))
            studies += [("shadow_price", policy)] if config.price_budgets else []
        return [
            {
                "study": study,
                "mechanism": config.mechanism,
                "policy": policy,
                "scope": "sequence",
                "seed": seed,
            }
            for study, policy in studies
            for seed in config.seeds
        ]

    def open(self, config: Any, log: Log) -> Any:
        """Load the model and its texts."""
        from simulations.valuation.session import Session

        return Session(config, log)

    def run_cell(self, session: Any, cell: Cell) -> dict[str, pd.DataFrame]:
        """One policy's allocations or prices, or the unions, under one seed."""
        from simulations.valuation.cell import run_cell

        return run_cell(session, cell)


SCENARIO = Valuation()
