"""Router: a layer's agents all want the same tokens (Mixture-of-Depths).

    density_t = softplus(x_t w)        credits per GFLOP, the same for every agent of the layer
    bid_tn    = density_t * GFLOPs that agent n takes for a typical token

With the mechanism ``token_top_k`` every open agent then serves the same tokens of the layer, those
that the router scores highest, to the capacity that supply sets; the relaxed form weights what they
do by ``sigmoid((density - cut-off) / T)``, through which the router learns. One linear map a layer
from small random weights (Raposo et al. 2024, arXiv 2404.02258), without intercept, which would
change no ranking. ``x`` is the layer-normalised hidden state.

Unlike there, a token that no block serves still is context for those that are served: open heads
have paid for its keys and values.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from agent_economy.policies.base import draws
from agent_economy.policies.trainable import TrainablePolicy


class RouterPolicy(TrainablePolicy):
    """One linear score per layer and token; see the module's heading.

    Args:
        seed: of the first weights.
        spread: standard deviation of the first scores.
    """

    name = "router"
    trained = ("weight_YD",)

    weight_YD: Tensor

    def __init__(self, seed: int = 0, spread: float = 0.1) -> None:
        super().__init__(seed)
        self.spread = spread

    def flops_per_token(self, hidden: int, agents: int) -> int:
        """A normalisation, a scalar product, a softplus, and one product per agent."""
        return 10 * hidden + 6 + agents

    def _tables(self, hidden: int, gflops_YN: Tensor, heads: int) -> dict[str, Tensor]:
        generator = draws(self.seed, 0, 0, torch.device("cpu"))
        weight_YD = torch.randn(len(gflops_YN), hidden, generator=generator)
        # A layer-normalised state has norm sqrt(D), so scores spread as far as asked.
        return {"weight_YD": weight_YD * self.spread / hidden**0.5}

    def _density(self, x_BLD: Tensor, layer: int) -> Tensor:
        return softplus(x_BLD @ self.weight_YD[layer])[..., None]
