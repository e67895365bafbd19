"""The same income for everyone, whatever was earned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agent_economy.agents.checks import credits_amount
from agent_economy.agents.income.base import IncomeRule


@dataclass(frozen=True)
class Flat(IncomeRule):
    """A basic income: ``income_i = credits`` for every active agent.

    Args:
        credits: what an agent is due per step.

    Raises:
        EconomyError: the amount is negative or not finite.
    """

    name: ClassVar[str] = "flat"
    credits: float = 1.0

    def __post_init__(self) -> None:
        """Refuse an amount that is negative or not finite."""
        credits_amount("flat income", self.credits)

    def income(self, revenue: Tensor, contribution_A: Tensor, active_A: Tensor) -> Tensor:
        """See `IncomeRule.income`."""
        return active_A.to(torch.float64) * self.credits
