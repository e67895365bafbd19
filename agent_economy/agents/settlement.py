"""The end of a step: payments, taxes, income and bankruptcy, in this order."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from agent_economy.agents.bankruptcy import BankruptcyRule
from agent_economy.agents.income import IncomeRule
from agent_economy.agents.ledger import Ledger


@dataclass(frozen=True)
class Settlement:
    """Applies the rules of an economy to its ledger, once a step and without device reads.

    Args:
        ledger: the books, with the population they are for.
        income: what agents are due.
        bankruptcy: what becomes of those that stay poor.
    """

    ledger: Ledger
    income: IncomeRule
    bankruptcy: BankruptcyRule

    def settle(
        self,
        payment_A: Float[Tensor, " A"],
        served_A: Float[Tensor, " A"],
        contribution_A: Float[Tensor, " A"],
    ) -> None:
        """Close one step.

        Args:
            payment_A: credits each agent owes for its compute, within `Ledger.limit_A`.
            served_A: tokens each agent served.
            contribution_A: what each agent's work was worth, at least 0, any unit.
        """
        ledger, population = self.ledger, self.ledger.population
        population.record(served_A, contribution_A)
        ledger.pay(payment_A)
        ledger.tax()
        due_A = self.income.income(ledger.revenue, population.contribution_A, population.active_A)
        ledger.pay_income(due_A)
        self.bankruptcy.apply(ledger)
        ledger.close_step()
