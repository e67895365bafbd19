"""Income rules: what the treasury pays agents in a step; one file each, found by name."""

from agent_economy.agents.income.base import INCOME_RULES, IncomeRule

__all__ = ["INCOME_RULES", "IncomeRule"]
