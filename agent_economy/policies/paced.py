"""Adaptive pacing: bid a share of the valuation such that the wallet lasts.

An agent whose money is short bids ``valuation * multiplier`` with a multiplier in (0, 1] and moves
it after every forward by the gap between what it spent and what it meant to spend (Balseiro and
Gur 2019, *Learning in repeated auctions with budgets*). Their dual variable ``mu`` sets the
multiplier ``1 / (1 + mu)`` and takes additive steps; here ``1 + mu`` takes multiplicative ones,
which need no scale of credits::

    multiplier <- min(1, multiplier * exp(-step * clip(spent / target - 1, -1, 1)))

The target is the wallet over a horizon of forwards. The wallet is what it is *now*, income
included, so an agent that earns may spend more, and one that does not never runs dry.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from agent_economy.errors import EconomyError
from agent_economy.policies.base import Features, Outcome
from agent_economy.policies.wrapping import WrappingPolicy, per_agent

#: Least multiplier: a bid stays a bid, and one good forward does not take for ever to come back.
_LEAST = 1e-3


class PacedPolicy(WrappingPolicy):
    """Bids a multiplier, learned per layer and agent, times the valuation.

    Args:
        seed: of the policy that values.
        policy: name of the policy that values.
        policy_options: its options.
        horizon: forwards that a wallet should last without income.
        step: size of the dual step.
    """

    name = "paced"
    observes: bool = True

    def __init__(
        self,
        seed: int = 0,
        policy: str = "taylor",
        policy_options: dict[str, Any] | None = None,
        horizon: float = 100.0,
        step: float = 0.1,
    ) -> None:
        super().__init__(seed, policy, policy_options)
        if not horizon >= 1 or not 0 < step <= 1:
            raise EconomyError(
                f"pacing with horizon = {horizon}, step = {step}: the horizon must be at least 1 "
                "forward, the step in (0, 1]"
            )
        self.horizon, self.step = horizon, step
        self._target_N: dict[int, Tensor] = {}

    def factor(self, features: Features) -> Float[Tensor, "N"]:
        """The multiplier as it is now."""
        # A wallet is split over the rows, so their limits add up to it.
        self._target_N[features.layer] = features.limit_BN.double().sum(0) / self.horizon
        return self.table("multiplier", features.layer, per_agent(features, 1.0)).clone()

    def learn(self, valued: Outcome) -> None:
        """One dual step on what was spent against the target."""
        multiplier_N = self.get_buffer(f"multiplier_{valued.layer}")
        own, target_N = valued.agents_N, self._target_N[valued.layer]
        spent = valued.payment_BLN.double().sum((0, 1))
        # An empty wallet's target is zero: spending nothing is then right on target.
        ratio = torch.where(spent > 0, spent / target_N[own], 0.0)
        gap = (ratio - 1).clamp(-1, 1)
        multiplier_N[own] = (multiplier_N[own] * torch.exp(-self.step * gap)).clamp(_LEAST, 1)
