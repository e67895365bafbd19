"""The front door: a pretrained transformer run as an internal economy."""

from agent_economy.economy.economy import Economy

__all__ = ["Economy"]
