"""Pacing a stream: a long text as an online auction, priced without seeing what comes.

See Readme.md beside this file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_economy.runs.scenario import Cell, Log, Scenario

if TYPE_CHECKING:
    import pandas as pd

    from agent_economy.runs.config import StrictModel


class Pacing(Scenario):
    """Dual pacing with no sample, one sample and hindsight; regret against a stream's length."""

    name = "pacing"
    summary = "A long text as an online auction: regret of pacing with no sample, one, hindsight"

    def config_type(self) -> type[StrictModel]:
        """See ``Scenario``."""
        from simulations.pacing.config import PacingConfig

        return PacingConfig

    def default_toml(self) -> Path:
        """MiniLM's bids on Python's own manual and on WikiText-2."""
        return Path(__file__).with_name("minilm.toml")

    def cells(self, config: Any) -> list[Cell]:
        """Every order of texts, at every length, under every seed."""
        from simulations.laboratory.config import check

        check(config, "orders", "lengths")
        return [
            {"order": order, "tokens": tokens, "seed": seed}
            for order in config.orders
            for tokens in config.lengths
            for seed in config.seeds
        ]

    def open(self, config: Any, log: Log) -> Any:
        """Load the model and its texts; bids are read when a seed first needs them."""
        from simulations.pacing.session import Session

        return Session(config, log)

    def run_cell(self, session: Any, cell: Cell) -> dict[str, pd.DataFrame]:
        """Many streams of one kind and length."""
        from simulations.pacing.cell import run_cell

        return run_cell(session, cell)


SCENARIO = Pacing()
