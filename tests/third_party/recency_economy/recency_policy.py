"""Recency: the norm of the hidden state, fading from token to token."""

from __future__ import annotations

import torch
from torch import Tensor

from agent_economy.policies import Ablations, Features, Policy, Trace


class RecencyPolicy(Policy):
    """Bids ``level_n * |h_t| / mean |h| * fade ** t`` credits.

    Args:
        seed: unused.
        fade: what a token keeps of the worth of the one before it, in (0, 1].
    """

    name = "recency"

    def __init__(self, seed: int = 0, fade: float = 0.98) -> None:
        super().__init__(seed)
        self.fade = fade

    def fit(self, trace: Trace, ablations: Ablations | None = None) -> None:
        """Levels from the norms of a dense pass; one credit on average, before fading."""
        level_YN = torch.stack([layer.norm_TN.mean(0) for layer in trace])
        norm_Y = torch.stack([layer.hidden_TD.norm(dim=-1).mean() for layer in trace])
        self.register_buffer("level_YN", level_YN / level_YN.mean())
        self.register_buffer("norm_Y", norm_Y)

    def bid(self, features: Features) -> Tensor:
        """One product for the whole group; a token sees itself and its place alone."""
        hidden_BLD, layer = features.hidden_BLD, features.layer
        place_L = torch.arange(hidden_BLD.shape[1], device=hidden_BLD.device)
        worth_BL = hidden_BLD.norm(dim=-1) / self.norm_Y[layer] * self.fade**place_L
        level_N = self.level_YN[layer, features.agents_N]
        return (worth_BL[..., None] * level_N).to(hidden_BLD)

    def flops_per_token(self, hidden: int, agents: int) -> int:
        """A norm, and one product per agent."""
        return 2 * hidden + 3 + agents
