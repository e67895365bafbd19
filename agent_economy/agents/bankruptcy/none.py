"""Insolvency has no consequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from agent_economy.agents.bankruptcy.base import BankruptcyRule
from agent_economy.agents.ledger import Ledger


@dataclass(frozen=True)
class NoBankruptcy(BankruptcyRule):
    """An agent may stay poor for ever; `poor_steps_A` still tells for how long."""

    name: ClassVar[str] = "none"

    def resolve(self, ledger: Ledger, insolvent_A: Tensor) -> None:
        """See `BankruptcyRule.resolve`."""
