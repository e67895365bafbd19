"""Allocations that no bid has chosen, at the FLOPs that a market would spend.

A layer's gates are drawn row by row; supply is the layer's, set-up fees are paid out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from agent_economy.costs.tariff import Tariff

Draw = Callable[[Tariff, Tensor, torch.Generator], Tensor]


def scattered(
    tariff: Tariff, supply_B: Int[Tensor, "B"], generator: torch.Generator
) -> Bool[Tensor, "B L N"]:
    """Single (token, agent) pairs, each as likely as any other, until supply is used up.

    Units are opened first, in random order, as long as their fees take at most half of supply.
    """
    mask_BL, agents = tariff.mask_BL, tariff.token_flops_BNL.shape[1]
    rows, length = mask_BL.shape
    open_BU, fee_B = _opened(tariff, supply_B, generator)
    may_BN = torch.ones(rows, agents, dtype=torch.bool)
    may_BN[:, : tariff.fee_agents] = open_BU.repeat_interleave(tariff.group, 1)
    may_BI = (mask_BL[:, None] & may_BN[..., None]).flatten(1)
    flops_BI = tariff.token_flops_BNL.expand(rows, agents, length).flatten(1) * may_BI
    order_BI = torch.rand(flops_BI.shape, generator=generator).argsort(1)
    fits_BI = flops_BI.gather(1, order_BI).cumsum(1) <= (supply_B - fee_B)[:, None]
    served_BI = torch.zeros_like(may_BI).scatter_(1, order_BI, fits_BI) & may_BI
    return served_BI.unflatten(1, (agents, length)).transpose(1, 2)


def whole(
    tariff: Tariff, supply_B: Int[Tensor, "B"], generator: torch.Generator
) -> Bool[Tensor, "B L N"]:
    """Whole agents for the whole row, in random order, each if it still fits.

    Agents that share a unit are drawn together with it.
    """
    served_BU, group = tariff.served_flops_BN[:, : tariff.fee_agents], tariff.group
    served_BU = served_BU.unflatten(1, (-1, group)).sum(-1)
    flops_BI = torch.cat(
        (served_BU + tariff.setup_flops_BU, tariff.served_flops_BN[:, tariff.fee_agents :]), 1
    )
    order_BI = torch.rand(flops_BI.shape, generator=generator).argsort(1)
    left_B1, open_BI = supply_B[:, None], torch.zeros_like(flops_BI, dtype=torch.bool)
    for place in range(flops_BI.shape[1]):
        next_B1 = order_BI[:, place : place + 1]
        cost_B1 = flops_BI.gather(1, next_B1)
        fits_B1 = cost_B1 <= left_B1
        left_B1 = left_B1 - cost_B1 * fits_B1
        open_BI.scatter_(1, next_B1, fits_B1)
    units = tariff.setup_flops_U.shape[0]
    open_BN = torch.cat((open_BI[:, :units].repeat_interleave(group, 1), open_BI[:, units:]), 1)
    return open_BN[:, None] & tariff.mask_BL[..., None]


def halves(
    gates: Sequence[Bool[Tensor, "B L N"]], generator: torch.Generator
) -> tuple[list[Tensor], list[Tensor]]:
    """Two allocations that share the closings out between them, agent by agent at random.

    Each agent of each row keeps its closings in one of the two and is open in the other.
    """
    one, other = [], []
    for gate_BLN in gates:
        mine_B1N = torch.rand(len(gate_BLN), 1, gate_BLN.shape[-1], generator=generator) < 0.5
        mine_B1N = mine_B1N.to(gate_BLN.device)
        one.append(gate_BLN.bool() | mine_B1N)
        other.append(gate_BLN.bool() | ~mine_B1N)
    return one, other


def _opened(
    tariff: Tariff, supply_B: Tensor, generator: torch.Generator
) -> tuple[Bool[Tensor, "B U"], Int[Tensor, "B"]]:
    """Units opened in random order, and the fees of each row."""
    fee_BU = tariff.setup_flops_BU
    order_BU = torch.rand(fee_BU.shape, generator=generator).argsort(1)
    fits_BU = 2 * fee_BU.gather(1, order_BU).cumsum(1) <= supply_B[:, None]
    open_BU = torch.zeros_like(fits_BU).scatter_(1, order_BU, fits_BU)
    return open_BU, (fee_BU * open_BU).sum(1)


#: how random allocations are drawn
FAMILIES: dict[str, Draw] = {"random_tokens": scattered, "random_agents": whole}
