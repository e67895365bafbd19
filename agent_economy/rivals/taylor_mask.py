"""First-order mask: the agents whose gates move the loss most.

``score_n = mean over examples of |dL / dgate_n|``, the gate shared by all tokens of an example
(Michel et al. 2019, eq. 2); then the best plan within supply (``knapsack``). Michel et al. prune
heads in steps of a tenth, ranked per layer; here heads and blocks of all layers compete for FLOPs.
"""

from __future__ import annotations

from jaxtyping import Bool
from torch import Tensor

from agent_economy.rivals.allowance import Allowance
from agent_economy.rivals.base import Evidence, Rival
from agent_economy.rivals.knapsack import best_plan


class TaylorMask(Rival):
    """Static first-order valuation."""

    name = "taylor_mask"

    def choose(self, evidence: Evidence, allowance: Allowance) -> Bool[Tensor, "Y N"]:
        """See the module's heading."""
        return best_plan(evidence.gradient_XYN.abs().mean(0), allowance)
