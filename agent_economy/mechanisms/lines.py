"""Bids in a line per budget, once units are open: no set-up fee is left to think of.

Which units open is decided beforehand and their fees are set aside; what remains is a plain
divisible or 0/1 knapsack in every budget: each token at token scope, each row or the whole batch
otherwise. Items stand agent by agent, so that position breaks ties by agent index.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agent_economy.mechanisms.goods import Goods
from agent_economy.mechanisms.order import descending


@dataclass(frozen=True)
class Lines:
    """The bids of every budget in a line of ``I`` items.

    Attributes:
        goods: what is traded.
        open_BU: units that are open for each row.
    """

    goods: Goods
    open_BU: Bool[Tensor, "B U"]

    def of(self, x_BNL: Tensor) -> Tensor:
        """(B, N, L) -> (B, L, N) at token scope, (M, I) otherwise."""
        if self.goods.scope == "token":
            return x_BNL.transpose(1, 2)
        return self.goods.per_market(x_BNL)

    def back(self, x: Tensor) -> Tensor:
        """The inverse of ``of``."""
        if self.goods.scope == "token":
            return x.transpose(1, 2)
        return self.goods.per_agent(x, self.goods.value_BNL.shape[1])

    def price(self, price: Tensor) -> Tensor:
        """A price per budget, (B, L, 1) or (M, 1), as it broadcasts to (B, N, L)."""
        return price.transpose(1, 2) if self.goods.scope == "token" else price[..., None]

    @cached_property
    def may_BNL(self) -> Bool[Tensor, "B N L"]:
        """Who may be served: in business, on a real token, and its unit is open."""
        return self.goods.may_BNL & self.goods.over_agents(self.open_BU, True)

    @cached_property
    def density(self) -> Float[Tensor, "*budgets I"]:
        """Credits offered per GFLOP; 0 for those that may not be served."""
        return self.of(torch.where(self.may_BNL, self.goods.density_BNL, 0.0))

    @cached_property
    def flops(self) -> Float[Tensor, "*budgets I"]:
        """What each item costs, float64; the tariff keeps it, for all layers that share one."""
        tariff = self.goods.tariff
        if self.goods.scope == "token":
            return tariff.token_lines_BLN
        return tariff.row_lines_BI if self.goods.scope == "sequence" else tariff.batch_line_1I

    @cached_property
    def left(self) -> Float[Tensor, "*budgets 1"]:
        """Supply less the fees of the open units, float64 FLOPs, at least 0."""
        goods = self.goods
        fee_B = goods.fees_B(self.open_BU)
        if goods.scope == "token":
            return (goods.supply_BL - goods.reserve_BL(fee_B))[..., None].clamp(min=0).double()
        return (goods.supply_M - goods.per_market_sum(fee_B))[:, None].clamp(min=0).double()

    def serve(self, key: Tensor, *, passes: int = 1) -> Bool[Tensor, "*budgets I"]:
        """Serve items with a positive key from high to low until the next does not fit.

        Args:
            key: priorities >= 0.
            passes: rounds of filling; each round after the first goes on past items that did not
                fit, so that less supply is left over.
        """
        order = descending(key)
        flops = self.flops.gather(-1, order)
        # Those with a key of 0 stand last.
        wants = torch.arange(key.shape[-1], device=key.device) < (key > 0).sum(-1, keepdim=True)
        served = (flops.cumsum(-1) <= self.left) & wants
        for _ in range(passes - 1):
            free = self.left - torch.where(served, flops, 0.0).sum(-1, keepdim=True)
            more = wants & ~served & (flops <= free)
            served = served | ((torch.where(more, flops, 0.0).cumsum(-1) <= free) & more)
        return torch.zeros_like(served).scatter_(-1, order, served)

    def dearest_unserved(self, served: Tensor) -> Float[Tensor, "*budgets 1"]:
        """Density of the best bid that went without."""
        return torch.where(served, 0.0, self.density).amax(-1, keepdim=True)
