"""Fisher valuation: the diagonal of the empirical Fisher information of the gates.

``value_tn = mean over losses of (dL / dgate_tn)^2``: to second order the expected rise of the
loss when the gate closes (Kwon et al. 2022, section 4.1). With losses drawn from the model's own
predictions this is the true Fisher information, the Gauss-Newton curvature.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from agent_economy.policies.base import LayerTrace
from agent_economy.policies.readout import ReadoutPolicy


class FisherPolicy(ReadoutPolicy):
    """Second-order valuation."""

    name = "fisher"

    def valuation(self, layer: LayerTrace) -> Float[Tensor, "T N"]:
        """``mean_s g_stn^2``."""
        return layer.gradient_STN.square().mean(0)
