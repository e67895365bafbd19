"""What a study learns from one seed's calibration texts: traces, losses, fitted policies."""

from __future__ import annotations

from copy import deepcopy
from functools import cached_property
from typing import Any

import torch

from agent_economy import Economy
from agent_economy.adapters import Adapter
from agent_economy.config import Named
from agent_economy.executors.ablation import first_order_value, measure_ablations
from agent_economy.executors.trace import read_ahead, trace
from agent_economy.members import build_policy
from agent_economy.policies import Ablations, Policy, Trace
from agent_economy.runs.seeds import seed_for
from agent_economy.tasks.utility import Utility


class Calibration:
    """One seed's calibration texts, run as often as it takes and no oftener.

    Args:
        adapter: the model.
        utility: what is to be kept.
        batches: inputs that nothing is measured on.
        seed: root of all draws.
        probes: draws of the calibration loss per batch.
        draws: whole allocations measured per batch, for policies that need them.
    """

    def __init__(
        self,
        adapter: Adapter,
        utility: Utility,
        batches: list[dict[str, Any]],
        seed: int,
        *,
        probes: int,
        draws: int = 32,
    ) -> None:
        self.adapter, self.utility, self.batches, self.seed = adapter, utility, batches, seed
        self.probes, self.draws = probes, draws
        self._fitted: dict[tuple[str, bool], Policy] = {}

    @cached_property
    def trace(self) -> Trace:
        """What every agent did in a dense pass."""
        draws = seed_for(self.seed, "trace")
        return trace(self.adapter, self.batches, self.utility.loss, probes=self.probes, seed=draws)

    @cached_property
    def ablations(self) -> Ablations:
        """What whole allocations cost."""
        return measure_ablations(
            self.adapter,
            self.batches,
            self.utility,
            draws=self.draws,
            seed=seed_for(self.seed, "ablations"),
            value=first_order_value(self.trace),
        )

    def policy(self, name: str, *, ahead: bool = False) -> Policy:
        """A fitted policy; a copy, since what it learns from its bids belongs to one cell alone.

        Args:
            name: which.
            ahead: whether every layer's bids are read off what enters the first layer.
        """
        if (name, ahead) not in self._fitted:
            policy = build_policy(Named(name=name), self.seed)
            measured = self.trace, self.ablations if policy.needs_ablations else None
            policy.fit(*(read_ahead(*measured) if ahead else measured))
            self._fitted[name, ahead] = policy
        return deepcopy(self._fitted[name, ahead])

    def warm_up(self, economy: Economy, forwards: int) -> None:
        """Let a mechanism that learns do so; credits and steps start afresh."""
        if not economy.market.mechanism.learns:
            return
        with economy.trying(), torch.no_grad():
            for step in range(forwards):
                economy(**self.batches[step % len(self.batches)])
            learned, prices = economy.market.states, economy.market.prices
        economy.market.states, economy.market.prices = learned, prices
