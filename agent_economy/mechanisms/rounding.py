"""From prices to 0/1 gates under a hard budget: which units open, which tokens they sell."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agent_economy.mechanisms.goods import Goods
from agent_economy.mechanisms.optimum import Queue, queue


class Plan(NamedTuple):
    """A feasible hard allocation.

    Attributes:
        gate_BNL: who is served.
        price_M: the dearest bid left unserved in an open unit, never above the break-even price
            of an open unit; credits per GFLOP.
        open_BU: units that are open.
    """

    gate_BNL: Bool[Tensor, "B N L"]
    price_M: Float[Tensor, "M"]
    open_BU: Bool[Tensor, "B U"]


def fill(goods: Goods, *, passes: int = 1) -> Plan:
    """Open units, then serve bids from dense to thin until the next does not fit.

    The linear program buys items of the queue until supply is used up. That can leave one unit
    with its fee paid and only some of its bundle served. Either this stands, or the unit is closed
    and what it frees is spent further down the queue: whichever serves more.

    Args:
        goods: what is traded, cleared per row or per batch.
        passes: rounds of filling; each round after the first goes on past bids that did not fit
            (the greedy 0/1 knapsack), so that less supply is left over.
    """
    line = queue(goods, payable=True)
    price_MU = goods.units_per_market(line.break_even_BU)
    supply_M1 = goods.supply_M[:, None]
    dual_M1, last = line.dual_M1, line.price_MI.shape[1] - 1
    # The unit that the cut goes through; an index beyond all units where it is no unit's item.
    at_M1 = line.position_MI.gather(1, line.cut_M1.clamp(max=last))
    cut_unit_M1 = at_M1.div(line.within_BUJ.shape[-1] + 1, rounding_mode="floor")
    index_U = torch.arange(price_MU.shape[1], device=price_MU.device)
    tied_MU = (price_MU == dual_M1) & (price_MU > 0)
    full_MU = (price_MU > dual_M1) | (tied_MU & (index_U < cut_unit_M1))
    through_MU = tied_MU & (index_U == cut_unit_M1)

    # As the linear program has it: everything before the cut.
    wanted_MI = line.value_MI > 0
    prefix_MI = (line.total_MI <= supply_M1) & wanted_MI

    # With the unit in between closed: its FLOPs go to bids further down.
    everyone = torch.ones((), dtype=torch.bool, device=price_MU.device)
    full_MI = line.in_line(full_MU, everyone).gather(1, line.position_MI) & wanted_MI
    fee_MU = goods.units_per_market(goods.tariff.setup_flops_BU)
    left_M1 = supply_M1 - (fee_MU * full_MU).sum(1, keepdim=True)
    refilled_MI = (_flops(line, full_MI).cumsum(1) <= left_M1) & full_MI
    stands_M1 = _value_M1(line, prefix_MI) > _value_M1(line, refilled_MI)
    chosen_MI = torch.where(stands_M1, prefix_MI, refilled_MI)
    # Its fee may be the very item that did not fit: then the unit has sold nothing, and is closed.
    open_MU = full_MU | (through_MU & stands_M1)
    may_MI = full_MI
    if passes > 1:
        may_MI = line.in_line(open_MU, everyone).gather(1, line.position_MI) & wanted_MI
        left_M1 = supply_M1 - (fee_MU * open_MU).sum(1, keepdim=True)
        for _ in range(passes - 1):
            free_M1 = left_M1 - _flops(line, chosen_MI).sum(1, keepdim=True)
            next_MI = may_MI & ~chosen_MI & (line.flops_MI <= free_M1)
            chosen_MI = chosen_MI | ((_flops(line, next_MI).cumsum(1) <= free_M1) & next_MI)

    unserved_M1 = torch.where(may_MI & ~chosen_MI, line.price_MI, 0).amax(1, keepdim=True)
    price_M1 = torch.where(stands_M1, dual_M1, unserved_M1) if passes == 1 else unserved_M1
    open_BU = open_MU.reshape(line.break_even_BU.shape)
    return Plan(line.restore(chosen_MI, goods), price_M1.squeeze(1), open_BU)


def _flops(line: Queue, chosen_MI: Tensor) -> Tensor:
    """FLOPs of the chosen items, 0 for the others."""
    return torch.where(chosen_MI, line.flops_MI, 0.0)


def _value_M1(line: Queue, chosen_MI: Tensor) -> Tensor:
    """Value of the chosen items."""
    return torch.where(chosen_MI, line.value_MI, 0.0).sum(1, keepdim=True)
