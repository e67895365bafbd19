"""The economy with one valuation per agent: a standing market inside every forward.

Valuations start at the rank of the agents' Fisher information per FLOP. Each step they are shaken
by noise and a standing market clears: at the budget, with the gradient through the price; or, for
the penalty objective, at a fixed price, with ``lambda * expected FLOPs / dense FLOPs`` added to the
loss. The budget shrinks to its target; when it is reached and has settled, who is served stands,
and the training goes on with a physically smaller model.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from agent_economy.errors import EconomyError
from agent_economy.mechanisms import Mechanism
from agent_economy.mechanisms.fixed_price import FixedPrice
from agent_economy.mechanisms.greedy_density import GreedyDensity
from agent_economy.mechanisms.uniform_price import UniformPrice
from agent_economy.policies.base import Features
from agent_economy.policies.learned import LearnedPolicy, ranked
from agent_economy.rivals import Allowance
from agent_economy.rivals.knapsack import best_plan
from agent_economy.training.bench import Bench
from agent_economy.training.methods.base import SCARCE, Method, gated, planned_economy
from agent_economy.training.methods.options import check_options
from agent_economy.training.schedule import annealed, drawn, geometric

if TYPE_CHECKING:
    from agent_economy.economy import Economy


class StandingMarketMethod(Method):
    """Agents buy service for everything or nothing; see the module's heading.

    Args:
        bench: what all methods start from.
        anneal: share of the training over which the budget shrinks to its target.
        settle: share of the training after which the plan stands; above 1: never before the end.
        temperature: softness of the gates at the start and at the end, credits per GFLOP, where
            valuations begin between 0 and 1.
        noise: scale of the noise on valuations at the start; it falls to 0 where the plan stands.
        straight_through: hard gates with a soft gradient; else soft gates.
        price: None: the market clears at the budget. A number: this price stands, and ``penalty``
            says what FLOPs cost.
        penalty: ``lambda`` of the penalty objective.
        budgets: draw the budget of each batch between these two (log-uniformly) and tell it to the
            bidders: one model for many budgets. It never settles.
        revive: let agents whose valuation fell below 0 climb back (``LearnedPolicy.revives``).
    """

    name = "market"

    def __init__(
        self,
        bench: Bench,
        anneal: float = 0.35,
        settle: float = 0.5,
        temperature: tuple[float, float] = (0.1, 0.02),
        noise: float = 0.03,
        straight_through: bool = True,
        price: float | None = None,
        penalty: float = 0.0,
        budgets: tuple[float, float] | None = None,
        revive: bool = False,
    ) -> None:
        super().__init__(bench)
        check_options(
            self.name,
            anneal=anneal,
            settle=settle,
            temperature=temperature,
            noise=noise,
            straight_through=straight_through,
            price=price,
            penalty=penalty,
            budgets=budgets,
            revive=revive,
        )
        if not 0 < anneal <= settle:
            raise EconomyError(
                f"market: anneal {anneal}, settle {settle}; the plan cannot stand before the "
                "budget is reached, so give 0 < anneal <= settle"
            )
        if price is None:
            bench.check_budget(min([bench.settings.budget, *(budgets or ())]))
        self.anneal, self.settle_at = anneal, settle if budgets is None else 2.0
        self.temperature, self.noise = temperature, noise
        self.price, self.lam, self.budgets = price, penalty, budgets
        self.policy = LearnedPolicy(seed=bench.seed("noise") % 2**31)
        self.policy.revives = revive
        density_YN = bench.fisher_YN / bench.flops_YN
        gflops_YN = bench.flops_YN.double() / 1e9
        self.policy.start(ranked(density_YN), gflops_YN, bench.adapter.shape.hidden)
        self.policy.density_YN.requires_grad_(True)
        self.policy.slope_YN.requires_grad_(budgets is not None)
        self.straight_through = straight_through
        self.budget, self._step = 1.0, 0
        self._price: float | Tensor = math.nan

    def begin(self, progress: float, step: int) -> None:
        """Budget, softness and noise of the step."""
        settings, end = self.bench.settings, min(self.settle_at, 1.0)
        self._step, self._softness = step, geometric(*self.temperature, progress / end)
        self.policy.noise = self.noise * max(0.0, 1 - progress / end)
        if self.budgets:
            self.budget = drawn(self.budgets, self.bench.seed("budget", step))
        else:
            self.budget = annealed(settings.budget, progress, self.anneal)

    def bids(self, budget: float) -> Tensor:
        """What every agent offers for a typical row, (Y, N)."""
        return standing_bids(self.policy, budget, self._step)

    def run(self, inputs: dict[str, Any]) -> tuple[Any, Tensor | None]:
        """Clear, then compute under the gates."""
        with torch.autocast(self.bench.device.type, enabled=False):
            bid_YN = self.bids(self.budget)
            contract = self.bench.standing.clear(
                self._mechanism(), bid_YN, min(self.budget, SCARCE), self._softness
            )
        self._price = contract.price.detach()
        return gated(self.bench, contract.gate_YN, inputs), contract.flops_fraction

    def _mechanism(self) -> Mechanism:
        if self.price is not None:
            return FixedPrice(price=self.price, straight_through=self.straight_through)
        return GreedyDensity() if self.straight_through else UniformPrice()

    def settle(self) -> Tensor:
        """The plan of greatest declared value within the budget; at a price, who covers it."""
        return self.plan(self.bench.settings.budget)

    @torch.no_grad()
    def plan(self, budget: float) -> Tensor:
        """Who is served at a budget by the valuations as they are."""
        self.policy.eval()
        bid_YN = self.bids(budget)
        self.policy.train()
        if self.price is not None:
            gate_YN = self.bench.standing.clear(self._mechanism(), bid_YN, SCARCE).gate_YN
            return self.bench.checked(gate_YN.bool())
        plan_YN = standing_plan(self.policy, budget, self.bench.allowance(budget))
        return self.bench.checked(plan_YN).to(self.bench.device)

    def report(self) -> dict[str, float | Tensor]:
        """Budget and price of the last step."""
        return {"budget": self.budget, "price": self._price}

    def economy(self) -> Economy:
        """The plan at its budget, valuations kept beside."""
        bench, plan_YN = self.bench, self.plan_YN
        budget = bench.settings.budget
        if self.price is not None:  # what the penalty came to
            budget = bench.least_budget(plan_YN)
        economy = planned_economy(bench, plan_YN, budget)
        policy = LearnedPolicy(seed=0)
        policy.restore(self.policy.state_dict())
        economy.set_policy(policy)
        return economy


def standing_bids(policy: LearnedPolicy, budget: float, step: int = 0) -> Tensor:
    """What every agent offers for a typical row, (Y, N), whatever its tokens."""
    layers, agents = policy.density_YN.shape
    device = policy.density_YN.device
    nothing_BLD = torch.zeros(1, 1, policy.weight_YDN.shape[1], device=device)
    everybody, no_limit = torch.arange(agents, device=device), torch.empty(0, device=device)
    features = (
        Features(layer, step, nothing_BLD, everybody, no_limit, None, 0, budget)
        for layer in range(layers)
    )
    return torch.stack([policy.bid(each)[0, 0] for each in features])


@torch.no_grad()
def standing_plan(policy: LearnedPolicy, budget: float, allowance: Allowance) -> Tensor:
    """The plan of greatest declared value that an allowance lets pass, exactly."""
    training = policy.training
    policy.eval()
    plan_YN = best_plan(standing_bids(policy, budget).cpu(), allowance)
    policy.train(training)
    return plan_YN
