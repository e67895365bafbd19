"""The treasury's revenue shared back equally."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from agent_economy.agents.income.base import SharedRevenue, equal_share


@dataclass(frozen=True)
class Revenue(SharedRevenue):
    """A dividend: ``income_i = fraction * revenue / n`` for each of n active agents."""

    name: ClassVar[str] = "revenue"

    def income(self, revenue: Tensor, contribution_A: Tensor, active_A: Tensor) -> Tensor:
        """See `IncomeRule.income`."""
        return self.fraction * revenue * equal_share(active_A)
