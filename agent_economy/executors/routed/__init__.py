"""Per-token allocations executed for real: what nobody serves is not computed."""

from agent_economy.executors.routed.executor import RoutedExecutor

__all__ = ["RoutedExecutor"]
