"""Head importance of Michel et al. 2019 (*Are Sixteen Heads Really Better than One?*).

``I_n = mean over examples of |dL / dgate_n|`` (their eq. 2), divided by the norm of the layer's
scores, as they do after Molchanov et al. 2017; they rank the heads of all layers by it, once.
Blocks of neurons get the same score, normalised among the blocks of their layer, as Prasanna et al.
2020 extend it to FFNs; and since they cost other FLOPs than heads do, the plan is the one of the
greatest summed score within supply (``knapsack``). Heads of one layer, and blocks of one layer, are
taken in the order of their scores.

Without the normalisation this is ``taylor_mask``.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from agent_economy.rivals.allowance import Allowance
from agent_economy.rivals.base import Evidence, Rival
from agent_economy.rivals.knapsack import best_plan


class MichelMask(Rival):
    """First-order importance, normalised layer by layer."""

    name = "michel_mask"

    def choose(self, evidence: Evidence, allowance: Allowance) -> Bool[Tensor, "Y N"]:
        """See the module's heading."""
        score_YN = evidence.gradient_XYN.abs().mean(0)
        heads = evidence.adapter.shape.heads
        for part_YX in (score_YN[:, :heads], score_YN[:, heads:]):
            normalise(part_YX)
        return best_plan(score_YN, allowance)


def normalise(score_YX: Float[Tensor, "Y X"]) -> None:
    """Scale each layer's scores, in place, to a norm of 1; scores of 0 stay."""
    norm_Y1 = score_YX.norm(dim=1, keepdim=True)
    score_YX /= norm_Y1.clamp(min=1e-30)
