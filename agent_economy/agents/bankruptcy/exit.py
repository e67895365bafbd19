"""Insolvent agents leave the market."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agent_economy.agents.bankruptcy.base import BankruptcyRule
from agent_economy.agents.journal import Posting
from agent_economy.agents.ledger import Ledger


@dataclass(frozen=True)
class Exit(BankruptcyRule):
    """An insolvent agent stops bidding for good; what its wallet still holds is the treasury's.

    `Population.set_bankrupt(rows, False)` lets it in again.
    """

    name: ClassVar[str] = "exit"

    def resolve(self, ledger: Ledger, insolvent_A: Tensor) -> None:
        """See `BankruptcyRule.resolve`."""
        rest_A = torch.where(insolvent_A, ledger.wallet_A, 0.0)
        ledger.transfer(Posting.EXIT, rest_A, to_treasury=True)
        # `version` stays: groups of agents do not depend on who is bankrupt.
        ledger.population.bankrupt_A.logical_or_(insolvent_A)
