"""Bankruptcy rules: what becomes of agents that stay poor; one file each, found by name."""

from agent_economy.agents.bankruptcy.base import BANKRUPTCY_RULES, BankruptcyRule

__all__ = ["BANKRUPTCY_RULES", "BankruptcyRule"]
