"""What a static mask may spend: the FLOPs of all layers together, whatever the length of a row.

A plan that serves every token with the same agents spends, on a row of ``L`` tokens,

    sum over its agents of their token FLOPs  +  sum over its open units of their set-up fees

and may spend ``budget_fraction`` of what all agents would. Where every token is served in every
layer, both sides divided by ``L`` are affine in ``L`` (a head's token costs grow with the context,
a block's do not), so what holds for the shortest and for the longest rows holds for all between.
Where the last layer is served at its first token alone, they are not, and every length is looked
at. FLOPs may move between layers, as in Kwon et al. (2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from agent_economy.costs.shape import LayerShape
from agent_economy.costs.tariff import layer_tariffs
from agent_economy.errors import EconomyError


@dataclass(frozen=True)
class Allowance:
    """FLOPs of all agents, and what a plan may spend.

    The first index of every tensor is the length of the row, from short to long.

    Attributes:
        served_flops_RYN: each agent serving every token of the row that it can, set-up apart.
        setup_flops_RU: fee of opening each unit of a layer for the row, the same in all layers.
        most_flops_R: what the whole plan may spend on the row.
        group: agents that share a unit.
        pooled: whether the last layer is served at the first token alone.
    """

    served_flops_RYN: Int[Tensor, "R Y N"]
    setup_flops_RU: Int[Tensor, "R U"]
    most_flops_R: Int[Tensor, "R"]
    group: int
    pooled: bool

    @classmethod
    def of(
        cls,
        shape: LayerShape,
        layers: int,
        budget_fraction: float,
        longest: int,
        *,
        shortest: int = 1,
        pooled: bool = False,
    ) -> Allowance:
        """The allowance of a model whose layers all have that shape.

        Args:
            shape: of a layer.
            layers: how many.
            budget_fraction: of the dense agent FLOPs.
            longest: tokens in the longest row that the plan will meet.
            shortest: tokens in the shortest row.
            pooled: whether only the first token is read after the last layer
                (``executors.reading``).

        Raises:
            EconomyError: the longest row has no token or is shorter than the shortest one, or the
                fraction is not within [0, 1].
        """
        if not 1 <= shortest <= longest or not 0 <= budget_fraction <= 1:
            raise EconomyError(
                f"a static mask for {budget_fraction} of the FLOPs of rows of {shortest} to "
                f"{longest} tokens; give a fraction from 0 to 1 and at least one token"
            )
        if pooled:
            length_R = torch.arange(shortest, longest + 1)
        else:
            length_R = torch.tensor([shortest, longest])
        mask_RL = torch.arange(longest) < length_R[:, None]
        tariffs = layer_tariffs(shape, layers, mask_RL, pooled=pooled)
        dense_R = torch.stack([each.dense_flops_BL.sum(1) for each in tariffs]).sum(0)
        # Supply is whole FLOPs per token, rounded down: at most one each is lost to rounding.
        most_R = (dense_R.double() * budget_fraction - layers * length_R).floor().clamp(min=0)
        return cls(
            torch.stack([each.served_flops_BN for each in tariffs], 1),
            tariffs[0].setup_flops_BU,
            most_R.long(),
            shape.heads // shape.kv_heads,
            pooled,
        )

    @property
    def fee_agents(self) -> int:
        """Agents of a layer that bear set-up fees; they come first."""
        return self.setup_flops_RU.shape[1] * self.group

    def units_YU(self, plan_YN: Bool[Tensor, "Y N"]) -> Bool[Tensor, "Y U"]:
        """The set-up units (heads that share keys and values) of which a plan serves any head."""
        heads_YUG = plan_YN[:, : self.fee_agents].unflatten(1, (-1, self.group))
        opened_YU: Tensor = heads_YUG.any(-1)
        return opened_YU

    def spend_flops_R(self, plan_YN: Bool[Tensor, "Y N"]) -> Int[Tensor, "R"]:
        """What a plan spends on a row of each length."""
        agents_R = (self.served_flops_RYN * plan_YN).sum((1, 2))
        return agents_R + (self.setup_flops_RU * self.units_YU(plan_YN).sum(0)).sum(1)

    def holds(self, plan_YN: Bool[Tensor, "Y N"]) -> bool:
        """Whether a plan keeps to the allowance on rows of every length."""
        return bool((self.spend_flops_R(plan_YN) <= self.most_flops_R).all())
