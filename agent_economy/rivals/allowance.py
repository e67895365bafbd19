"""What a static mask may spend: the FLOPs of all layers together, whatever the length of a row.

A plan that serves every token with the same agents spends, on a row of ``L`` tokens,

    sum over its agents of their token FLOPs  +  sum over its open units of their set-up fees

and may spend ``budget_fraction`` of what all agents would. Divided by ``L`` both sides are affine
in ``L`` (a head's token costs grow with the context, a block's do not), so what holds for rows of
one token and for the longest rows holds for all rows between. FLOPs may move between layers, as
in Kwon et al. (2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from agent_economy.costs.tariff import LayerShape, layer_tariff
from agent_economy.errors import EconomyError


@dataclass(frozen=True)
class Allowance:
    """FLOPs of the agents of one layer, and what a plan over all layers may spend.

    The first index of every tensor is the length of the row: one token, then the longest.

    Attributes:
        served_flops_RN: each agent serving every token of the row, set-up apart.
        setup_flops_RU: fee of opening each unit of the layer for the row.
        most_flops_R: what the whole plan may spend on the row.
        group: agents that share a unit.
    """

    served_flops_RN: Int[Tensor, "2 N"]
    setup_flops_RU: Int[Tensor, "2 U"]
    most_flops_R: Int[Tensor, "2"]
    group: int

    @classmethod
    def of(cls, shape: LayerShape, layers: int, budget_fraction: float, longest: int) -> Allowance:
        """The allowance of a model whose layers all have that shape.

        Args:
            shape: of a layer.
            layers: how many.
            budget_fraction: of the dense agent FLOPs.
            longest: tokens in the longest row that the plan will meet.

        Raises:
            EconomyError: the longest row has no token, or the fraction is not within [0, 1].
        """
        if longest < 1 or not 0 <= budget_fraction <= 1:
            raise EconomyError(
                f"a static mask for {budget_fraction} of the FLOPs of rows of {longest} tokens; "
                "give a fraction from 0 to 1 and at least one token"
            )
        served, setup, most = [], [], []
        for length in (1, longest):
            tariff = layer_tariff(shape, torch.ones(1, length, dtype=torch.bool))
            served.append(tariff.served_flops_BN[0])
            setup.append(tariff.setup_flops_BU[0])
            # Supply is whole FLOPs per token, rounded down: at most one each is lost to rounding.
            dense_flops = int(tariff.dense_flops_BL.sum())
            most.append(max(0, int(layers * (dense_flops * budget_fraction - length))))
        return cls(
            torch.stack(served),
            torch.stack(setup),
            torch.tensor(most),
            shape.heads // shape.kv_heads,
        )

    @property
    def fee_agents(self) -> int:
        """Agents of a layer that bear set-up fees; they come first."""
        return self.setup_flops_RU.shape[1] * self.group

    def units_YU(self, plan_YN: Bool[Tensor, "Y N"]) -> Bool[Tensor, "Y U"]:
        """Which units a plan opens."""
        heads_YUG = plan_YN[:, : self.fee_agents].unflatten(1, (-1, self.group))
        opened_YU: Tensor = heads_YUG.any(-1)
        return opened_YU

    def spend_flops_R(self, plan_YN: Bool[Tensor, "Y N"]) -> Int[Tensor, "2"]:
        """What a plan spends on the shortest and on the longest row."""
        agents_N, units_U = plan_YN.sum(0), self.units_YU(plan_YN).sum(0)
        return (self.served_flops_RN * agents_N).sum(1) + (self.setup_flops_RU * units_U).sum(1)

    def holds(self, plan_YN: Bool[Tensor, "Y N"]) -> bool:
        """Whether a plan keeps to the allowance on rows of every length."""
        return bool((self.spend_flops_R(plan_YN) <= self.most_flops_R).all())
