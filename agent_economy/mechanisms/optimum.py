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

    Items are set-up fees and bids. Before sorting they stand unit by unit, ``[fee, its bids from
    dense to thin]``, then the bids that bear no fee; position breaks ties, so units that tie are
    bought one after the other, and a fee before what it opens.

    Attributes:
        price_MI: price at which each item is admitted (ironed density), credits per GFLOP.
        flops_MI: float64, what it costs.
        total_MI: running sum of ``flops_MI``.
        value_MI: credits bid for it; 0 for a fee.
        position_MI: where each item stood before sorting.
        within_BUJ: for each sorted bid of a unit, where it stood in the unit.
        break_even_BU: price up to which opening each unit pays.
        cut_M1: the first item that supply does not cover; the number of items where it covers all.
        dual_M1: the linear program's shadow price: the price of that item, or 0.
    """

    price_MI: Float[Tensor, "M I"]
    flops_MI: Float[Tensor, "M I"]
    total_MI: Float[Tensor, "M I"]
    value_MI: Float[Tensor, "M I"]
    position_MI: Int[Tensor, "M I"]
    within_BUJ: Int[Tensor, "B U J"]
    break_even_BU: Float[Tensor, "B U"]
    cut_M1: Int[Tensor, "M 1"]
    dual_M1: Float[Tensor, "M 1"]

    def in_line(self, unit_MU: Tensor, rest: Tensor) -> Tensor:
        """A value per unit, and one for all bids without a fee, spread over the unsorted line."""
        markets, items = self.price_MI.shape
        units, tokens = unit_MU.shape[1], self.within_BUJ.shape[-1] + 1
        own = unit_MU[..., None].expand(markets, units, tokens).reshape(markets, -1)
        return torch.cat((own, rest.expand(markets, items - own.shape[1])), 1)

    def restore(self, chosen_MI: Bool[Tensor, "M I"], goods: Goods) -> Bool[Tensor, "B N L"]:
        """Gates of the chosen bids, agent by agent."""
        placed_MI = torch.empty_like(chosen_MI).scatter_(1, self.position_MI, chosen_MI)
        rows, units, tokens = self.within_BUJ.shape
        split = rows * units * (tokens + 1) // chosen_MI.shape[0]
        sorted_BUJ = placed_MI[:, :split].reshape(rows, units, tokens + 1)[..., 1:]
        own_BUJ = torch.empty_like(sorted_BUJ).scatter_(-1, self.within_BUJ, sorted_BUJ)
        fee_agents = goods.tariff.fee_agents
        _, agents, length = goods.value_BNL.shape
        rest = goods.per_agent(placed_MI[:, split:], agents - fee_agents)
        return torch.cat((own_BUJ.reshape(rows, fee_agents, length), rest), 1)


def queue(goods: Goods, *, payable: bool = False) -> Queue:
    """Sort fees and bids of every market (rows, or the batch) by ironed density.

    Args:
        goods: what is traded.
        payable: price units by bundles that supply can pay whole. The linear program buys
            fractions of larger ones; hard gates cannot.
    """
    tariff, fee_agents = goods.tariff, goods.tariff.fee_agents
    density_BNL = goods.density_BNL.contiguous()
    within_BUJ, density_BUJ, flops_BUJ, value_BUJ, bundle_BUJ = _bundles(goods, density_BNL)
    average_BUJ = value_BUJ / bundle_BUJ
    if payable:
        average_BUJ = torch.where(bundle_BUJ <= goods.supply_M[:, None, None], average_BUJ, 0.0)
    break_even_BU1 = average_BUJ.amax(-1, keepdim=True).to(density_BNL.dtype)
    ironed_BUJ = torch.minimum(density_BUJ, break_even_BU1)
    rest_BNL = density_BNL[:, fee_agents:]

    def line(fee_BU1: Tensor, own_BUJ: Tensor, rest_BNL: Tensor) -> Tensor:
        units = goods.units_per_market(torch.cat((fee_BU1, own_BUJ), -1).flatten(1))
        return torch.cat((units, goods.per_market(rest_BNL)), 1)

    price_MI = line(break_even_BU1, ironed_BUJ, rest_BNL)
    position_MI = descending(price_MI)
    price_MI = price_MI.gather(1, position_MI)
    if tariff.flat and goods.scope != "batch":
        flops_MI = tariff.line_flops_BI.gather(1, position_MI)
    else:
        fee_BU1 = tariff.setup_flops_BU[..., None].double()
        rest_flops_BNL = tariff.double_BNL[:, fee_agents:].expand(rest_BNL.shape)
        flops_MI = line(fee_BU1, flops_BUJ, rest_flops_BNL).gather(1, position_MI)
    total_MI = flops_MI.cumsum(1)
    # Credits stay in the bids' own precision: mixing precisions costs a copy of everything.
    value_BUJ = density_BUJ * flops_BUJ.to(density_BUJ.dtype)
    value_BNL = rest_BNL * tariff.double_BNL[:, fee_agents:].to(rest_BNL.dtype)
    value_MI = line(torch.zeros_like(break_even_BU1), value_BUJ, value_BNL)
    cut_M1 = (total_MI <= goods.supply_M[:, None]).sum(1, keepdim=True)
    last = price_MI.shape[1] - 1
    marginal_M1 = price_MI.gather(1, cut_M1.clamp(max=last))
    return Queue(
        price_MI=price_MI,
        flops_MI=flops_MI,
        total_MI=total_MI,
        value_MI=value_MI.gather(1, position_MI),
        position_MI=position_MI,
        within_BUJ=within_BUJ,
        break_even_BU=break_even_BU1.squeeze(-1),
        cut_M1=cut_M1,
        dual_M1=torch.where(cut_M1 > last, 0.0, marginal_M1),
    )


def _bundles(goods: Goods, density_BNL: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Every unit's bids from dense to thin: position, density, FLOPs; value, cost of k with fee."""
    tariff = goods.tariff
    density_BUJ = goods.over_units(density_BNL)
    within_BUJ = descending(density_BUJ)
    density_BUJ = density_BUJ.gather(-1, within_BUJ)
    if tariff.flat:  # nothing to gather: all bids of a unit cost the same
        flops_BU1 = tariff.double_BNL[:, : tariff.fee_agents]
        value_BUJ = density_BUJ.cumsum(-1, dtype=torch.float64) * flops_BU1
        flops_BUJ = flops_BU1.expand(density_BUJ.shape)
        return within_BUJ, density_BUJ, flops_BUJ, value_BUJ, tariff.bundle_flops_BUL
    flops_BNL = tariff.double_BNL.expand(density_BNL.shape)
    flops_BUJ = goods.over_units(flops_BNL).gather(-1, within_BUJ)
    value_BUJ = (density_BUJ * flops_BUJ).cumsum(-1)
    fee_BU1 = tariff.setup_flops_BU[..., None]
    return within_BUJ, density_BUJ, flops_BUJ, value_BUJ, fee_BU1 + flops_BUJ.cumsum(-1)


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
    return Optimum(line.dual_M1.squeeze(1), welfare_M)
