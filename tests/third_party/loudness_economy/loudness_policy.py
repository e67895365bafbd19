"""Loudness: a token is worth more, the longer its hidden state."""

from __future__ import annotations

import torch
from torch import Tensor

from agent_economy.policies import Ablations, Features, Policy, Trace


class LoudnessPolicy(Policy):
    """Bids ``level_n * (|h_t| / mean |h|) ** power`` credits.

    Args:
        seed: unused.
        power: how much more a long hidden state is worth; 0 for not at all.
    """

    name = "loudness"

    def __init__(self, seed: int = 0, power: float = 2.0) -> None:
        super().__init__(seed)
        self.power = power

    def fit(self, trace: Trace, ablations: Ablations | None = None) -> None:
        """Levels from the norms of a dense pass; one credit on average at power 0."""
        level_YN = torch.stack([layer.norm_TN.mean(0) for layer in trace])
        norm_Y = torch.stack([layer.hidden_TD.norm(dim=-1).mean() for layer in trace])
        self.register_buffer("level_YN", level_YN / level_YN.mean())
        self.register_buffer("norm_Y", norm_Y)

    def bid(self, features: Features) -> Tensor:
        """One product for the whole group; a token sees itself alone."""
        hidden_BLD, layer = features.hidden_BLD, features.layer
        worth_BL = (hidden_BLD.norm(dim=-1) / self.norm_Y[layer]) ** self.power
        level_N = self.level_YN[layer, features.agents_N]
        return (worth_BL[..., None] * level_N).to(hidden_BLD)

    def flops_per_token(self, hidden: int, agents: int) -> int:
        """A norm, and one product per agent."""
        return 2 * hidden + 3 + agents
