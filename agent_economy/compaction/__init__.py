"""Physically smaller models: agents that never trade leave.

Names load on first use, so that transformers can be told of the config alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent_economy.compaction.models import load_compacted
    from agent_economy.compaction.shrink import shrink
    from agent_economy.compaction.write_back import write_back

_HOMES = {"load_compacted": "models", "shrink": "shrink", "write_back": "write_back"}
__all__ = ["load_compacted", "shrink", "write_back"]


def __getattr__(name: str) -> Any:
    """Load a public name from its home module on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found  # over the module of the same name, which the import has put there
    return found
