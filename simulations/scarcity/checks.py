"""Names that a config uses, checked before anything heavy is loaded."""

from __future__ import annotations

from agent_economy.config import MechanismConfig
from agent_economy.errors import EconomyError
from agent_economy.members import build_mechanism
from agent_economy.policies import POLICIES
from agent_economy.registry import build
from agent_economy.rivals import RIVALS
from simulations.scarcity.config import ScarcityConfig


def check(config: ScarcityConfig) -> None:
    """Refuse unknown mechanisms, scopes, policies and rivals, and cells listed twice.

    Raises:
        EconomyError: with the nearest name that is known.
    """
    seen = set()
    for market in config.markets:
        build_mechanism(MechanismConfig(name=market.mechanism, scope=market.scope))
        for policy in market.policies:
            POLICIES.get(policy)
            key = (market.mechanism, market.scope, market.timing, policy)
            if key in seen:
                raise EconomyError(f"markets: {'/'.join(key)} is listed twice; remove one")
            seen.add(key)
    for rival in config.rivals:
        build(RIVALS, rival, seed=0)
    for name, values in (
        ("rivals", [rival.name for rival in config.rivals]),
        ("budgets", config.budgets),
        ("seeds", config.seeds),
    ):
        if len(set(values)) < len(values):
            raise EconomyError(f"{name}: {values} repeats a value; remove it")
