"""Planned price: a posted price that keeps to a spending plan learned from a single sample.

One earlier forward is the sample. Its clearing price (the linear program's dual) is posted, and
what each position would have spent at that price is the plan: target expenditures ``lambda_t``,
instead of the same for every token. Along a row the price then follows what is really spent:

    ``price <- price * exp(rate * (sum e_t - sum lambda_t) / sum lambda_t)``

over stretches of tokens that double in length (8, 8, 16, 32, ...), so that a row of ``L`` tokens
needs ``log2(L / 8)`` steps and no loop over tokens. Supply accrues token by token with the hard
stop of the posted price.

    inputs      as for the posted price
    price       per row and token (B, 1, L), constant over a stretch; credits per GFLOP
    guarantees  feasible at every token; causal given the state; monotone; relaxed form
                differentiable, the price's own path included
    complexity  O(I), and one sort of the sample
    source      Balseiro, Kumar, Mirrokni and Sivan 2023, Robust Budget Pacing with a Single Sample
                (arXiv 2302.02006): the dual of the sample gives the targets, dual descent follows
                them; the doubling stretches and the entropic step are ours

Before anything was learned the price is 0 and the plan is supply itself.

Example:
    >>> import torch
    >>> from agent_economy.costs.tariff import Tariff
    >>> from agent_economy.mechanisms.planned_price import PlannedPrice
    >>> bid = torch.tensor([[[3.0, 1.0], [3.0, 2.0]]])
    >>> real, nobody_pays = torch.ones(1, 2, dtype=torch.bool), torch.zeros(0, dtype=torch.long)
    >>> tariff = Tariff(torch.full((1, 2, 1), 10), nobody_pays, real)
    >>> rest = torch.tensor([[15, 15]]), torch.tensor([True, True]), torch.full((1, 2), 9e9)
    >>> market = PlannedPrice()
    >>> _, sample = market.clear(bid, tariff, *rest, {})
    >>> market.clear(bid, tariff, *rest, sample)[0].allocation_BLN.int().tolist()
    [[[1, 0], [1, 0]]]
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from agent_economy.mechanisms.base import Guarantees, State
from agent_economy.mechanisms.goods import Goods
from agent_economy.mechanisms.posted_price import PostedPrice, Terms

#: Tokens in the first stretch.
_FIRST = 8


class PlannedPrice(PostedPrice):
    """A posted price with a plan from one sample; see the module's heading."""

    name = "planned_price"
    guarantees = Guarantees(causal=True)
    flops_per_bid = 56

    def _price(self, goods: Goods, terms: Terms, state: State, temperature: float | None) -> Tensor:
        """The price of every token, (B, 1, L)."""
        rows, _, length = goods.value_BNL.shape
        tariff, plan_BL = goods.tariff, self._plan_BL(goods, state)
        fee_B = (tariff.setup_flops_U * terms.open_BU).sum(-1)
        may_BNL = goods.may_BNL & goods.over_agents(terms.open_BU, True)
        price_B = terms.price.to(goods.density_BNL.dtype).expand(rows)
        spent_B = planned_B = torch.zeros_like(price_B, dtype=torch.float64)
        prices = []
        for stretch in _stretches(length):
            price_B1L = price_B[:, None, None].expand(rows, 1, stretch.stop - stretch.start)
            prices.append(price_B1L)
            if stretch.stop == length:
                break
            gap_BNL = goods.density_BNL[..., stretch] - price_B1L
            if temperature is None:
                bought_BNL = (gap_BNL >= 0).to(gap_BNL.dtype)
            else:
                bought_BNL = torch.sigmoid(gap_BNL / temperature)
            flops_BNL = tariff.double_BNL
            if flops_BNL.shape[-1] > 1:
                flops_BNL = flops_BNL[..., stretch]
            spent_B = spent_B + (bought_BNL * may_BNL[..., stretch] * flops_BNL).sum((1, 2))
            spent_B = spent_B + fee_B * tariff.real_BL[:, stretch].sum(-1)
            planned_B = planned_B + plan_BL[:, stretch].sum(-1)
            over_B = (spent_B - planned_B) / planned_B.clamp(min=1)
            step_B = torch.exp(self.rate * over_B.clamp(-1, 1)).to(price_B.dtype)
            price_B = price_B * torch.where(planned_B > 0, step_B, 1.0)
        return torch.cat(prices, -1)

    @staticmethod
    def _plan_BL(goods: Goods, state: State) -> Tensor:
        """Target FLOPs of every token: the sample's share of supply at its position."""
        length = goods.value_BNL.shape[-1]
        if "share_P" not in state:
            return goods.supply_BL.double()
        share_P = state["share_P"]
        share_L = share_P[:length]
        # Beyond the sample's end tokens spend what its tokens spent on average.
        rest_L = share_P.mean().expand(length - len(share_L))
        return goods.supply_BL * torch.cat((share_L, rest_L))

    def _learn(self, goods: Goods, state: State) -> State:
        """Standing and surplus as the posted price has them; price and plan from this sample."""
        with torch.no_grad():
            learned = super()._learn(goods, state)
            tariff, density_BNL = goods.tariff, goods.density_BNL.detach()
            price = self._opening_price(goods)
            open_U = learned["surplus_U"] >= 0
            wants_BNL = (density_BNL >= price) & goods.over_agents(open_U[None], True)
            spent_BL = (wants_BNL * goods.may_BNL * tariff.double_BNL).sum(1)
            spent_BL = spent_BL + (tariff.setup_flops_U * open_U).sum() * tariff.real_BL
            supply_L = goods.supply_BL.sum(0).double()
            real_L = supply_L > 0
            share_P = spent_BL.sum(0) / torch.where(real_L, supply_L, 1.0)
            # The plan spends what there is: no more, and where it can no less.
            total = (share_P * supply_L).sum() / supply_L.sum().clamp(min=1)
            share_P = torch.where(real_L, share_P / total.clamp(min=1e-9), 1.0)
            return learned | {"price": price, "share_P": share_P}


def _stretches(length: int) -> Iterator[slice]:
    """0-8, 8-16, 16-32, ... up to the end."""
    start, stop = 0, min(_FIRST, length)
    while start < length:
        yield slice(start, stop)
        start, stop = stop, min(2 * stop, length)
