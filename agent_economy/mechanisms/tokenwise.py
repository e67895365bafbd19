"""Clearing each token by itself, within its own supply.

The row opens units first; every token then buys from what its share of the fees leaves it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agent_economy.mechanisms.goods import Goods
from agent_economy.mechanisms.order import descending


def fill_tokens(goods: Goods, open_BU: Tensor, *, passes: int = 1) -> tuple[Tensor, Tensor]:
    """Serve each token's bids from dense to thin until the next does not fit.

    Args:
        goods: what is traded.
        open_BU: units that are open for the row; their fees are set aside from every token.
        passes: as for ``rounding.fill``.

    Returns:
        Bool gates (B, N, L) and the price of each token (B, 1, L): its dearest unserved bid.
    """
    left_BL1 = (goods.supply_BL - goods.reserve_BL(goods.fees_B(open_BU)))[..., None].double()
    may_BNL = goods.over_agents(open_BU, True) & (goods.density_BNL > 0)
    density_BLN = torch.where(may_BNL, goods.density_BNL, 0).transpose(1, 2)
    flops_BLN = goods.tariff.double_BNL.transpose(1, 2).expand(density_BLN.shape)
    order_BLN = descending(density_BLN)
    density_BLN = density_BLN.gather(-1, order_BLN)
    flops_BLN = flops_BLN.gather(-1, order_BLN)
    may_BLN = density_BLN > 0
    served_BLN = (flops_BLN.cumsum(-1) <= left_BL1) & may_BLN
    for _ in range(passes - 1):
        free_BL1 = left_BL1 - torch.where(served_BLN, flops_BLN, 0.0).sum(-1, keepdim=True)
        next_BLN = may_BLN & ~served_BLN & (flops_BLN <= free_BL1)
        served_BLN = served_BLN | (
            (torch.where(next_BLN, flops_BLN, 0.0).cumsum(-1) <= free_BL1) & next_BLN
        )
    price_BL = torch.where(may_BLN & ~served_BLN, density_BLN, 0).amax(-1)
    gate_BLN = torch.zeros_like(served_BLN).scatter_(-1, order_BLN, served_BLN)
    return gate_BLN.transpose(1, 2), price_BL[:, None]
