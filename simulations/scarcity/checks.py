"""Names that a config uses, checked before anything heavy is loaded."""

from __future__ import annotations

from agent_economy.config import MechanismConfig
from agent_economy.economy import build_mechanism
from agent_economy.errors import EconomyError
from agent_economy.policies import POLICIES
from simulations.scarcity.config import ScarcityConfig


def check(config: ScarcityConfig) -> None:
    """Refuse unknown mechanisms, scopes and policies, and cells listed twice.

    Raises:
        EconomyError: with the nearest name that is known.
    """
    seen = set()
    for market in config.markets:
        build_mechanism(MechanismConfig(name=market.mechanism, scope=market.scope))
        for policy in market.policies:
            POLICIES.get(policy)
            key = (market.mechanism, market.scope, policy)
            if key in seen:
                raise EconomyError(f"markets: {'/'.join(key)} is listed twice; remove one")
            seen.add(key)
    for name, values in (("budgets", config.budgets), ("seeds", config.seeds)):
        if len(set(values)) < len(values):
            raise EconomyError(f"{name}: {values} repeats a value; remove it")
