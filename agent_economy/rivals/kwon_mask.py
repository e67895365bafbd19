"""The whole of Kwon et al. 2022 (arXiv 2204.09656), training-free: search, rearrange, tune.

The plan is the Fisher mask's (``fisher_mask``). The third step, mask tuning, gives its agents
real-valued gates (``mask_tuning``); folded into the weights (``folding.fold_scales``) they leave a
plan of 0 and 1 that every executor understands, in a model whose survivors make up for the others::

    rival = KwonMask()
    plan_YN = rival.choose(evidence, allowance)
    fold_scales(evidence.adapter, rival.scale_YX)
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from agent_economy.rivals.allowance import Allowance
from agent_economy.rivals.base import Evidence
from agent_economy.rivals.fisher_mask import FisherMask
from agent_economy.rivals.mask_tuning import tune


class KwonMask(FisherMask):
    """Fisher mask with tuned gates.

    Args:
        seed: unused.
        rearrange: whether to do the second step.
        neurons: whether neurons are tuned one by one, as in the paper, or block by block.

    Attributes:
        scale_YX: after ``choose``, what to fold into the weights: gates of the heads, then of the
            neurons (or blocks) of every layer.
    """

    name = "kwon_mask"

    scale_YX: Float[Tensor, "Y X"]

    def __init__(self, seed: int = 0, rearrange: bool = True, neurons: bool = True) -> None:
        super().__init__(seed, rearrange)
        self.neurons = neurons

    def choose(self, evidence: Evidence, allowance: Allowance) -> Bool[Tensor, "Y N"]:
        """See the module's heading; the model itself is not changed."""
        plan_YN = super().choose(evidence, allowance)
        adapter, batches = evidence.adapter, evidence.batches
        self.scale_YX = tune(adapter, batches, plan_YN, neurons=self.neurons).scale_YX
        return plan_YN
