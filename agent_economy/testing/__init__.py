"""Contract test classes that a third party's mechanism or policy can inherit.

Install the extra ``test``, inherit ``MechanismContract`` or ``PolicyContract`` in a class whose
name starts with ``Test``, and give ``make``; pytest does the rest. ``markets`` is the Hypothesis
strategy behind the first, and ``Market`` one of its markets, for tests of one's own.
"""

from agent_economy.testing.markets import Market, markets
from agent_economy.testing.mechanism_contract import MechanismContract
from agent_economy.testing.policy_contract import PolicyContract

__all__ = ["Market", "MechanismContract", "PolicyContract", "markets"]
