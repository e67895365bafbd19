"""The market of one model: who bids, when contracts are made, what is settled."""

from agent_economy.market.market import Market, Timing

__all__ = ["Market", "Timing"]
