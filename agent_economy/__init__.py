"""A pretrained transformer run as an internal economy.

Importing the package is cheap: torch and transformers load with the first name that needs them.
"""

from __future__ import annotations

import importlib
from typing import Any

from agent_economy import late

__version__ = "0.1.0"

_HOMES = {
    "Economy": "agent_economy.economy",
    "EconomyConfig": "agent_economy.config",
    "EconomyError": "agent_economy.errors",
}
__all__ = ["Economy", "EconomyConfig", "EconomyError"]


def __getattr__(name: str) -> Any:
    """Load a public name from its home module on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'agent_economy' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


late.announce()
