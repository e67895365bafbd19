"""What every rival is: calibration evidence and a budget in, one mask over agents out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agent_economy.adapters import Adapter
from agent_economy.errors import EconomyError
from agent_economy.executors.ablation import row_losses
from agent_economy.executors.masked import token_mask
from agent_economy.executors.reading import reading_of
from agent_economy.policies import Trace
from agent_economy.rivals.allowance import Allowance

if TYPE_CHECKING:
    from agent_economy.tasks.utility import Utility

Plan = Tensor
"""(Y, N) bool: the agents that serve every token."""


@dataclass(frozen=True)
class Evidence:
    """What a rival may look at: the same calibration data that policies are fitted on.

    Attributes:
        adapter: the model.
        batches: calibration batches.
        trace: a dense calibration pass over these batches, in their order.
        utility: what is to be kept.
    """

    adapter: Adapter
    batches: list[dict[str, Any]]
    trace: Trace
    utility: Utility

    @cached_property
    def gradient_XYN(self) -> Float[Tensor, "X Y N"]:
        """Derivative of each row's loss, for each draw, by a gate that all its tokens share.

        By the chain rule that is the sum of the tokens' own derivatives.

        Raises:
            EconomyError: the trace is of other batches.
        """
        masks = [token_mask(batch) for batch in self.batches]
        length_B = torch.cat([mask_BL.sum(1) for mask_BL in masks]).cpu()
        row_T = torch.repeat_interleave(length_B)
        layers = []
        for layer in self.trace:
            gradient_STN = layer.gradient_STN.double().cpu()
            if gradient_STN.shape[1] != len(row_T):
                raise EconomyError(
                    f"the trace covers {gradient_STN.shape[1]} tokens, the calibration batches "
                    f"{len(row_T)}; trace the same batches"
                )
            draws, _, agents = gradient_STN.shape
            row_SBN = gradient_STN.new_zeros(draws, len(length_B), agents)
            layers.append(row_SBN.index_add(1, row_T, gradient_STN).flatten(0, 1))
        return torch.stack(layers, 1)

    @cached_property
    def references(self) -> list[Tensor]:
        """What the utility keeps of the dense model's output, batch by batch."""
        with torch.no_grad():
            return [
                self.utility.reference(self.adapter.model(**batch), batch) for batch in self.batches
            ]

    def loss(self, plan_YN: Bool[Tensor, "Y N"]) -> float:
        """Measured mean loss of the calibration rows under a plan: one forward of each batch."""
        return plan_loss(self.adapter, self.batches, self.utility, self.references, plan_YN)


def plan_loss(
    adapter: Adapter,
    batches: list[dict[str, Any]],
    utility: Utility,
    references: list[Tensor],
    plan_YN: Bool[Tensor, "Y N"],
) -> float:
    """Mean over rows of the loss where a plan's agents serve every token.

    Args:
        adapter: the model.
        batches: inputs of the model.
        utility: what is lost.
        references: of each batch, as the utility takes them from the dense model.
        plan_YN: the plan.
    """
    losses = []
    for batch, reference in zip(batches, references, strict=True):
        mask_BL = token_mask(batch)
        gates = [plan_N.to(mask_BL.device).float().expand(*mask_BL.shape, -1) for plan_N in plan_YN]
        losses.append(row_losses(adapter, batch, _kept(utility, reference), gates))
    return float(torch.cat(losses).double().mean())


def _kept(utility: Utility, reference: Tensor) -> Callable[[Any, dict[str, Any]], Tensor]:
    return lambda output, batch: utility.row_loss(output, batch, reference)


class Rival(ABC):
    """Chooses which agents serve, once and for all tokens.

    Attributes:
        name: what configs call it.

    Args:
        seed: of whatever it draws.
    """

    name: ClassVar[str]

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, evidence: Evidence, budget_fraction: float, longest: int) -> Bool[Tensor, "Y N"]:
        """The mask, within budget for rows of up to ``longest`` tokens.

        Args:
            evidence: calibration data.
            budget_fraction: supply as a fraction of dense agent FLOPs, over all layers.
            longest: tokens in the longest row that the mask will meet.

        Raises:
            EconomyError: the budget makes no sense, or the rival broke it.
        """
        shape, layers = evidence.adapter.shape, len(evidence.adapter.sites)
        pooled = reading_of(evidence.adapter).pooled
        allowance = Allowance.of(shape, layers, budget_fraction, longest, pooled=pooled)
        if budget_fraction == 1:  # compute is not scarce: nobody has to be left out
            return torch.ones(layers, shape.agents, dtype=torch.bool)
        plan_YN = self.choose(evidence, allowance)
        if not allowance.holds(plan_YN):
            raise EconomyError(f"rival {self.name!r} spent more than supply; report this")
        return plan_YN

    @abstractmethod
    def choose(self, evidence: Evidence, allowance: Allowance) -> Bool[Tensor, "Y N"]:
        """The mask; it must keep to the allowance."""
