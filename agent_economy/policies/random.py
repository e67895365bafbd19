"""Bids drawn anew for every token and agent: the allocation that knows nothing."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from agent_economy.policies.base import Features, Policy, draws


class RandomPolicy(Policy):
    """Independent bids, uniform on [0, 2) credits: a mean of one, like calibrated valuations.

    The draw depends on the seed, the step and the layer alone, so a run repeats exactly.
    """

    name = "random"

    def bid(self, features: Features) -> Float[Tensor, "B L n"]:
        """A fresh draw for this step and layer."""
        hidden_BLD, agents = features.hidden_BLD, features.limit_BN.shape[1]
        rows, length, _ = hidden_BLD.shape
        generator = draws(self.seed, features.step, features.layer, hidden_BLD.device)
        # Tokens come first, so that later tokens leave earlier draws as they were; every agent of
        # the layer is drawn for, so that it draws the same whoever else bids like this.
        uniform_LBN = torch.rand(
            (features.position + length, rows, agents),
            generator=generator,
            device=hidden_BLD.device,
            dtype=hidden_BLD.dtype,
        )
        return 2 * uniform_LBN[features.position :].transpose(0, 1)[..., features.agents_N]
