"""Hard-concrete gates under a FLOPs constraint: pruning that is learned with the model (CoFi).

Louizos, Welling and Kingma 2018 (arXiv 1712.01312): a gate with a finite chance of being exactly 0
or exactly 1, and a gradient all the same,

    s = sigmoid((ln u - ln(1 - u) + log_alpha) / beta),  u uniform       (while training)
    s = sigmoid(log_alpha)                                               (in evaluation)
    z = min(1, max(0, s (zeta - gamma) + gamma))
    P(z > 0) = sigmoid(log_alpha - beta ln(-gamma / zeta))

Xia, Zhong and Chen 2022 (arXiv 2204.00408) add coarse gates beside the fine ones, one for all heads
and one for all neurons of a layer, so that ``z = z_coarse z_fine`` and chances multiply, and hold
expected FLOPs to a target with a Lagrangian whose multipliers climb as the gates descend (after
Wang et al. 2020):

    lambda_1 (s - t) + lambda_2 (s - t)^2        s: expected share of dense FLOPs, t: the target

Their gates on the model dimension belong to no agent here and are left out. Two heads that share
keys and values are priced as if each paid its share of them.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from agent_economy.errors import EconomyError
from agent_economy.rivals.allowance import Allowance
from agent_economy.rivals.knapsack import best_plan

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
"""Temperature, and the ends between which the concrete distribution is stretched."""

BOUND = math.log(100)
"""``log_alpha`` stays within this of 0, so that no gate closes for good (as in Xia et al.)."""

START = math.log((1 - GAMMA) / (ZETA - 1))
"""The least ``log_alpha`` whose gate is fully open in evaluation: training starts at the model."""


class L0Gates(nn.Module):
    """Gates of all agents; see the module's heading.

    Args:
        flops_YN: what each agent takes, set-up included.
        heads: how many of a layer's agents are heads, which come first: then every layer has a
            gate for all its heads and one for all its blocks, too. None: no such coarse gates.
        log_alpha: where all gates start.
        stiffness: where ``lambda_2`` starts. Xia et al. start at 0; in trainings twenty times as
            short as theirs the gates would then lag behind the target and overshoot it.

    Raises:
        EconomyError: agents cost nothing, or there are fewer than heads.
    """

    share_YN: Tensor

    def __init__(
        self,
        flops_YN: Float[Tensor, "Y N"],
        heads: int | None = None,
        *,
        log_alpha: float = START,
        stiffness: float = 10.0,
    ) -> None:
        super().__init__()
        agents = flops_YN.shape[1]
        if not 0 <= (heads or 0) <= agents or not bool((flops_YN > 0).all()):
            raise EconomyError(
                f"l0: {heads} heads among {agents} agents, costs from {float(flops_YN.min()):g}; "
                "give FLOPs above 0 for every agent, heads first"
            )
        self.heads = heads
        share_YN = (flops_YN.double() / flops_YN.double().sum()).float()
        self.register_buffer("share_YN", share_YN)
        self.log_alpha_YN = nn.Parameter(torch.full_like(share_YN, log_alpha))
        if heads is not None:
            pair_Y2 = share_YN.new_full((len(share_YN), 2), log_alpha)
            self.log_alpha_Y2 = nn.Parameter(pair_Y2)
        #: multipliers of the constraint, which climb
        self.lambda_2 = nn.Parameter(share_YN.new_tensor([0.0, stiffness]))

    # --- gates -------------------------------------------------------------------------------

    def gates_YN(self, generator: torch.Generator | None = None) -> Float[Tensor, "Y N"]:
        """A draw while training, the same gates on every call in evaluation; differentiable.

        Args:
            generator: of the draw; torch's own where None.
        """
        if self.training:
            for each in self.descending():
                each.data.clamp_(-BOUND, BOUND)
        gate_YN = self._stretched(self.log_alpha_YN, generator)
        if self.heads is not None:
            gate_YN = gate_YN * self._per_agent(self._stretched(self.log_alpha_Y2, generator))
        return gate_YN

    def open_YN(self) -> Float[Tensor, "Y N"]:
        """Each agent's chance of a gate above 0."""
        chance_YN = _chance(self.log_alpha_YN)
        if self.heads is not None:
            chance_YN = chance_YN * self._per_agent(_chance(self.log_alpha_Y2))
        return chance_YN

    # --- the constraint ----------------------------------------------------------------------

    def flops_fraction(self) -> Float[Tensor, ""]:
        """Expected FLOPs over those of all agents."""
        return (self.open_YN() * self.share_YN).sum()

    def lagrangian(self, target: float) -> Float[Tensor, ""]:
        """What is added to the loss; the caller anneals the target from 1 to the budget."""
        excess = self.flops_fraction() - target
        return self.lambda_2[0] * excess + self.lambda_2[1] * excess.square()

    def descending(self) -> list[nn.Parameter]:
        """What an optimiser minimises the loss and the Lagrangian by: the gates."""
        return [each for name, each in self.named_parameters() if name != "lambda_2"]

    def ascending(self) -> list[nn.Parameter]:
        """What it maximises them by (``maximize=True`` in torch): the multipliers."""
        return [self.lambda_2]

    # --- the end -----------------------------------------------------------------------------

    @torch.no_grad()
    def plan_YN(self, allowance: Allowance) -> Bool[Tensor, "Y N"]:
        """The static plan: within the allowance, the agents whose chances add up to the most.

        The allowance is spent even where the gates have fallen below it: to be trained on, another
        agent is worth more than FLOPs left over.
        """
        return best_plan(self.open_YN().cpu(), allowance)

    @torch.no_grad()
    def scale_YN(self, plan_YN: Bool[Tensor, "Y N"]) -> Float[Tensor, "Y N"]:
        """What the plan's agents are multiplied by in evaluation, 1 for all others.

        Folded into the weights (``folding.fold_scales``) it makes the plan compute what the gates
        did. An agent that the plan opens although its gate is 0 starts at 1.
        """
        was_training = self.training
        self.eval()
        settled_YN = self.gates_YN()
        self.train(was_training)
        return torch.where(plan_YN.to(settled_YN.device) & (settled_YN > 0), settled_YN, 1.0)

    # --- parts -------------------------------------------------------------------------------

    def _stretched(self, log_alpha: Tensor, generator: torch.Generator | None) -> Tensor:
        logit = log_alpha
        if self.training:
            u = torch.rand(log_alpha.shape, generator=generator, device=log_alpha.device)
            logit = (torch.logit(u.clamp(1e-6, 1 - 1e-6)) + log_alpha) / BETA
        return (torch.sigmoid(logit) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)

    def _per_agent(self, x_Y2: Tensor) -> Tensor:
        """A layer's pair for heads and for blocks, agent by agent."""
        heads = self.heads or 0
        blocks = self.log_alpha_YN.shape[1] - heads
        return torch.cat((x_Y2[:, :1].expand(-1, heads), x_Y2[:, 1:].expand(-1, blocks)), 1)


def _chance(log_alpha: Tensor) -> Tensor:
    """``P(z > 0)``."""
    return torch.sigmoid(log_alpha - BETA * math.log(-GAMMA / ZETA))
