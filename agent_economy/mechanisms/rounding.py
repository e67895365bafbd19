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
        price_M: the dearest bid left unserved in an open unit, at most the lowest break-even
            price among open units; credits per GFLOP.
        open_BU: units that are open.
    """

    gate_BNL: Bool[Tensor, "B N L"]
    price_M: Float[Tensor, "M"]
    open_BU: Bool[Tensor, "B U"]


def fill(goods: Goods, *, passes: int = 1) -> Plan:
    """Open units, then serve bids from dense to thin until the next does not fit.

    The linear program leaves at most one unit in between. It is opened or not, whichever serves
    the most welfare.

    Args:
        goods: what is traded, cleared per row or per batch.
        passes: rounds of filling; each round after the first goes on past bids that did not fit
            (the greedy 0/1 knapsack), so that less supply is left over.
    """
    line = queue(goods)
    price_MU = goods.units_per_market(line.break_even_BU)
    fee_MU = goods.units_per_market(goods.tariff.setup_flops_BU)
    dual_M1 = line.marginal_price_M(goods.supply_M)[:, None]
    # Units that tie at the dual are bought one after the other, by index.
    count_M1 = (line.price_MI > dual_M1).sum(1, keepdim=True)
    above_M1 = torch.where(count_M1 > 0, line.total_MI.gather(1, (count_M1 - 1).clamp(min=0)), 0)
    tied_MU = (price_MU == dual_M1) & (price_MU > 0)
    cost_MU = goods.units_per_market(line.bundle_flops_BU) * tied_MU
    total_MU = above_M1 + cost_MU.cumsum(1)
    supply_M1 = goods.supply_M[:, None]
    without_MU = (price_MU > dual_M1) | (tied_MU & (total_MU <= supply_M1))
    with_MU = without_MU | (tied_MU & (total_MU - cost_MU < supply_M1))
    # Rounding in the sort may let in more units than supply can open.
    with_MU = with_MU & ((fee_MU * with_MU).sum(1, keepdim=True) <= supply_M1)

    chosen_MI, may_MI, left_M1 = _serve(goods, line, without_MU)
    more_MI, more_may_MI, more_left_M1 = _serve(goods, line, with_MU)
    gain_M = (line.value_MI * more_MI).sum(1) - (line.value_MI * chosen_MI).sum(1)
    better_M1 = (gain_M > 0)[:, None]
    chosen_MI = torch.where(better_M1, more_MI, chosen_MI)
    may_MI = torch.where(better_M1, more_may_MI, may_MI)
    left_M1 = torch.where(better_M1, more_left_M1, left_M1)
    open_MU = torch.where(better_M1, with_MU, without_MU)

    for _ in range(passes - 1):
        free_M1 = left_M1 - (line.flops_MI * chosen_MI).sum(1, keepdim=True)
        next_MI = may_MI & ~chosen_MI & (line.flops_MI <= free_M1)
        chosen_MI = chosen_MI | (((line.flops_MI * next_MI).cumsum(1) <= free_M1) & next_MI)

    price_M = torch.where(may_MI & ~chosen_MI, line.price_MI, 0).amax(1)
    return Plan(line.restore(chosen_MI, goods), price_M, open_MU.reshape(line.break_even_BU.shape))


def _serve(goods: Goods, line: Queue, open_MU: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Bids served when these units are open, bids that may be, and FLOPs left after fees."""
    # Items without a fee need a last unit, which is always open; fees themselves have no value.
    open_MV = torch.nn.functional.pad(open_MU, (0, 1), value=True)
    may_MI = open_MV.gather(1, line.unit_MI) & (line.value_MI > 0)
    fee_M = (open_MU * goods.units_per_market(goods.tariff.setup_flops_BU)).sum(1)
    left_M1 = (goods.supply_M - fee_M)[:, None].double()
    total_MI = (line.flops_MI * may_MI).cumsum(1)
    return (total_MI <= left_M1) & may_MI, may_MI, left_M1
