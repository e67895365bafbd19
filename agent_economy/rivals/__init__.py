"""Static masks to beat: agents chosen once, which then serve every token; one file each."""

from __future__ import annotations

from agent_economy.registry import Registry
from agent_economy.rivals.allowance import Allowance
from agent_economy.rivals.base import Evidence, Rival

RIVALS = Registry("rival", "agent_economy.rivals", Rival)  # type: ignore[type-abstract]

__all__ = ["RIVALS", "Allowance", "Evidence", "Rival"]
