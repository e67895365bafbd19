"""What a forward really executed, against supply."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from agent_economy.costs.fixed import FixedFlops
from agent_economy.costs.tariff import Tariff
from agent_economy.mechanisms.base import Clearing


@dataclass(frozen=True)
class Receipt:
    """FLOPs, prices and payments of one forward. All counts leave padding out.

    A forward that goes on from a cache reports the whole sequence so far.

    Attributes:
        tariffs: each layer's price list.
        mask_BL: real tokens.
        clearings: what each layer's market decided; None where it was not run and everybody
            served for nothing.
        supplies: per layer, FLOPs that each token brought (B, L), the market's own included.
        market_flops_Y: what bidding and clearing cost per token in each layer, paid out of supply
            before agents were served; 0 where no market was run. Tokens that a layer cannot serve
            take no part.
        fixed: FLOPs that no agent can save, reported beside.
        traced: whether the market looked at a dense pass before.
        optimal_welfare: the linear program's optimum for the same bids and supply, over all
            layers; None where it was not measured.
        timings_ms: clock readings per phase of the market.
    """

    tariffs: list[Tariff]
    mask_BL: Bool[Tensor, "B L"]
    clearings: list[Clearing | None]
    supplies: list[Int[Tensor, "B L"]]
    market_flops_Y: list[int]
    fixed: FixedFlops
    traced: bool = False
    optimal_welfare: float | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)

    def allocation_BLN(self, layer: int) -> Float[Tensor, "B L N"]:
        """Gates of one layer; all ones on tokens that can be served where no market was run."""
        clearing = self.clearings[layer]
        if clearing is not None:
            return clearing.allocation_BLN
        tariff = self.tariffs[layer]
        agents = tariff.token_flops_BNL.shape[1]
        return tariff.mask_BL[..., None].float().expand(*self.mask_BL.shape, agents)

    def agent_flops_BLN(self, layer: int) -> Int[Tensor, "B L N"]:
        """FLOPs that each agent spent on serving each token of a layer, set-up apart."""
        served_BLN = self.allocation_BLN(layer) > 0
        return served_BLN * self.tariffs[layer].token_flops_BNL.transpose(1, 2)

    def setup_flops_BU(self, layer: int) -> Int[Tensor, "B U"]:
        """Set-up FLOPs of the units that any token of a row used."""
        tariff = self.tariffs[layer]
        heads_BLN = self.allocation_BLN(layer)[..., : tariff.fee_agents] > 0
        units = tariff.setup_flops_U.shape[0]
        used_BU: Tensor = heads_BLN.any(1).unflatten(1, (units, tariff.group)).any(-1)
        return used_BU * tariff.setup_flops_BU

    @property
    def spend_flops(self) -> int:
        """Agent FLOPs executed in all layers, set-up and market included."""
        layers = range(len(self.clearings))
        agents = sum(self.agent_flops_BLN(y).sum() + self.setup_flops_BU(y).sum() for y in layers)
        return int(agents) + self.market_flops

    @property
    def market_flops(self) -> int:
        """FLOPs of bidding and clearing, in the layers whose market was run."""
        priced = zip(self.market_flops_Y, self.tariffs, strict=True)
        return sum(flops * int(tariff.mask_BL.sum()) for flops, tariff in priced if flops)

    @property
    def dense_flops(self) -> int:
        """Agent FLOPs of the dense model on the same tokens."""
        return sum(int(each.dense_flops_BL.sum()) for each in self.tariffs)

    @property
    def trace_flops(self) -> int:
        """Agent FLOPs of the dense pass that a traced market looked at before.

        Not part of spend, which makes traced markets a study and no saving.
        """
        return self.dense_flops if self.traced else 0

    @property
    def supply_flops(self) -> int:
        """FLOPs on offer in all layers: for agents and for the markets that serve them."""
        return sum(int(each.sum()) for each in self.supplies)

    @property
    def fixed_flops(self) -> int:
        """FLOPs outside the agents: pooler, task head, language-model head."""
        return self.fixed.total(self.mask_BL.shape[0], int(self.mask_BL.sum()))

    @property
    def flops_fraction(self) -> float:
        """Spent over dense agent FLOPs."""
        return self.spend_flops / max(self.dense_flops, 1)

    @property
    def price_YBL(self) -> Float[Tensor, "Y B L"]:
        """Credits per GFLOP of every layer and token; an agent's own prices averaged."""
        shape = self.mask_BL.shape
        zero = torch.zeros(shape, device=self.mask_BL.device)
        return torch.stack(
            [
                zero if each is None else each.price.mean(-1).to(zero).expand(shape)
                for each in self.clearings
            ]
        )

    @property
    def welfare(self) -> float:
        """Declared value served in the layers whose market was run, credits."""
        return float(sum(each.welfare.sum() for each in self.clearings if each is not None))
