"""Every agent bids the same: only costs decide."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from agent_economy.policies.base import Features, Policy


class ConstantPolicy(Policy):
    """The same credits for every token and agent.

    Args:
        seed: unused.
        credits: the bid.
    """

    name = "constant"

    def __init__(self, seed: int = 0, credits: float = 1.0) -> None:
        super().__init__(seed)
        self.credits = credits

    def bid(self, features: Features) -> Float[Tensor, "B L n"]:
        """``credits`` for every row, token and agent of the group."""
        rows, length, _ = features.hidden_BLD.shape
        return features.hidden_BLD.new_full((rows, length, len(features.agents_N)), self.credits)
