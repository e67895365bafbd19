"""What every method starts from: the dense model, the rows, costs and evidence about its agents."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from agent_economy.adapters import Adapter
from agent_economy.costs.tariff import layer_tariffs
from agent_economy.errors import EconomyError
from agent_economy.executors.trace import trace
from agent_economy.market.standing import StandingMarket
from agent_economy.rivals import Allowance, Evidence
from agent_economy.runs.seeds import seed_for
from agent_economy.tasks.utility import LabelledScore, Perplexity, Utility
from agent_economy.training.batches import Rows, in_order
from agent_economy.training.forming import neuron_fisher, sort_neurons
from agent_economy.training.settings import TrainSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from agent_economy.config import LatencyConfig


@dataclass(frozen=True)
class Bench:
    """The start that all methods share.

    Attributes:
        settings: of the run.
        model: the dense model, which is trained on.
        adapter: where its agents live.
        rows: the training rows.
        metric: how the task is scored.
        shortest: tokens of the shortest row that the model will meet.
        longest: tokens of the longest.
        pooled: whether only the first token of the last layer is read.
        device: where the model is.
        latency: what agents take on a clock, where they are charged that; then costs here are not
            FLOPs but picoseconds (``costs.rates``).
    """

    settings: TrainSettings
    model: PreTrainedModel
    adapter: Adapter
    rows: Rows
    metric: str
    shortest: int
    longest: int
    pooled: bool
    device: torch.device
    latency: LatencyConfig | None = None

    def seed(self, *path: str | int) -> int:
        """A seed that depends on the run's own seed and on a path of names, and on nothing else."""
        return seed_for(self.settings.seed, "train", *path)

    @cached_property
    def layers(self) -> int:
        """How many layers the model has."""
        return len(self.adapter.sites)

    @cached_property
    def typical(self) -> int:
        """Tokens of a row on average, rounded."""
        return max(1, round(float(self.rows.lengths_B.mean())))

    def allowance(self, budget_fraction: float) -> Allowance:
        """What a static plan may spend on rows of any length met here."""
        return Allowance.of(
            self.adapter.shape,
            self.layers,
            budget_fraction,
            self.longest,
            shortest=self.shortest,
            pooled=self.pooled,
        )

    @cached_property
    def flops_YN(self) -> Tensor:
        """What each agent takes to serve all of a typical row, its share of set-up included."""
        real = torch.ones(1, self.typical, dtype=torch.bool)
        costs = []
        for tariff in layer_tariffs(self.adapter.shape, self.layers, real, pooled=self.pooled):
            flops_N = tariff.served_flops_BN[0].clone()
            fee_U = tariff.setup_flops_BU[0] // tariff.group
            flops_N[: tariff.fee_agents] += fee_U.repeat_interleave(tariff.group)
            costs.append(flops_N)
        return torch.stack(costs).to(self.device)

    @cached_property
    def standing(self) -> StandingMarket:
        """The market of whole agents."""
        return StandingMarket(self.flops_YN, int(self.flops_YN.sum()))

    def form(self) -> None:
        """Sort neurons into blocks of about equal worth, once, before anything is chosen."""
        with self._resting():
            generator = torch.Generator().manual_seed(self.seed("forming"))
            score_YF = neuron_fisher(
                self.adapter,
                self._batches,
                lambda output, batch: self._utility.loss(output, batch, generator),
            )
        sort_neurons(self.adapter, score_YF)

    @cached_property
    def evidence(self) -> Evidence:
        """Derivatives of the task's loss on some training rows, in evaluation mode."""
        with self._resting():
            seed = self.seed("evidence", "loss")
            found = trace(self.adapter, self._batches, self._utility.loss, probes=1, seed=seed)
            return Evidence(self.adapter, self._batches, found, self._utility)

    @cached_property
    def _utility(self) -> Utility:
        if self.metric == "perplexity":
            return Perplexity()
        return LabelledScore(self.metric, self.rows.labels_B.is_floating_point())

    @cached_property
    def _batches(self) -> list[dict[str, Any]]:
        return self.sample(self.settings.evidence)

    def sample(self, count: int) -> list[dict[str, Any]]:
        """Batches of so many training rows with their labels; all rows where there are fewer."""
        settings = self.settings
        draw = np.random.default_rng(self.seed("evidence"))
        chosen = np.sort(draw.permutation(len(self.rows))[:count])
        batches = []
        for places in in_order(self.rows.lengths_B[chosen], settings.batch_size):
            inputs, labels_B = self.rows.batch(chosen[places], self.device)
            batches.append(
                inputs if self.metric == "perplexity" else {**inputs, "labels": labels_B}
            )
        return batches

    @contextmanager
    def _resting(self) -> Iterator[None]:
        """The model in evaluation mode."""
        was_training = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(was_training)

    @cached_property
    def fisher_YN(self) -> Tensor:
        """Mean over rows of the squared derivative of the loss by each agent's gate."""
        return self.evidence.gradient_XYN.square().mean(0).to(self.device)

    def least_budget(self, plan_YN: Tensor) -> float:
        """The least budget, in steps of a hundredth, at which a plan may run."""
        plan_YN = plan_YN.cpu()
        for percent in range(1, 101):
            if self.allowance(percent / 100).holds(plan_YN):
                return percent / 100
        return 1.0

    def check_budget(self, budget: float) -> None:
        """Refuse a budget that no plan can keep to but the empty one.

        Raises:
            EconomyError: not even the cheapest agent can serve rows of all lengths.
        """
        allowance = self.allowance(budget)
        cost_RYN = allowance.served_flops_RYN.clone()
        fee_RU = allowance.setup_flops_RU
        cost_RYN[..., : allowance.fee_agents] += fee_RU.repeat_interleave(allowance.group, 1)[
            :, None
        ]
        if not (cost_RYN <= allowance.most_flops_R[:, None, None]).all(0).any():
            raise self.too_little(budget)

    def too_little(self, budget: float) -> EconomyError:
        """What to say of a budget that serves nobody."""
        asked = self.settings.latency
        if asked is not None and asked.budget_ms is not None and budget == self.settings.budget:
            given = f"--budget-ms {asked.budget_ms:g}"
        elif budget != self.settings.budget:
            given = f"method.options.budgets, from {budget:g},"
        else:
            given = f"--budget {budget:g}"
        return EconomyError(
            f"{given} pays for no agent at all on rows of {self.shortest} to {self.longest} "
            "tokens; give a larger one"
        )

    def checked(self, plan_YN: Tensor) -> Tensor:
        """A plan with somebody in it.

        Raises:
            EconomyError: nobody can be served at this budget.
        """
        if not plan_YN.any():
            raise self.too_little(self.settings.budget)
        return plan_YN
