"""Agents drawn by lot until supply is spent: the mask that knows nothing."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from agent_economy.rivals.allowance import Allowance
from agent_economy.rivals.base import Evidence, Rival


class RandomMask(Rival):
    """All agents of all layers in random order; each is taken where it still fits."""

    name = "random_mask"

    def choose(self, evidence: Evidence, allowance: Allowance) -> Bool[Tensor, "Y N"]:
        """See the class."""
        layers, agents = len(evidence.adapter.sites), evidence.adapter.shape.agents
        generator = torch.Generator().manual_seed(self.seed)
        plan_YN = torch.zeros(layers, agents, dtype=torch.bool)
        for place in torch.randperm(plan_YN.numel(), generator=generator).tolist():
            at = divmod(place, agents)
            plan_YN[at] = True
            plan_YN[at] = allowance.holds(plan_YN)
        return plan_YN
