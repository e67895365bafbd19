"""Contract test classes that a third party's mechanism can inherit.

Install the extra ``test``, inherit ``MechanismContract`` in a class whose name starts with
``Test``, and give ``make``; pytest does the rest. ``markets`` is the Hypothesis strategy behind
it, and ``Market`` one of its markets, for tests of one's own.
"""

from agent_economy.testing.markets import Market, markets
from agent_economy.testing.mechanism_contract import MechanismContract

__all__ = ["Market", "MechanismContract", "markets"]
