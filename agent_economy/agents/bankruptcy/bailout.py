"""Insolvent agents are rescued by the treasury."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agent_economy.agents.bankruptcy.base import BankruptcyRule
from agent_economy.agents.ledger import Ledger


@dataclass(frozen=True)
class Bailout(BankruptcyRule):
    """The treasury lifts an insolvent agent's wallet to the threshold, as far as it can.

    With too little in the treasury every agent in need gets the same share of what it lacks. Any
    rescue starts the agent's patience anew.
    """

    name: ClassVar[str] = "bailout"

    def resolve(self, ledger: Ledger, insolvent_A: Tensor) -> None:
        """See `BankruptcyRule.resolve`."""
        ledger.bail_out(torch.where(insolvent_A, self.threshold_credits - ledger.wallet_A, 0.0))
        ledger.population.poor_steps_A.masked_fill_(insolvent_A, 0)
