"""Fisher mask (Kwon et al. 2022, *A Fast Post-Training Pruning Framework for Transformers*).

1. *Mask search*: ``score_n = mean over examples of (dL / dgate_n)^2``, the diagonal of the
   empirical Fisher information; the plan of the greatest score within supply (``knapsack``).
2. *Mask rearrangement*: within each layer, swap an open agent for a closed one of the same cost as
   long as that lowers ``c' F c``, where ``c`` marks closed agents and ``F`` is the layer's block
   of the Fisher information, cross terms included.

Their third step, real-valued mask tuning by least squares, changes what surviving agents compute;
a gate here is 0 or 1, so it is left out for every method alike.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agent_economy.rivals.allowance import Allowance
from agent_economy.rivals.base import Evidence, Rival
from agent_economy.rivals.knapsack import best_plan


class FisherMask(Rival):
    """Static second-order valuation with interactions inside layers.

    Args:
        seed: unused.
        rearrange: whether to do the second step.
    """

    name = "fisher_mask"

    def __init__(self, seed: int = 0, rearrange: bool = True) -> None:
        super().__init__(seed)
        self.rearrange = rearrange

    def choose(self, evidence: Evidence, allowance: Allowance) -> Bool[Tensor, "Y N"]:
        """See the module's heading."""
        gradient_XYN = evidence.gradient_XYN
        plan_YN = best_plan(gradient_XYN.square().mean(0), allowance)
        if not self.rearrange:
            return plan_YN
        fisher_YNN = torch.einsum("xyn,xym->ynm", gradient_XYN, gradient_XYN) / len(gradient_XYN)
        for layer in range(len(plan_YN)):
            _rearrange(plan_YN, layer, fisher_YNN[layer], allowance)
        return plan_YN


def _rearrange(
    plan_YN: Bool[Tensor, "Y N"],
    layer: int,
    fisher_NN: Float[Tensor, "N N"],
    allowance: Allowance,
) -> None:
    """Swap agents of one layer, in place, the best swap first, until none helps."""
    own_N = fisher_NN.diagonal()
    cost_N = allowance.served_flops_RYN[:, layer]
    alike_NN = (cost_N[:, :, None] == cost_N[:, None, :]).all(0)
    fee_N = torch.arange(len(own_N)) < allowance.fee_agents
    alike_NN &= fee_N[:, None] == fee_N
    for _ in range(len(own_N) ** 2):
        open_N = plan_YN[layer]
        pull_N = fisher_NN @ (~open_N).double()
        # Opening i and closing j: c becomes c - e_i + e_j.
        change_NN = 2 * (pull_N - pull_N[:, None]) + own_N + own_N[:, None] - 2 * fisher_NN
        possible_NN = alike_NN & ~open_N[:, None] & open_N & (change_NN < -1e-12 * own_N.sum())
        for i, j in _best_first(change_NN, possible_NN):
            plan_YN[layer, i], plan_YN[layer, j] = True, False
            if allowance.holds(plan_YN):  # with shared units another one might have to open
                break
            plan_YN[layer, i], plan_YN[layer, j] = False, True
        else:
            return


def _best_first(change_NN: Tensor, possible_NN: Tensor) -> list[list[int]]:
    places = possible_NN.nonzero()
    order = change_NN[possible_NN].argsort(stable=True)
    return places[order].tolist()
