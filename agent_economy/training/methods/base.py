"""What every way to allocate compute in training is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from agent_economy.executors.masked import MaskedExecutor
from agent_economy.training.bench import Bench

if TYPE_CHECKING:
    from agent_economy.economy import Economy


SCARCE = 0.99
"""A full budget, to a market: at 1 none is run, all are served for nothing, nothing is learned."""


class Method(nn.Module, ABC):
    """Decides, step by step, who computes while the model is trained.

    A method that ends in a static plan says so in ``settle``: from then on the training goes on
    with a physically smaller model, which computes the same.

    Args:
        bench: what all methods start from.

    Attributes:
        name: what settings call it.
        trains: whether there is anything to train; a training-free method is only scored.
        settle_at: share of the training after which the plan stands; above 1: never.
        lam: ``lambda``, what all FLOPs of the dense model cost in units of the loss.
    """

    name: ClassVar[str]
    #: the static plan, once it stands
    plan_YN: Tensor
    trains: bool = True
    settle_at: float = 2.0
    lam: float = 0.0

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench = bench

    def begin(self, progress: float, step: int) -> None:
        """Prepare a step; ``progress`` is the share of the training that is over."""

    def run(self, inputs: dict[str, Any]) -> tuple[Any, Tensor | None]:
        """The gated model's output, and expected agent FLOPs over dense ones (None: all)."""
        return self.bench.model(**inputs), None

    def penalty(self, flops_fraction: Tensor | None) -> Tensor | float:
        """What is added to the loss for FLOPs: ``lambda * expected FLOPs / dense FLOPs``."""
        return self.lam * flops_fraction if self.lam and flops_fraction is not None else 0.0

    def groups(self) -> list[dict[str, Any]]:
        """Groups of its own parameters for the optimiser; ``lr`` is the height of each."""
        own = [p for p in self.parameters() if p.requires_grad]
        rate = self.bench.settings.gate_learning_rate
        return [{"params": own, "lr": rate, "weight_decay": 0.0}] if own else []

    def after(self, flops_fraction: Tensor | None) -> None:
        """Learn from a step once the optimiser has made it."""

    def settle(self) -> Tensor | None:
        """The static plan (Y, N), where the method makes one."""
        return None

    def report(self) -> dict[str, float | Tensor]:
        """Numbers worth showing on the way, such as the price; on a device they may stay there."""
        return {}

    def kept(self) -> dict[str, Tensor]:
        """What a checkpoint needs beside parameters and buffers."""
        return {}

    def take_up(self, kept: dict[str, Tensor]) -> None:
        """Go on from what ``kept`` gave."""

    @abstractmethod
    def economy(self) -> Economy:
        """The trained model as an economy at the run's budget."""


class ConstantGates:
    """A gatekeeper whose agents serve every token to the same degree.

    Args:
        gate_YN: degrees, which may carry gradients.
    """

    needs_trace = False

    def __init__(self, gate_YN: Tensor) -> None:
        self.gate_YN = gate_YN

    def open(self, mask_BL: Tensor, past: int = 0) -> None:
        """Nothing to prepare."""

    def contract(self, hidden_YBLD: list[Tensor]) -> None:
        """Never asked for."""

    def trade(self, layer: int, hidden_BLD: Tensor) -> Tensor:
        """The layer's gates for every token."""
        rows, length = hidden_BLD.shape[:2]
        return self.gate_YN[layer].expand(rows, length, -1)

    def served(self, layer: int, contribution_N: Tensor) -> None:
        """Nothing is learned from it."""

    def close(self) -> Any:
        """There is no receipt."""
        return None


def gated(bench: Bench, gate_YN: Tensor, inputs: dict[str, Any]) -> Any:
    """The model's output under constant gates."""
    return MaskedExecutor(bench.adapter).run(inputs, ConstantGates(gate_YN))[0]


def planned_economy(bench: Bench, plan_YN: Tensor, budget: float) -> Economy:
    """An economy in which a static plan's agents serve every token."""
    from agent_economy.config import EconomyConfig, MechanismConfig, Named
    from agent_economy.economy import Economy

    config = EconomyConfig(
        block_size=bench.settings.block_size,
        budget_fraction=budget,
        latency=bench.latency,
        mechanism=MechanismConfig(name="uniform"),  # a plan stands instead of a market
        policy=Named(name="constant"),
        seed=bench.settings.seed,
    )
    with torch.no_grad():
        economy = Economy.from_model(bench.model, config)
    economy.market.plan_YN = plan_YN.to(bench.device)
    return economy
