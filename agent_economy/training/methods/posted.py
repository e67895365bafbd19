"""The economy with a valuation per agent and token: one price for all layers, by dual ascent.

After every step the price moves with the ratio of spend to budget,
``price * exp(rate * (spend / budget - 1))``; at the end it is set so that hard spend on training
rows keeps to the budget.

With many budgets there is a price for each: its logarithm is linear in the logarithm of the budget
between `KNOTS` of them, and a step moves the knots on either side of the batch's budget by their
share in its price. With the penalty objective one price stands, and what spend comes to is the
economy's budget.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from agent_economy.economy import Economy
from agent_economy.errors import EconomyError
from agent_economy.policies.learned import LearnedPolicy, ranked
from agent_economy.training.bench import Bench
from agent_economy.training.methods.base import SCARCE
from agent_economy.training.methods.options import check_options
from agent_economy.training.methods.per_token import PerToken
from agent_economy.training.methods.posting import POSTING_ROWS, post, post_price, spend_share

KNOTS = 5
"""Prices that are learned where there are many budgets."""

_START = 0.02
"""The first price where the budget shrinks from 1; valuations begin between 0 and 1."""


class Posted(PerToken):
    """See the module's heading.

    Args:
        bench: what all methods start from.
        rate: of the dual step.
        noise: scale of the noise on valuations at the start; it falls to 0 at three quarters.
        straight_through: hard gates with a soft gradient; else soft gates.
        slack: share of the budget that the price leaves unspent on training rows.
        anneal: share of the training over which the budget shrinks.
        temperature: softness of the gates at the start and at the end, credits per GFLOP.
        price: None: the price follows the budget. A number: this price stands, and ``penalty``
            says what FLOPs cost.
        penalty: ``lambda`` of the penalty objective.
        budgets: draw the budget of each batch between these two: one model for many budgets.
        revive: let agents whose valuation fell below 0 climb back.

    Raises:
        EconomyError: a price that stands beside many budgets, or is not above 0.
    """

    name = "posted"
    price: Tensor

    def __init__(
        self,
        bench: Bench,
        rate: float = 0.05,
        noise: float = 0.03,
        straight_through: bool = True,
        slack: float = 0.008,
        anneal: float = 0.4,
        temperature: tuple[float, float] = (0.1, 0.03),
        price: float | None = None,
        penalty: float = 0.0,
        budgets: tuple[float, float] | None = None,
        revive: bool = False,
    ) -> None:
        check_options(
            self.name,
            rate=rate,
            noise=noise,
            straight_through=straight_through,
            slack=slack,
            price=price,
            budgets=budgets,
        )
        if price is not None and budgets:
            raise EconomyError(
                f"posted: price {price}, budgets {budgets}; give a price above 0 or many budgets"
            )
        self.rate, self.noise, self.slack = rate, noise, slack
        self.stands = price is not None
        start = _START if price is None else price
        super().__init__(
            bench,
            "learned",
            "fixed_price",
            {"price": start, "straight_through": straight_through},
            anneal=anneal,
            temperature=temperature,
            penalty=penalty,
            budgets=budgets,
            revive=revive,
        )
        first = torch.tensor(start, dtype=torch.float64, device=bench.device)
        self.register_buffer("price", self._first_prices(bench) if budgets else first)

    def _check_budget(self) -> None:
        """As for all, where a budget is heeded at all."""
        if not self.stands:
            super()._check_budget()

    @property
    def _knots(self) -> Tensor:
        """Budgets between which prices are interpolated, (KNOTS,)."""
        assert self.budgets is not None
        low, high = (math.log(each) for each in self.budgets)
        return torch.linspace(low, high, KNOTS, dtype=torch.float64).exp()

    def _first_prices(self, bench: Bench) -> Tensor:
        """At each knot, the density at which agents of that or more take up the budget."""
        density_A = ranked(bench.fisher_YN / bench.flops_YN).flatten()
        flops_A = bench.flops_YN.flatten().double()
        order_A = density_A.argsort(descending=True)
        share_A = flops_A[order_A].cumsum(0) / flops_A.sum()
        place_K = (share_A <= self._knots.to(share_A)[:, None]).sum(1).clamp(max=len(order_A) - 1)
        return density_A[order_A][place_K].clamp(min=_START)

    def price_at(self, budget: float) -> Tensor:
        """Credits per GFLOP that a batch of this budget pays."""
        if not self.budgets:
            return self.price
        return (self._weight_K(budget) * self.price.log()).sum().exp()

    def _weight_K(self, budget: float) -> Tensor:
        """How much each knot counts at a budget."""
        place = self._place(budget)
        knot_K = torch.arange(KNOTS, dtype=torch.float64, device=self.price.device)
        return (1 - (knot_K - place).abs()).clamp(min=0)

    def _place(self, budget: float) -> float:
        assert self.budgets is not None
        low, high = (math.log(each) for each in self.budgets)
        return min(max((math.log(budget) - low) / (high - low), 0.0), 1.0) * (KNOTS - 1)

    def begin(self, progress: float, step: int) -> None:
        """As for all, and post the price."""
        super().begin(progress, step)
        if self.stands:
            self.budget = 1.0
            self._founded.market.budget_fraction = SCARCE
        assert isinstance(self.policy, LearnedPolicy)
        self.policy.noise = self.noise * max(0.0, 1 - progress / 0.75)
        post(self._founded, self.price_at(self.budget))

    def after(self, flops_fraction: Tensor | None) -> None:
        """The dual step."""
        if flops_fraction is None or self.stands:
            return
        excess = (flops_fraction.to(self.price) / self.budget - 1).clamp(-1, 1)
        share = self._weight_K(self.budget) if self.budgets else 1.0
        self.price = self.price * torch.exp(self.rate * excess * share)

    def report(self) -> dict[str, float | Tensor]:
        """Budget, spend and price of the last step."""
        return {**super().report(), "price": self.price_at(self.budget)}

    def economy(self) -> Economy:
        """The trained economy at the lowest price that keeps to the budget on training rows.

        Raises:
            EconomyError: no price does, or agents spend too little to pay for the bidding.
        """
        economy = super().economy()
        budget = self.bench.settings.budget
        batches = self.bench.sample(POSTING_ROWS)
        if not self.stands:
            post(economy, self.price_at(budget))
            post_price(economy, batches, budget * (1 - self.slack))
            return economy
        # What the penalty came to, in steps of a hundredth.
        post(economy, self.price)
        economy.market.budget_fraction = SCARCE
        spent = spend_share(economy, batches)
        budget = math.ceil(100 * spent * (1 + self.slack)) / 100
        if budget > SCARCE:
            post_price(economy, batches, SCARCE * (1 - self.slack))
            return economy
        economy.market.budget_fraction = budget
        if spend_share(economy, batches) != spent:
            raise EconomyError(
                f"at penalty {self.lam:g} agents spend {spent:.4f} of dense FLOPs, too little to "
                "pay for the bidding; lower -s method.options.penalty"
            )
        return economy
