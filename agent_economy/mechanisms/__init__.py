"""How compute is allocated and priced: one file each."""

from __future__ import annotations

from agent_economy.mechanisms.base import Clearing, Guarantees, Mechanism, Scope, State
from agent_economy.registry import Registry

MECHANISMS = Registry("mechanism", "agent_economy.mechanisms", Mechanism)  # type: ignore[type-abstract]

__all__ = ["MECHANISMS", "Clearing", "Guarantees", "Mechanism", "Scope", "State"]
