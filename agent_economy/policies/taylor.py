"""First-order Taylor valuation: how much the loss moves when an agent falls silent.

``value_tn = mean over losses of |dL / dgate_tn|`` at gate 1: to first order the change of the
loss when the gate closes (Molchanov et al. 2017; Michel et al. 2019, eq. 2, for heads). Truthful:
the agent bids what it expects to be worth.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from agent_economy.policies.base import LayerTrace
from agent_economy.policies.readout import ReadoutPolicy


class TaylorPolicy(ReadoutPolicy):
    """Truthful first-order valuation."""

    name = "taylor"

    def valuation(self, layer: LayerTrace) -> Float[Tensor, "T N"]:
        """``mean_s |g_stn|``."""
        return layer.gradient_STN.abs().mean(0)
