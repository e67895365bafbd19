"""What a bankruptcy rule is, and how rules are found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from agent_economy.agents.checks import credits_amount
from agent_economy.agents.ledger import Ledger
from agent_economy.errors import EconomyError
from agent_economy.registry import Registry


@dataclass(frozen=True)
class BankruptcyRule(ABC):
    """An active agent is insolvent after `patience` steps in a row below a threshold.

    Wallets are looked at after income. Tensor operations only, no device reads; the count of
    steps is the population's `poor_steps_A`. Muted agents do not age.

    Args:
        threshold_credits: a wallet below this is poor.
        patience: steps in a row that an agent may be poor before it is insolvent.

    Raises:
        EconomyError: the threshold is negative or not finite, or the patience below 1.
    """

    name: ClassVar[str]
    threshold_credits: float = 1.0
    patience: int = 10

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        credits_amount("bankruptcy threshold", self.threshold_credits)
        if self.patience < 1:
            raise EconomyError(f"bankruptcy patience is {self.patience}; give at least 1 step")

    def apply(self, ledger: Ledger) -> None:
        """Count poor steps and resolve insolvencies; call it once a step, after income."""
        population = ledger.population
        poor_A = (ledger.wallet_A < self.threshold_credits) & population.active_A
        steps_A = torch.where(poor_A, population.poor_steps_A + 1, 0)
        insolvent_A = steps_A >= self.patience
        population.poor_steps_A.copy_(steps_A)
        self.resolve(ledger, insolvent_A)

    @abstractmethod
    def resolve(self, ledger: Ledger, insolvent_A: Bool[Tensor, " A"]) -> None:
        """Do what the rule does to insolvent agents."""


BANKRUPTCY_RULES = Registry(
    "bankruptcy rule",
    "agent_economy.agents.bankruptcy",
    BankruptcyRule,  # type: ignore[type-abstract]
)
