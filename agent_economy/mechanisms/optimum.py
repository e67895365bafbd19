"""The linear program behind the market, solved exactly by sorting.

With fees the problem is a fixed-charge knapsack::

    max  sum_i bid_i x_i
    s.t. sum_i w_i x_i + sum_u S_u y_u <= supply,  x_i <= y_u(i),  0 <= x, y <= 1

Opening unit ``u`` for its ``k`` densest bids is worth ``V_k`` for ``S_u + W_k`` FLOPs, so the
unit's best bundle trades at its *break-even price* ``max_k V_k / (S_u + W_k)``, and no bid of the
unit can be worth more than that per FLOP. Replacing every density by ``min(density,
break-even)`` (ironing, after Myerson 1981) turns the program into a plain fractional knapsack,
solved by one sort (Dantzig 1957).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from agent_economy.mechanisms.goods import FLOPS_PER_GFLOP, Goods
from agent_economy.mechanisms.order import descending


class Queue(NamedTuple):
    """The items of every market in the order in which a falling price admits them.

    Items are set-up fees and bids. A unit's fee stands before its bids, and bids of one bundle
    stand by density.

    Attributes:
        price_MI: price at which each item is admitted (ironed density), credits per GFLOP.
        flops_MI: float64, what it costs.
        value_MI: credits bid for it; 0 for a fee.
        unit_MI: the market-wide unit it needs; the number of units where it needs none.
        total_MI: running sum of ``flops_MI``.
        position_MI: where each item stands in ``[fees, unit bids sorted in their unit, others]``.
        within_BUI: original position, within its unit, of each sorted unit bid.
        break_even_BU: price up to which opening each unit pays.
        bundle_flops_BU: float64, FLOPs of each unit's fee and of the bids that break even.
    """

    price_MI: Float[Tensor, "M I"]
    flops_MI: Float[Tensor, "M I"]
    value_MI: Float[Tensor, "M I"]
    unit_MI: Int[Tensor, "M I"]
    total_MI: Float[Tensor, "M I"]
    position_MI: Int[Tensor, "M I"]
    within_BUI: Int[Tensor, "B U J"]
    break_even_BU: Float[Tensor, "B U"]
    bundle_flops_BU: Float[Tensor, "B U"]

    def marginal_price_M(self, supply_M: Int[Tensor, "M"]) -> Float[Tensor, "M"]:
        """The linear program's dual: the price of the first item not bought whole, or 0."""
        count_M1 = (self.total_MI <= supply_M[:, None]).sum(1, keepdim=True)
        last = self.price_MI.shape[1] - 1
        price_M1 = self.price_MI.gather(1, count_M1.clamp(max=last))
        return torch.where(count_M1 > last, 0.0, price_M1).squeeze(1)

    def restore(self, chosen_MI: Bool[Tensor, "M I"], goods: Goods) -> Bool[Tensor, "B N L"]:
        """Gates of the chosen bids, agent by agent."""
        placed_MI = torch.empty_like(chosen_MI).scatter_(1, self.position_MI, chosen_MI)
        rows, units, tokens = self.within_BUI.shape
        fees = rows * units // chosen_MI.shape[0]
        split = fees + fees * tokens
        unit_BUI = placed_MI[:, fees:split].reshape(rows, units, tokens)
        own = torch.empty_like(unit_BUI).scatter_(-1, self.within_BUI, unit_BUI)
        fee_agents = goods.tariff.fee_agents
        length, agents = goods.value_BNL.shape[2], goods.value_BNL.shape[1]
        rest = goods.per_agent(placed_MI[:, split:], agents - fee_agents)
        return torch.cat((own.reshape(rows, fee_agents, length), rest), 1)


def queue(goods: Goods) -> Queue:
    """Sort fees and bids of every market (rows, or the batch) by ironed density."""
    tariff, fee_agents = goods.tariff, goods.tariff.fee_agents
    density_BNL = goods.density_BNL
    flops_BNL = tariff.double_BNL.expand(density_BNL.shape)

    density_BUI, flops_BUI = goods.over_units(density_BNL), goods.over_units(flops_BNL)
    within_BUI = descending(density_BUI)
    density_BUI = density_BUI.gather(-1, within_BUI)
    flops_BUI = flops_BUI.gather(-1, within_BUI)
    value_BUI = density_BUI * flops_BUI
    bundle_BUI = tariff.setup_flops_BU[..., None] + flops_BUI.cumsum(-1)
    break_even_BU = (value_BUI.cumsum(-1) / bundle_BUI).amax(-1).to(density_BNL.dtype)
    ironed_BUI = torch.minimum(density_BUI, break_even_BU[..., None])
    # A bundle is made of the bids that its break-even price cut down.
    count_BU1 = (density_BUI >= break_even_BU[..., None]).sum(-1, keepdim=True)

    def line(fee: Tensor, own_BUI: Tensor, rest_BNL: Tensor) -> Tensor:
        own = goods.units_per_market(own_BUI.flatten(1))
        return torch.cat((goods.units_per_market(fee), own, goods.per_market(rest_BNL)), 1)

    fee_BU = tariff.setup_flops_BU.double()
    rest_BNL = density_BNL[:, fee_agents:]
    rest_flops_BNL = flops_BNL[:, fee_agents:]
    price_MI = line(break_even_BU, ironed_BUI, rest_BNL)
    position_MI = descending(price_MI)
    flops_MI = line(fee_BU, flops_BUI, rest_flops_BNL).gather(1, position_MI)
    value_MI = line(torch.zeros_like(fee_BU), value_BUI, rest_BNL * rest_flops_BNL)

    units = goods.units_per_market(break_even_BU).shape[1]
    tokens = within_BUI.shape[-1]
    unit_I = torch.arange(units, device=price_MI.device)
    unit_I = torch.cat((unit_I, unit_I.repeat_interleave(tokens)))
    unit_I = torch.nn.functional.pad(unit_I, (0, price_MI.shape[1] - len(unit_I)), value=units)
    return Queue(
        price_MI=price_MI.gather(1, position_MI),
        flops_MI=flops_MI,
        value_MI=value_MI.gather(1, position_MI),
        unit_MI=unit_I.expand_as(position_MI).gather(1, position_MI),
        total_MI=flops_MI.cumsum(1),
        position_MI=position_MI,
        within_BUI=within_BUI,
        break_even_BU=break_even_BU,
        bundle_flops_BU=bundle_BUI.gather(-1, (count_BU1 - 1).clamp(min=0)).squeeze(-1),
    )


class Optimum(NamedTuple):
    """Solution of the linear program.

    Attributes:
        price_M: shadow price, the dual of the compute constraint, credits per GFLOP.
        welfare_M: optimal welfare, credits.
    """

    price_M: Float[Tensor, "M"]
    welfare_M: Float[Tensor, "M"]


def optimum(goods: Goods) -> Optimum:
    """Solve the linear program of every market; the bound that hard clearing is measured by."""
    line = queue(goods)
    bought_MI = goods.supply_M[:, None] - (line.total_MI - line.flops_MI)
    bought_MI = bought_MI.clamp(min=0).minimum(line.flops_MI)
    welfare_M = (bought_MI * line.price_MI).sum(1) / FLOPS_PER_GFLOP
    return Optimum(line.marginal_price_M(goods.supply_M), welfare_M)
