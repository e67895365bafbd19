"""Activation norm: an agent is worth what it adds to the residual stream.

``value_tn = |x_tn W_n|``, the norm of the agent's contribution (Kobayashi et al. 2020 for heads).
Needs no labels and no backward pass.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from agent_economy.policies.base import LayerTrace
from agent_economy.policies.readout import ReadoutPolicy


class ActivationNormPolicy(ReadoutPolicy):
    """Values an agent at a token by the norm of what it adds to the residual stream there."""

    name = "activation_norm"

    def valuation(self, layer: LayerTrace) -> Float[Tensor, "T N"]:
        """``|x_tn W_n|``."""
        return layer.norm_TN
