"""Bids of a layer: one call per group of agents that share a policy."""

from __future__ import annotations

from torch import Tensor

from agent_economy.agents.population import Population
from agent_economy.errors import EconomyError
from agent_economy.mechanisms import Clearing
from agent_economy.policies import Features, Outcome, Policy


class Bidding:
    """Collects bids, and tells policies what became of them.

    Args:
        population: the agents and their policies.
    """

    def __init__(self, population: Population) -> None:
        self.population = population

    def groups(self, layer: int) -> list[tuple[Policy, Tensor]]:
        """Agents of a layer by policy.

        Raises:
            EconomyError: agents were given something that is no policy.
        """
        groups = []
        for policy, agents_N in self.population.policy_groups(layer):
            if not isinstance(policy, Policy):
                raise EconomyError(
                    f"agents were told to bid by {policy!r}, which is no policy; "
                    "give an object such as FisherPolicy()"
                )
            groups.append((policy, agents_N))
        return groups

    def bids(self, features: Features) -> Tensor:
        """One (B, L, N) tensor for all agents of ``features.layer``.

        Args:
            features: what policies see; ``agents_N`` is filled in here for each group.
        """
        groups = self.groups(features.layer)
        parts = [policy.bid(features._replace(agents_N=agents_N)) for policy, agents_N in groups]
        agents = self.population.agents_per_layer
        if len(parts) == 1 and parts[0].shape[-1] == agents:
            return parts[0]
        rows, length, _ = features.hidden_BLD.shape
        bid_BLN: Tensor = features.hidden_BLD.new_zeros(rows, length, agents)
        for (_, agents_N), part in zip(groups, parts, strict=True):
            bid_BLN = bid_BLN.index_copy(-1, agents_N, part.to(bid_BLN.dtype))
        return bid_BLN

    def flops_per_token(self, layer: int, hidden: int) -> int:
        """FLOPs of bidding for one token in a layer, all groups of agents together."""
        return sum(
            policy.flops_per_token(hidden, len(agents_N)) for policy, agents_N in self.groups(layer)
        )

    def tell(self, layer: int, mask_BL: Tensor, bid_BLN: Tensor, clearing: Clearing) -> None:
        """Show policies that learn from their success what their bids won."""
        for policy, agents_N in self.groups(layer):
            if policy.observes:
                policy.observe(
                    Outcome(
                        layer,
                        agents_N,
                        mask_BL,
                        bid_BLN[..., agents_N].detach(),
                        clearing.allocation_BLN[..., agents_N].detach(),
                        clearing.payment_BLN[..., agents_N].detach(),
                        clearing.price.detach(),
                    )
                )

    @property
    def anybody_observes(self) -> bool:
        """Whether any policy learns from its success."""
        return any(getattr(policy, "observes", False) for policy in self.population.policies)
