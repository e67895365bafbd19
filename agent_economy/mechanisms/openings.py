"""Which set-up units open, where no price decides it: those with the highest total bids.

Fees may take at most half of supply, so that what is open has something left to sell.

- ``by_total_bid``: by what a unit's agents bid on the whole row.
- ``by_worth``: by a worth that was known before.
- ``by_standing``: before the row is seen, by the running mean of total bids that earlier forwards
  left in the state; before the first forward by the row's first token. Causal.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agent_economy.mechanisms.goods import Goods
from agent_economy.mechanisms.order import descending

#: Fees may take this share of supply.
FEE_SHARE = 0.5
#: Weight of the past in the running mean of a unit's bids.
MEMORY = 0.7

State = dict[str, Tensor]


def by_total_bid(goods: Goods) -> Bool[Tensor, "B U"]:
    """Open by the bids of the whole row."""
    worth_BU = goods.over_units(_declared_BNL(goods).sum(-1, keepdim=True)).sum(-1)
    return _best(goods, worth_BU, goods.tariff.setup_flops_BU, _share_B1(goods))


def by_worth(goods: Goods, worth_U: Float[Tensor, "U"]) -> Bool[Tensor, "B U"]:
    """Open by a worth that does not depend on the bids at hand."""
    setup_BU = goods.tariff.setup_flops_BU
    worth_BU = worth_U.to(goods.value_BNL.dtype).expand(setup_BU.shape)
    return _best(goods, worth_BU, setup_BU, _share_B1(goods))


def by_standing(goods: Goods, state: State) -> Bool[Tensor, "B U"]:
    """Open by earlier forwards, with what the row's first token brings; causal.

    Where the first token could serve everybody, everything opens.
    """
    tariff = goods.tariff
    first_B1 = tariff.first_B1
    most_B1 = FEE_SHARE * goods.supply_BL.gather(1, first_B1)
    if "standing_U" in state:
        standing_U = state["standing_U"].to(goods.value_BNL.dtype)
        worth_BU = standing_U.expand(tariff.setup_flops_BU.shape)
    else:
        first_BN = _declared_BNL(goods).take_along_dim(first_B1[..., None], -1)
        worth_BU = goods.over_units(first_BN).sum(-1)
    fee_BU = tariff.setup_flops_U.expand(worth_BU.shape)
    all_in_B1 = goods.fits_so_far[:, 0].gather(-1, first_B1)
    best_BU = _best(goods, worth_BU, fee_BU, most_B1.minimum(goods.sure_B1))
    return best_BU | (all_in_B1 & goods.unit_U)


def learn_standing(goods: Goods, state: State) -> State:
    """The running mean over forwards of what each unit's agents bid per token."""
    tokens = goods.tariff.length_B.sum().clamp(min=1)
    bid_BNL = _declared_BNL(goods).sum(-1, keepdim=True).double()
    worth_U = goods.over_units(bid_BNL).sum((0, 2)) / tokens
    if "standing_U" in state:
        worth_U = MEMORY * state["standing_U"] + (1 - MEMORY) * worth_U
    return state | {"standing_U": worth_U}


def _declared_BNL(goods: Goods) -> Tensor:
    return goods.value_BNL.detach()


def _share_B1(goods: Goods) -> Float[Tensor, "B 1"]:
    """What fees may take of a row's supply."""
    return FEE_SHARE * goods.supply_BL.sum(1, keepdim=True)


def _best(
    goods: Goods, worth_BU: Float[Tensor, "B U"], fee_BU: Tensor, most_B1: Tensor
) -> Bool[Tensor, "B U"]:
    """The units of highest worth whose fees, added up, keep to what fees may take."""
    order_BU = descending(worth_BU)
    pays_BU = fee_BU.gather(-1, order_BU).cumsum(-1) <= most_B1
    open_BU = torch.zeros_like(pays_BU).scatter_(-1, order_BU, pays_BU)
    return open_BU & (worth_BU > 0) & goods.unit_U
