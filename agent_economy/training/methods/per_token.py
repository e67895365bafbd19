"""Any trainable policy in any market with a relaxed form: decided token by token, layer by layer.

The penalty objective adds ``lambda * expected FLOPs / dense FLOPs``, whose gradient runs through
the relaxed gates. One model for many budgets is told the budget of each batch: supply follows it,
and bidders that look at it (``learned``) learn what it changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from agent_economy.config import EconomyConfig, MechanismConfig, Named, WalletConfig
from agent_economy.economy import Economy
from agent_economy.errors import EconomyError
from agent_economy.policies.learned import LearnedPolicy, ranked
from agent_economy.policies.trainable import TrainablePolicy
from agent_economy.training.bench import Bench
from agent_economy.training.methods.base import SCARCE, Method
from agent_economy.training.methods.options import check_options
from agent_economy.training.schedule import annealed, drawn, geometric

if TYPE_CHECKING:
    from agent_economy.receipt import Receipt

_READ_STEP = 4.0
"""Adam's step of a matrix that reads hidden states, times their width, over that of other gates."""

#: FLOPs alone are scarce in training, and afterwards a score must not depend on how many forwards
#: came before it: with wallets that run dry it would (see docs/training.md). A million is
#: millions of forwards' payments, and leaves the books digits enough to show every one of them.
_DEEP_POCKETS = WalletConfig(endowment_credits=1e6, income=Named(name="flat"))


class PerToken(Method):
    """Any policy with parameters in any market with a relaxed form.

    Args:
        bench: what all methods start from.
        policy: who bids how.
        mechanism: how every layer's market clears.
        anneal: share of the training over which the budget shrinks.
        temperature: softness of the gates at the start and at the end, credits per GFLOP.
        penalty: ``lambda`` of the penalty objective.
        budgets: draw the budget of each batch between these two (log-uniformly) and tell it to the
            bidders: one model for many budgets. It does not shrink from 1 first.
        revive: let agents whose valuation fell below 0 climb back (``LearnedPolicy.revives``).
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
        penalty: float = 0.0,
        budgets: tuple[float, float] | None = None,
        revive: bool = False,
    ) -> None:
        super().__init__(bench)
        check_options(
            self.name,
            anneal=anneal,
            temperature=temperature,
            penalty=penalty,
            budgets=budgets,
            revive=revive,
        )
        self.anneal, self.temperature = anneal, temperature
        self.lam, self.budgets, self.revive = penalty, budgets, revive
        config = EconomyConfig(
            block_size=bench.settings.block_size,
            budget_fraction=bench.settings.budget,
            latency=bench.latency,
            mechanism=MechanismConfig(name=mechanism, scope=scope, options=options or {}),
            policy=Named(name=policy, options={"per_token": True} if policy == "learned" else {}),
            wallet=_DEEP_POCKETS,
            seed=bench.settings.seed,
        )
        # Not a child module: its model is the one that is trained anyway.
        self._hidden_economy = [Economy.from_model(bench.model, config)]
        self.policy = self._founded.policies[0]
        self._check_budget()
        self._start()
        self.budget, self._spend = 1.0, torch.tensor(torch.nan)

    @property
    def _founded(self) -> Economy:
        return self._hidden_economy[0]

    def _check_budget(self) -> None:
        """Refuse a budget that leaves a shortest row's market nothing to sell.

        What a layer's supply has left once bidding and clearing are paid for must buy one token of
        the cheapest agent, in one layer at least. A market that supply cannot pay for is never
        run, and everybody would be left out without a word.

        Raises:
            EconomyError: it does in no layer.
        """
        bench, market = self.bench, self._founded.market
        budget = min([bench.settings.budget, *(self.budgets or ())])
        if budget >= 1:
            return
        market.budget_fraction = budget
        shortest_BL = torch.ones(1, bench.shortest, dtype=torch.bool, device=bench.device)
        offer = market.offered(shortest_BL)
        for layer, tariff in enumerate(offer.tariffs):
            cost_N = tariff.token_flops_BNL[0].amin(-1)
            fee_U = tariff.setup_flops_BU[0]
            cost_N[: tariff.fee_agents] += fee_U.repeat_interleave(tariff.group)
            if offer.run_Y[layer] and offer.for_agents(layer).sum() >= cost_N.min():
                return
        raise bench.too_little(budget)

    def _start(self) -> None:
        """Valuations to begin with."""
        bench, shape = self.bench, self.bench.adapter.shape
        gflops_YN = bench.flops_YN.double() / bench.typical / 1e9
        if isinstance(self.policy, LearnedPolicy):
            density_YN = ranked(bench.fisher_YN / bench.flops_YN)
            self.policy.start(density_YN, gflops_YN, shape.hidden)
            self.policy.slope_YN.requires_grad_(self.budgets is not None)
            self.policy.revives = self.revive
        elif isinstance(self.policy, TrainablePolicy):
            self.policy.start(shape.hidden, gflops_YN, shape.heads)
        else:
            raise EconomyError(
                f"policy {self.policy.name!r} has nothing to train; give learned, router or "
                "learner_gate"
            )

    def begin(self, progress: float, step: int) -> None:
        """Budget and softness of the step."""
        if self.budgets:
            self.budget = drawn(self.budgets, self.bench.seed("budget", step))
        else:
            self.budget = annealed(self.bench.settings.budget, progress, self.anneal)
        self._founded.market.budget_fraction = min(self.budget, SCARCE)
        self._founded.market.step = step  # what draws depend on, in a resumed training too
        self._founded.market.temperature = geometric(*self.temperature, progress)

    def run(self, inputs: dict[str, Any]) -> tuple[Any, Tensor | None]:
        """One forward of the economy."""
        output = self._founded(**inputs)
        spend = expected_share(output.receipt)
        if self._founded.market.mechanism.guarantees.straight_through:
            spend = executed_share(output.receipt) + (spend - spend.detach())
        self._spend = spend.detach()
        return output, spend.float()

    def groups(self) -> list[dict[str, Any]]:
        """What reads hidden states steps by less: all of its inputs add up in one bid."""
        rate, width = self.bench.settings.gate_learning_rate, self.bench.adapter.shape.hidden
        own = [(name, each) for name, each in self.named_parameters() if each.requires_grad]
        reads = [each for name, each in own if "weight" in name]
        rest = [each for name, each in own if "weight" not in name]
        steps = ((rest, rate), (reads, rate * _READ_STEP / width))
        return [{"params": p, "lr": lr, "weight_decay": 0.0} for p, lr in steps if p]

    def report(self) -> dict[str, float | Tensor]:
        """Budget and spend of the last step."""
        return {"budget": self.budget, "spend": self._spend}

    def kept(self) -> dict[str, Tensor]:
        """What the mechanism has learned, wallets included; the policy is a module of its own."""
        state = self._founded.economy_state().items()
        return {key: value.clone() for key, value in state if not key.startswith("policy.")}

    def take_up(self, kept: dict[str, Tensor]) -> None:
        """As for all."""
        if kept:
            self._founded.load_economy_state(kept)

    def economy(self) -> Economy:
        """The economy that was trained, hard from now on."""
        self.policy.eval()
        economy = Economy.from_model(self.bench.model, self._founded.config)
        economy.set_policy(self.policy)
        # Wallets start afresh; what the mechanism has learned stays.
        economy.market.states = self._founded.market.states
        return economy


def expected_share(receipt: Receipt) -> Tensor:
    """What the gates of a forward are charged over all agents' charge, as far as they are open.

    ``sum_tn gate_tn FLOPs_tn + sum_u max_t gate_tu FLOPs_u``, set-up as wide as its widest gate,
    and the market's own; float64, differentiable where the gates are. (Milliseconds instead of
    FLOPs where those are charged.)
    """
    clearings = [each for each in receipt.clearings if each is not None]
    return _share(receipt, [each.spend_flops.sum() for each in clearings])


def executed_share(receipt: Receipt) -> Tensor:
    """What executors must compute over dense FLOPs: everything whose gate is not 0; float64.

    ``Receipt.charged_fraction`` without asking the device.
    """
    layers = range(len(receipt.clearings))
    served = [receipt.agent_charge_BLN(layer).sum() for layer in layers]
    return _share(receipt, [*served, *(receipt.setup_charge_BU(layer).sum() for layer in layers)])


def _share(receipt: Receipt, spends: list[Tensor]) -> Tensor:
    tariffs = receipt.tariffs
    asked = [
        flops * tariff.mask_BL.sum() for flops, tariff in zip(receipt.due_Y, tariffs, strict=True)
    ]
    dense = torch.stack([tariff.dense_flops_BL.sum() for tariff in tariffs]).sum()
    spent = torch.stack([each.double() for each in (*spends, *asked)]).sum()
    return spent / dense.clamp(min=1).double()
