"""EXP3 over shading factors: agents that find out by trying how much of their valuation to bid.

Each agent is a bandit of its own over a grid of ``K`` factors (Auer, Cesa-Bianchi, Freund and
Schapire 2002, *The nonstochastic multiarmed bandit problem*, figure 1). It plays arm ``k`` with
``p_k = (1 - gamma) w_k / sum w + gamma / K`` and, on a reward ``r`` in [0, 1] for the arm played,
multiplies that arm's weight by ``exp(gamma * r / (K p_k))``. Nothing is assumed of the others,
so the guarantee (regret of order ``sqrt(T K log K)`` against the best fixed arm) holds while all
agents learn at once.

The reward of a forward is the agent's utility, valuation served less payment, over the valuation
of all its real tokens. That bounds it honestly: nobody pays more than it bid, nor bids more than
the valuation, so utility is never negative, and it is at most the valuation of all tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from agent_economy.errors import EconomyError
from agent_economy.policies.base import Features, Outcome, draws
from agent_economy.policies.wrapping import WrappingPolicy


class BanditPolicy(WrappingPolicy):
    """Bids a factor, drawn anew for each forward, layer and agent, times the valuation.

    Args:
        seed: of the draws, which depend on seed, step and layer alone, and of the policy that
            values.
        policy: name of the policy that values.
        policy_options: its options.
        factors: the arms, each in (0, 1].
        gamma: share of draws that explore, in (0, 1].
    """

    name = "bandit"
    observes: bool = True

    def __init__(
        self,
        seed: int = 0,
        policy: str = "taylor",
        policy_options: dict[str, Any] | None = None,
        factors: tuple[float, ...] | list[float] = (0.25, 0.5, 0.7, 0.85, 1.0),
        gamma: float = 0.1,
    ) -> None:
        super().__init__(seed, policy, policy_options)
        if not factors or not all(0 < each <= 1 for each in factors):
            raise EconomyError(f"bandit factors = {list(factors)}: give numbers in (0, 1]")
        if not 0 < gamma <= 1:
            raise EconomyError(f"bandit gamma = {gamma}: choose a share of exploration in (0, 1]")
        self.factors, self.gamma = list(factors), gamma
        self._arm_N: dict[int, Tensor] = {}

    def factor(self, features: Features) -> Float[Tensor, "N"]:
        """The arm that each agent of the layer plays in this forward."""
        agents, device = features.limit_BN.shape[1], features.hidden_BLD.device
        factors_K = torch.tensor(self.factors, device=device, dtype=torch.float64)
        even_NK = torch.full_like(factors_K, 1 / len(factors_K)).repeat(agents, 1)
        chance_NK = self.table("chance", features.layer, even_NK)
        generator = draws(self.seed, features.step, features.layer, device)
        uniform_N1 = torch.rand(agents, 1, generator=generator, device=device, dtype=torch.float64)
        # The last sum may round to less than one.
        passed_NK = chance_NK.cumsum(1)[:, :-1] <= uniform_N1
        self._arm_N[features.layer] = arm_N = passed_NK.sum(1)
        return factors_K[arm_N]

    def learn(self, valued: Outcome) -> None:
        """Reward the arms that were played."""
        own = valued.agents_N
        value_BLN = valued.bid_BLN.double() * valued.mask_BL[..., None]
        served = (value_BLN * valued.allocation_BLN - valued.payment_BLN).sum((0, 1))
        most = value_BLN.sum((0, 1))
        reward = torch.where(most > 0, served / most, 0.0).clamp(0, 1)  # clamps rounding alone
        chance_NK = self.get_buffer(f"chance_{valued.layer}")
        chance_NK[own] = self.updated(chance_NK[own], self._arm_N[valued.layer][own], reward)

    def updated(
        self, chance_NK: Float[Tensor, "n K"], arm_N: Int[Tensor, "n"], reward_N: Float[Tensor, "n"]
    ) -> Float[Tensor, "n K"]:
        """Chances of the arms after a round.

        Weights are read back from the chances, so the chances are all that needs to be kept.

        Args:
            chance_NK: chances in the round.
            arm_N: which arm each agent played.
            reward_N: what it got, in [0, 1].
        """
        arms, even = chance_NK.shape[1], self.gamma / chance_NK.shape[1]
        # gamma = 1 always explores; nothing can be read back, and nothing needs to be.
        if self.gamma == 1:
            return chance_NK
        # Weights only matter relative to each other; the floor keeps a hopeless arm's alive.
        weight_NK = ((chance_NK - even) / (1 - self.gamma)).clamp(min=1e-12)
        played_N1 = arm_N[:, None]
        gain_N1 = self.gamma * reward_N[:, None] / (arms * chance_NK.gather(1, played_N1))
        weight_NK = weight_NK.scatter_add(
            1, played_N1, weight_NK.gather(1, played_N1) * gain_N1.expm1()
        )
        return (1 - self.gamma) * weight_NK / weight_NK.sum(1, keepdim=True) + even
