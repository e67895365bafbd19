"""Agents that learn how much of their value to bid, and a book of what that brings them."""

from __future__ import annotations

import torch

from agent_economy.policies.bandit import BanditPolicy
from agent_economy.policies.base import Outcome


class Learner(BanditPolicy):
    """EXP3 that keeps count, at true values; with one arm, 1, it is truthful.

    Attributes:
        value_credits: what was served of the last forward, at true values.
        paid_credits: what was paid for it.
    """

    name = "counting_bandit"
    value_credits = 0.0
    paid_credits = 0.0

    def learn(self, valued: Outcome) -> None:
        """Add what was served, at true values, and paid to the book; then learn as EXP3 does."""
        value = (valued.bid_BLN.double() * valued.allocation_BLN * valued.mask_BL[..., None]).sum()
        self.value_credits += float(value)
        self.paid_credits += float(valued.payment_BLN.double().sum())
        super().learn(valued)

    def turn(self) -> tuple[float, float]:
        """What was served and paid since the last call."""
        found = self.value_credits, self.paid_credits
        self.value_credits = self.paid_credits = 0.0
        return found

    def expected_factor(self) -> float:
        """The share of their value that agents bid, by the chances of their arms."""
        chance_YNK = torch.stack(
            [table for name, table in self.named_buffers() if name.startswith("chance_")]
        )
        factors_K = torch.tensor(self.factors, dtype=torch.float64)
        return float((chance_YNK @ factors_K).mean())
