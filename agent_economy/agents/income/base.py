"""What an income rule is, and how rules are found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from agent_economy.agents.checks import share
from agent_economy.registry import Registry


class IncomeRule(ABC):
    """Claims of agents on the treasury: a pure function of tensors, without device reads.

    A rule says what agents are due; `Ledger.pay_income` pays what the treasury can.
    """

    name: ClassVar[str]

    @abstractmethod
    def income(
        self,
        revenue: Float[Tensor, ""],
        contribution_A: Float[Tensor, " A"],
        active_A: Bool[Tensor, " A"],
    ) -> Float64[Tensor, " A"]:
        """Credits due to each agent in this step.

        Args:
            revenue: credits the treasury earned in this step.
            contribution_A: measured contribution of each agent, any unit.
            active_A: agents that take part; the others get nothing.
        """


@dataclass(frozen=True)
class SharedRevenue(IncomeRule):
    """Base of rules that pay back a fraction of the step's revenue.

    Args:
        fraction: share of the revenue paid back, in [0, 1].

    Raises:
        EconomyError: the fraction lies outside [0, 1].
    """

    fraction: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a fraction outside [0, 1]."""
        share("income fraction", self.fraction)


def equal_share(active_A: Bool[Tensor, " A"]) -> Float64[Tensor, " A"]:
    """Weights ``1 / n`` for n active agents, 0 for the others; all 0 if nobody is active."""
    weight_A = active_A.to(torch.float64)
    return weight_A / weight_A.sum().clamp(min=1.0)


INCOME_RULES = Registry("income rule", "agent_economy.agents.income", IncomeRule)  # type: ignore[type-abstract]
