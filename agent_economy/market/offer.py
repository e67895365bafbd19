"""What a forward brings to market: price lists and supply, and what the markets take of it."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from agent_economy.costs.tariff import Tariff


class Offer:
    """Price lists and supply of one forward.

    A market is run where compute is scarce and every token's supply can pay for it.

    Args:
        tariffs: each layer's price list; layers that cost the same share one.
        budget_fraction: supply over dense agent FLOPs.
        asked_Y: what bidding and clearing would take per token in each layer.
        least_dense: what the token that brings least takes where everybody serves it.
        planned: whether agents serve by plan, so that there is no market.
        joint: whether all layers trade in one market.

    Attributes:
        scarce: whether supply is less than everybody takes.
        joint: as given.
        run_Y: the layers whose market is run.
        market_charge_Y: what bidding and clearing take per token in each layer, in the market's
            unit; 0 where no market is run.
        supplies: what each token brings to each layer, the market's own included.
    """

    def __init__(
        self,
        tariffs: list[Tariff],
        budget_fraction: float,
        asked_Y: list[int],
        least_dense: float,
        *,
        planned: bool,
        joint: bool,
    ) -> None:
        self.tariffs, self.budget_fraction = tariffs, budget_fraction
        self.scarce, self.joint = budget_fraction < 1, joint
        least = int(least_dense * budget_fraction)
        payable_Y = [asked <= least for asked in asked_Y]
        if joint:
            payable_Y = [sum(asked_Y) <= least * len(asked_Y)] * len(asked_Y)
        self.run_Y = [self.scarce and not planned and payable for payable in payable_Y]
        self.market_charge_Y = [
            asked if run else 0 for asked, run in zip(asked_Y, self.run_Y, strict=True)
        ]
        self.supplies = [self._supply(each) for each in tariffs]

    def for_agents(self, layer: int) -> Int[Tensor, "B L"]:
        """What each token's supply leaves to agents once the layer's market has been paid for."""
        return self.supplies[layer] - self.market_charge_Y[layer] * self.tariffs[layer].mask_BL

    @property
    def tokens_Y1(self) -> Int[Tensor, "Y 1"]:
        """Tokens that each layer can serve."""
        return torch.stack([each.mask_BL.sum() for each in self.tariffs])[:, None]

    def _supply(self, tariff: Tariff) -> Int[Tensor, "B L"]:
        """What each token brings to a layer."""
        dense_BL = tariff.dense_flops_BL
        if not self.scarce:
            return dense_BL
        # Whole FLOPs: float64 is exact here, and rounding down never overspends.
        return (dense_BL.double() * self.budget_fraction).floor().long()
