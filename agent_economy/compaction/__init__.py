"""Physically smaller models: agents that never trade leave."""

from agent_economy.compaction.shrink import shrink
from agent_economy.compaction.write_back import write_back

__all__ = ["shrink", "write_back"]
