"""Mechanisms and policies by their config, and which of them fit which model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_economy.config import MechanismConfig, Named
from agent_economy.errors import EconomyError
from agent_economy.mechanisms import MECHANISMS, Mechanism, Scope
from agent_economy.policies import POLICIES, Policy
from agent_economy.registry import build
from agent_economy.runs.seeds import seed_for

if TYPE_CHECKING:
    from agent_economy.adapters import Adapter


def build_policy(config: Named, seed: int) -> Policy:
    """A policy from its config."""
    return build(POLICIES, config, seed=seed_for(seed, "policy", config.name))


def build_mechanism(config: MechanismConfig) -> Mechanism:
    """A mechanism from its config."""
    return build(MECHANISMS, config, scope=config.scope)


def mechanism_for(adapter: Adapter, config: MechanismConfig) -> Mechanism:
    """A mechanism from its config, for this model.

    Raises:
        EconomyError: it is unknown, or looks at later tokens although the model is a decoder.
    """
    mechanism = build_mechanism(config)
    if adapter.shape.causal and not mechanism.guarantees.causal:
        raise EconomyError(
            f"mechanism {config.name!r} at scope {config.scope!r} looks at later tokens, but "
            f"{adapter.name} is a decoder; choose a causal one: "
            + ", ".join(f"{name} ({scope})" for name, scope in causal_markets())
        )
    return mechanism


def causal_markets() -> list[tuple[str, Scope]]:
    """Every mechanism and scope whose allocations do not change with later tokens."""
    return [
        (name, scope)
        for name, member in MECHANISMS.members().items()
        for scope in member.scopes
        if member(scope).guarantees.causal
    ]
