"""Names that a config uses, checked before anything heavy is loaded."""

from __future__ import annotations

from agent_economy.config import MechanismConfig
from agent_economy.errors import EconomyError, unknown
from agent_economy.members import build_mechanism
from agent_economy.metrics.token_value import NAMES
from agent_economy.policies import POLICIES
from simulations.reallocation.config import ReallocationConfig


def check(config: ReallocationConfig) -> None:
    """Refuse unknown mechanisms, scopes, policies and values, and what is listed twice.

    Raises:
        EconomyError: with the nearest name that is known.
    """
    markets = []
    for market in config.markets:
        build_mechanism(MechanismConfig(name=market.mechanism, scope=market.scope))
        for policy in market.policies:
            POLICIES.get(policy)
            markets.append("/".join((market.mechanism, market.scope, policy)))
    for value in config.values:
        if value not in NAMES:
            raise unknown("value", value, NAMES)
    for name, listed in (
        ("markets", markets),
        ("values", config.values),
        ("budgets", config.budgets),
        ("seeds", config.seeds),
    ):
        twice = [each for place, each in enumerate(listed) if each in listed[:place]]  # type: ignore[operator, index]
        if twice:
            raise EconomyError(f"{name}: {twice[0]} is listed twice; remove one")
