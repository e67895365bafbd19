"""Learner gate: how many of its heads, and how many of its blocks, a layer should spend on a token.

A small gate per layer draws up chances over ``k = 0, 1, ..., H`` heads and ``k = 0, ..., G`` blocks
(Wojcik et al. 2023, Adaptive Computation Modules, arXiv 2312.10193, whose gates choose the number
of learners), and the agent in place ``i`` offers the chance that it is needed:

    P_t = softmax(x_t W + b)                        over k, for heads and for blocks
    bid_ti = P_t(k >= i) * GFLOPs that agent i takes for a typical token

Chances fall along the line, so under ``ordered_learners`` with ``order = "index"`` a token buys as
many agents as are needed with a chance above the price, a number between 0 and 1: the prefix of
highest surplus. All begins with every agent bought (``P(k = all) = start``), as the dense model is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from agent_economy.errors import EconomyError
from agent_economy.policies.trainable import TrainablePolicy


class LearnerGatePolicy(TrainablePolicy):
    """Chances over prefixes; see the module's heading.

    Args:
        seed: unused.
        heads: how many of a layer's agents are heads, the first line; training sets it.
        start_chance: chance at the start that a token needs every agent of a line, in (0, 1).

    Raises:
        EconomyError: the chance is out of range.
    """

    name = "learner_gate"
    trained = ("weight_YDK", "intercept_YK")

    weight_YDK: Tensor
    intercept_YK: Tensor

    def __init__(self, seed: int = 0, heads: int = 0, start_chance: float = 0.9) -> None:
        super().__init__(seed)
        if not 0 < start_chance < 1:
            raise EconomyError(
                f"learner_gate start_chance = {start_chance}: choose a chance in (0, 1)"
            )
        self.heads, self.start_chance = heads, start_chance

    def flops_per_token(self, hidden: int, agents: int) -> int:
        """A normalisation, a matrix product, two softmaxes and their running sums."""
        return 8 * hidden + (2 * hidden + 8) * (agents + 2)

    def _fitted_heads(self) -> int:
        return self.heads

    def _tables(self, hidden: int, gflops_YN: Tensor, heads: int) -> dict[str, Tensor]:
        self.heads = heads
        layers, agents = gflops_YN.shape
        intercept_YK = torch.zeros(layers, agents + 2)
        odds = self.start_chance / (1 - self.start_chance)
        for last, length in ((heads, heads), (agents + 1, agents - heads)):
            # Against `length` other numbers with logit 0; a line without agents has none.
            intercept_YK[:, last] = math.log(odds * length) if length else 0.0
        # Weights of 0 learn at once: the hidden state is in their gradient.
        return {
            "weight_YDK": torch.zeros(layers, hidden, agents + 2),
            "intercept_YK": intercept_YK,
        }

    def _density(self, x_BLD: Tensor, layer: int) -> Tensor:
        logit_BLK = x_BLD @ self.weight_YDK[layer] + self.intercept_YK[layer]
        lines = logit_BLK.split([self.heads + 1, logit_BLK.shape[-1] - self.heads - 1], -1)
        return torch.cat([_needed(line_BLK) for line_BLK in lines], -1)


def _needed(logit_BLK: Tensor) -> Tensor:
    """``P(k >= i)`` for ``i = 1, 2, ...`` from logits of ``k = 0, 1, 2, ...``."""
    chance_BLK = logit_BLK.softmax(-1)[..., 1:]
    # Summed from the end, where chances may be tiny.
    return chance_BLK.flip(-1).cumsum(-1).flip(-1).clamp(max=1.0)
