"""Policies that change how much of its valuation an agent bids, whatever the valuation is."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from agent_economy.config import Named
from agent_economy.policies import POLICIES
from agent_economy.policies.base import Ablations, Features, Outcome, Policy, Trace
from agent_economy.registry import build


class WrappingPolicy(Policy):
    """Bids a factor per agent times what another policy bids: its valuation.

    What members learn between forwards is kept per layer and agent in buffers, made when a layer is
    first seen, so it is saved and restored with the economy.

    Args:
        seed: of both policies' draws.
        policy: name of the policy that values.
        policy_options: its options.
    """

    def __init__(
        self,
        seed: int = 0,
        policy: str = "taylor",
        policy_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(seed)
        self.policy, self.policy_options = policy, policy_options or {}
        self.inner = build(POLICIES, Named(name=policy, options=self.policy_options), seed=seed)
        self.needs_ablations = self.inner.needs_ablations
        self.observes = type(self).observes or self.inner.observes
        #: factors of each layer's last bids, until their outcome is known
        self._factor_N: dict[int, Tensor] = {}

    @abstractmethod
    def factor(self, features: Features) -> Float[Tensor, "N"]:
        """By what each of the layer's agents multiplies its valuation, > 0."""

    def learn(self, valued: Outcome) -> None:
        """Learn from an outcome whose ``bid_BLN`` is the valuation; nothing by default."""

    def fit(self, trace: Trace, ablations: Ablations | None = None) -> None:
        """Fit the policy that values."""
        self.inner.fit(trace, ablations)

    def bid(self, features: Features) -> Float[Tensor, "B L n"]:
        """Factor times valuation."""
        factor_N = self.factor(features)
        self._factor_N[features.layer] = factor_N
        bid_BLN = self.inner.bid(features)
        return bid_BLN * factor_N[features.agents_N].to(bid_BLN)

    def observe(self, outcome: Outcome) -> None:
        """Tell both policies, each in terms of its own bids."""
        factor_N = self._factor_N[outcome.layer][outcome.agents_N].to(outcome.bid_BLN)
        valued = outcome._replace(bid_BLN=outcome.bid_BLN / factor_N)
        self.learn(valued)
        if self.inner.observes:
            self.inner.observe(valued)

    def flops_per_token(self, hidden: int, agents: int) -> int:
        """The valuation, and one product per agent."""
        return self.inner.flops_per_token(hidden, agents) + agents

    def restore(self, tables: dict[str, Tensor]) -> None:
        """Take up saved tables of both policies; what was learned since is forgotten."""
        for key in [key for key in self._buffers if key not in tables]:
            delattr(self, key)
        self._factor_N.clear()
        own = {key: table for key, table in tables.items() if not key.startswith("inner.")}
        super().restore(own)
        prefix = len("inner.")
        self.inner.restore(
            {key[prefix:]: table for key, table in tables.items() if key.startswith("inner.")}
        )

    def table(self, name: str, layer: int, start: Tensor) -> Tensor:
        """What is remembered of a layer under a name; ``start`` where nothing is yet."""
        key = f"{name}_{layer}"
        if key not in self._buffers:
            self.register_buffer(key, start)
        kept: Tensor = self.get_buffer(key)
        return kept


def per_agent(features: Features, value: float) -> Float[Tensor, "N"]:
    """A number for every agent of the layer."""
    agents, device = features.limit_BN.shape[1], features.hidden_BLD.device
    return torch.full((agents,), value, device=device, dtype=torch.float64)
