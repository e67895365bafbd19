"""Contribution audit: what agents are worth to the model against what the market made of them.

See Readme.md beside this file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_economy.runs.scenario import Cell, Log, Scenario

if TYPE_CHECKING:
    import pandas as pd

    from agent_economy.runs.config import StrictModel


class ContributionAudit(Scenario):
    """Leave-one-out and Shapley values beside bids, payments, rents and incomes."""

    name = "contribution_audit"
    summary = "Leave-one-out, Shapley values and ratings of agents against what the market paid"

    def config_type(self) -> type[StrictModel]:
        """See ``Scenario``."""
        from simulations.contribution_audit.config import AuditConfig

        return AuditConfig

    def default_toml(self) -> Path:
        """MiniLM over Python's own manual."""
        return Path(__file__).with_name("minilm.toml")

    def cells(self, config: Any) -> list[Cell]:
        """Under every seed: leave-one-out, rounds of random orders, the market of each policy."""
        from simulations.contribution_audit.config import check_audit

        check_audit(config)
        studies = [
            ("leave_one_out", "", 0),
            *(("shapley", "", number) for number in range(config.rounds)),
            *(("market", policy, 0) for policy in config.policies),
        ]
        return [
            {"study": study, "policy": policy, "round": number, "seed": seed}
            for study, policy, number in studies
            for seed in config.seeds
        ]

    def open(self, config: Any, log: Log) -> Any:
        """Load the model and its texts."""
        from simulations.laboratory.session import Laboratory

        return Laboratory(config, log)

    def run_cell(self, session: Any, cell: Cell) -> dict[str, pd.DataFrame]:
        """One measure of every agent on every text."""
        from simulations.contribution_audit.cell import run_cell

        return run_cell(session, cell)


SCENARIO = ContributionAudit()
