"""A static mask chosen before the training, by any rival, then trained around."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from agent_economy.config import Named
from agent_economy.registry import build
from agent_economy.rivals import RIVALS
from agent_economy.rivals.folding import fold_scales
from agent_economy.rivals.kwon_mask import KwonMask
from agent_economy.training.bench import Bench
from agent_economy.training.methods.base import Method, planned_economy
from agent_economy.training.methods.options import check_options

if TYPE_CHECKING:
    from agent_economy.economy import Economy


class Dense(Method):
    """The dense model as it is: no training, the full budget."""

    name = "dense"
    trains = False

    def economy(self) -> Economy:
        """See the class."""
        everybody = torch.ones_like(self.bench.flops_YN, dtype=torch.bool)
        return planned_economy(self.bench, everybody, 1.0)


class DenseOn(Dense):
    """The dense model trained on, same epochs, loss and teacher: the only fair reference."""

    name = "dense_on"
    trains = True
    settle_at = 0.0

    def settle(self) -> Tensor:
        """Everybody: what is dead in the last layer is not computed here either."""
        return torch.ones_like(self.bench.flops_YN, dtype=torch.bool)


class StaticMask(Method):
    """A rival's mask, then retraining with distillation.

    Args:
        bench: what all methods start from.
        mask: the rival that chooses it, from ``agent_economy.rivals``.
        options: of the rival.
        train: whether anything is trained once the mask is chosen.
    """

    name = "static_mask"
    settle_at = 0.0

    def __init__(
        self,
        bench: Bench,
        mask: str = "fisher_mask",
        options: dict[str, object] | None = None,
        train: bool = True,
    ) -> None:
        super().__init__(bench)
        check_options(self.name, train=train)
        bench.check_budget(bench.settings.budget)
        self.trains = train
        named = Named(name=mask, options=options or {})
        self.rival = build(RIVALS, named, seed=bench.seed("mask"))

    def settle(self) -> Tensor:
        """The rival's choice, from evidence on training rows; scales become weights."""
        bench = self.bench
        plan_YN = self.rival.choose(bench.evidence, bench.allowance(bench.settings.budget))
        if isinstance(self.rival, KwonMask):
            fold_scales(bench.adapter, self.rival.scale_YX)
        return bench.checked(plan_YN).to(bench.device)

    def economy(self) -> Economy:
        """The plan at its budget."""
        return planned_economy(self.bench, self.plan_YN, self.bench.settings.budget)
