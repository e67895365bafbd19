"""Local search on the measured loss itself: no surrogate, as many forwards as it is given.

It starts from the better of the Taylor and the Fisher mask, as measured on the calibration rows,
and tries random swaps: one open agent closes, one closed agent opens, and where FLOPs are left
over further agents open that fit. A swap stays where the measured calibration loss falls. Agents
are drawn with odds by their Fisher scores (little worth closes, much worth opens), mixed half and
half with even odds.

Searching the calibration loss itself can overfit it, so a study should choose between masks on
rows that none of them has seen.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agent_economy.errors import EconomyError
from agent_economy.rivals.allowance import Allowance
from agent_economy.rivals.base import Evidence, Rival
from agent_economy.rivals.fisher_mask import FisherMask
from agent_economy.rivals.taylor_mask import TaylorMask


class GreedyMask(Rival):
    """Hill climbing on the calibration loss.

    Args:
        seed: of the swaps.
        forwards: passes over the calibration batches, the two starting points included.
    """

    name = "greedy_mask"

    def __init__(self, seed: int = 0, forwards: int = 100) -> None:
        super().__init__(seed)
        if forwards < 2:
            raise EconomyError(f"greedy_mask: forwards = {forwards}; give at least 2")
        self.forwards = forwards

    def choose(self, evidence: Evidence, allowance: Allowance) -> Bool[Tensor, "Y N"]:
        """See the module's heading."""
        starts = [rival.choose(evidence, allowance) for rival in (FisherMask(), TaylorMask())]
        losses = [evidence.loss(start_YN) for start_YN in starts]
        best = losses.index(min(losses))
        plan_YN, loss = starts[best], losses[best]
        generator = torch.Generator().manual_seed(self.seed)
        score_YN = evidence.gradient_XYN.square().mean(0).cpu()
        rank_YN = score_YN.flatten().argsort().argsort().view_as(score_YN).double()
        for _ in range(self.forwards - 2):
            tried_YN = _swap(plan_YN, rank_YN, allowance, generator)
            if tried_YN is None:
                break
            tried = evidence.loss(tried_YN)
            if tried < loss:
                plan_YN, loss = tried_YN, tried
        return plan_YN


def _swap(
    plan_YN: Bool[Tensor, "Y N"],
    rank_YN: Float[Tensor, "Y N"],
    allowance: Allowance,
    generator: torch.Generator,
) -> Bool[Tensor, "Y N"] | None:
    """Another plan within the allowance, one agent for one; None where none was found."""
    odds_A = rank_YN.flatten() / rank_YN.max().clamp(min=1)
    for _ in range(50):
        tried_YN = plan_YN.clone()
        flat_A = tried_YN.view(-1)
        if flat_A.all() or not flat_A.any():
            return None
        out = torch.multinomial((1.5 - odds_A) * flat_A, 1, generator=generator)
        order = torch.multinomial(
            (0.5 + odds_A) * ~flat_A, int((~flat_A).sum()), generator=generator
        )
        flat_A[out] = False
        opened = False
        for place in order.tolist():
            flat_A[place] = True
            flat_A[place] = allowance.holds(tried_YN)
            opened = opened or bool(flat_A[place])
        if opened:
            return tried_YN
    return None
