"""The treasury's revenue earned back by measured contribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agent_economy.agents.income.base import SharedRevenue, equal_share


@dataclass(frozen=True)
class Contribution(SharedRevenue):
    """Wages: ``income_i = fraction * revenue * c_i / sum_j c_j`` over active agents.

    Negative contributions count as none. Where nobody contributed, the pot is shared equally, so
    that a step without a measurement does not drain the agents.
    """

    name: ClassVar[str] = "contribution"

    def income(self, revenue: Tensor, contribution_A: Tensor, active_A: Tensor) -> Tensor:
        """See `IncomeRule.income`."""
        earned_A = contribution_A.to(torch.float64).clamp(min=0.0) * active_A
        # Divided by the largest first: a sum of tiny contributions must not underflow.
        earned_A = earned_A / torch.where(earned_A.max() > 0.0, earned_A.max(), 1.0)
        total = earned_A.sum()
        share_A = torch.where(total > 0.0, earned_A / total, equal_share(active_A))
        return self.fraction * revenue * share_A
