"""Bids drawn anew for every token and agent: the allocation that knows nothing."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from agent_economy.policies.base import Features, Policy


class RandomPolicy(Policy):
    """Independent bids, uniform on [0, 2) credits: a mean of one, like calibrated valuations.

    The draw depends on the seed, the step and the layer alone, so a run repeats exactly.
    """

    name = "random"

    def bid(self, features: Features) -> Float[Tensor, "B L n"]:
        """A fresh draw for this step and layer."""
        rows, length, _ = features.hidden_BLD.shape
        shape = (rows, length, len(features.agents_N))
        generator = torch.Generator(features.hidden_BLD.device)
        # odd multipliers spread neighbouring (seed, step, layer) far apart
        generator.manual_seed(
            (self.seed * 0x9E3779B1 + features.step * 0x85EBCA6B + features.layer * 0xC2B2AE35)
            % (1 << 63)
        )
        return 2 * torch.rand(shape, generator=generator, device=features.hidden_BLD.device)
