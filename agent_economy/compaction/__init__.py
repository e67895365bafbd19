"""Physically smaller models: agents that never trade leave.

Names load on first use, so that transformers can be told of the config alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent_economy.compaction.models import load_compacted
    from agent_economy.compaction.returning import write_back
    from agent_economy.compaction.shrinking import shrink

_HOMES = {"load_compacted": "models", "shrink": "shrinking", "write_back": "returning"}
__all__ = ["load_compacted", "shrink", "write_back"]


def __getattr__(name: str) -> Any:
    """Load a public name from its home module on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
