"""Ways to allocate compute in training, the economy's and its rivals'; one file each."""

from __future__ import annotations

from agent_economy.registry import Registry
from agent_economy.training.methods.base import Method

METHODS = Registry("method", "agent_economy.training.methods", Method)  # type: ignore[type-abstract]

__all__ = ["METHODS", "Method"]
