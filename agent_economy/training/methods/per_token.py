"""Methods that decide token by token: an economy's market clears in every layer."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from agent_economy.config import EconomyConfig, MechanismConfig, Named, WalletConfig
from agent_economy.economy import Economy
from agent_economy.errors import EconomyError
from agent_economy.policies.learned import LearnedPolicy, ranked
from agent_economy.policies.trainable import TrainablePolicy
from agent_economy.training.bench import Bench
from agent_economy.training.methods.base import Method
from agent_economy.training.schedule import annealed, geometric

_READ_STEP = 4.0
"""Adam's step of a matrix that reads hidden states, times their width, over that of other gates."""

_POSTING_ROWS = 2048
"""Training rows that the last price is set on: it has to hold on others to half a percent."""

#: Wallets that bind would turn a shortage of credits into one of compute: here FLOPs alone do.
_DEEP_POCKETS = WalletConfig(endowment_credits=1e15, income=Named(name="flat"))


class PerToken(Method):
    """Any policy with parameters in any market with a relaxed form.

    Args:
        bench: what all methods start from.
        policy: who bids how.
        mechanism: how every layer's market clears.
        anneal: share of the training over which the budget shrinks.
        temperature: softness of the gates at the start and at the end, credits per GFLOP.
    """

    name = "per_token"

    def __init__(
        self,
        bench: Bench,
        policy: str,
        mechanism: str,
        options: dict[str, Any] | None = None,
        scope: str = "sequence",
        anneal: float = 0.4,
        temperature: tuple[float, float] = (0.1, 0.02),
    ) -> None:
        super().__init__(bench)
        self.anneal, self.temperature = anneal, temperature
        config = EconomyConfig(
            block_size=bench.settings.block_size,
            budget_fraction=bench.settings.budget,
            mechanism=MechanismConfig(name=mechanism, scope=scope, options=options or {}),
            policy=Named(name=policy, options={"per_token": True} if policy == "learned" else {}),
            wallet=_DEEP_POCKETS,
            seed=bench.settings.seed,
        )
        # Not a child module: its model is the one that is trained anyway.
        self._hidden_economy = [Economy.from_model(bench.model, config)]
        self.policy = self._founded.policies[0]
        self._start()
        self.market = [self._founded.market][0]
        self.budget = 1.0

    @property
    def _founded(self) -> Economy:
        return self._hidden_economy[0]

    def _start(self) -> None:
        """Valuations to begin with."""
        bench, shape = self.bench, self.bench.adapter.shape
        gflops_YN = bench.flops_YN.double() / bench.typical / 1e9
        if isinstance(self.policy, LearnedPolicy):
            density_YN = ranked(bench.fisher_YN / bench.flops_YN)
            self.policy.start(density_YN, gflops_YN, shape.hidden)
            self.policy.slope_YN.requires_grad_(False)
        elif isinstance(self.policy, TrainablePolicy):
            self.policy.start(shape.hidden, gflops_YN, shape.heads)
        else:
            raise EconomyError(
                f"policy {self.policy.name!r} has nothing to train; give learned, router or "
                "learner_gate"
            )

    def begin(self, progress: float, step: int) -> None:
        """Budget and softness of the step."""
        self.budget = annealed(self.bench.settings.budget, progress, self.anneal)
        # At the full budget no market is run and nothing could be learned.
        self._founded.market.budget_fraction = min(self.budget, 0.99)
        self._founded.market.step = step  # what draws depend on, in a resumed training too
        self._founded.market.temperature = geometric(*self.temperature, progress)

    def run(self, inputs: dict[str, Any]) -> tuple[Any, Tensor | None]:
        """One forward of the economy."""
        output = self._founded(**inputs)
        receipt = output.receipt
        self._spend = receipt.flops_fraction
        return output, torch.tensor(self._spend)

    def groups(self) -> list[dict[str, Any]]:
        """What reads hidden states steps by less: all of its inputs add up in one bid."""
        rate, width = self.bench.settings.gate_learning_rate, self.bench.adapter.shape.hidden
        own = [(name, each) for name, each in self.named_parameters() if each.requires_grad]
        reads = [each for name, each in own if "weight" in name]
        rest = [each for name, each in own if "weight" not in name]
        steps = ((rest, rate), (reads, rate * _READ_STEP / width))
        return [{"params": p, "lr": lr, "weight_decay": 0.0} for p, lr in steps if p]

    def report(self) -> dict[str, float]:
        """Budget and spend of the last step."""
        return {"budget": self.budget, "spend": self._spend}

    def economy(self) -> Economy:
        """The economy that was trained, hard from now on."""
        self.policy.eval()
        economy = Economy.from_model(self.bench.model, self._founded.config)
        economy.set_policy(self.policy)
        # Wallets start afresh; what the mechanism has learned stays.
        economy.market.states = self._founded.market.states
        return economy


class Posted(PerToken):
    """The economy with a valuation per agent and token: one price for all layers, by dual ascent.

    After every step the price moves with the ratio of spend to budget,
    ``price * exp(rate * (spend / budget - 1))``; at the end it is set so that hard spend on
    training rows keeps to the budget.

    Args:
        bench: what all methods start from.
        rate: of the dual step.
        noise: scale of the noise on valuations at the start; it falls to 0 at three quarters.
        straight_through: hard gates with a soft gradient; else soft gates.
        slack: share of the budget that the price leaves unspent on training rows.
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
    ) -> None:
        self.rate, self.noise, self.slack = rate, noise, slack
        options = {"price": 0.02, "straight_through": straight_through}
        super().__init__(
            bench, "learned", "fixed_price", options, anneal=anneal, temperature=temperature
        )
        self.register_buffer("price", torch.tensor(0.02, dtype=torch.float64))

    def begin(self, progress: float, step: int) -> None:
        """As for all, and post the price."""
        super().begin(progress, step)
        assert isinstance(self.policy, LearnedPolicy)
        self.policy.noise = self.noise * max(0.0, 1 - progress / 0.75)
        _post(self._founded, math.log(float(self.price)))

    def after(self, flops_fraction: Tensor | None) -> None:
        """The dual step."""
        ratio = float(flops_fraction) / self.budget if flops_fraction is not None else 1.0
        self.price = self.price * math.exp(self.rate * max(-1.0, min(1.0, ratio - 1)))

    def report(self) -> dict[str, float]:
        """Budget, spend and price of the last step."""
        return {**super().report(), "price": float(self.price)}

    def economy(self) -> Economy:
        """The trained economy at the lowest price that keeps to the budget on training rows."""
        economy = super().economy()
        _post(economy, math.log(float(self.price)))
        budget = self.bench.settings.budget * (1 - self.slack)
        post_price(economy, self.bench.sample(_POSTING_ROWS), budget)
        return economy


@torch.no_grad()
def post_price(
    economy: Economy, batches: list[dict[str, Any]], budget: float, halvings: int = 8
) -> float:
    """Post the lowest price at which hard spend on the batches keeps to a budget; returns it.

    From where the price stands, steps that double until the budget lies between two prices, then
    halving, all on the price's logarithm.

    Args:
        economy: with the mechanism ``fixed_price``.
        batches: inputs of the model.
        budget: agent FLOPs over dense ones.
        halvings: passes over the batches once two prices are found.

    Raises:
        EconomyError: no price keeps to the budget: the bidding alone costs more.
    """

    def overspends(log_price: float) -> bool:
        _post(economy, log_price)
        with economy.trying():
            receipts = [economy(**batch).receipt for batch in batches]
        spend = sum(each.spend_flops for each in receipts)
        return bool(spend > budget * sum(each.dense_flops for each in receipts))

    low = high = math.log(float(economy.market.states[0]["price"]))
    step = 0.2
    while overspends(high):
        low, high, step = high, high + step, step * 2
        if step > 1e3:
            raise EconomyError(
                f"no price keeps spend to {budget:g} of dense FLOPs; give a larger --budget"
            )
    while low == high or not overspends(low):
        low, high, step = low - step, low, step * 2
        if step > 1e3:
            break  # everything is bought at any price
    for _ in range(halvings):
        middle = (low + high) / 2
        low, high = (middle, high) if overspends(middle) else (low, middle)
    _post(economy, high)
    return math.exp(high)


def _post(economy: Economy, log_price: float) -> None:
    for state in economy.market.states:
        state["price"] = torch.tensor(math.exp(log_price), dtype=torch.float64)
