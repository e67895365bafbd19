"""Permits: who is endowed with how many, who sells them to whom, and how that is paid.

Supply belongs to the agents. After a market has cleared, agent ``n`` uses ``u_n`` FLOPs of a row's
supply and was endowed with ``e_n``; whoever uses more than it holds buys the rest from those who
use less. A zero-revenue auction (Hahn and Noll 1982): the allocation is the mechanism's, the money
stays among the agents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from agent_economy.agents.settlement import Settlement
from agent_economy.receipt import Receipt


class Contracts(NamedTuple):
    """What was traded in one forward.

    Attributes:
        flops_AA: from seller (row) to buyer (column), summed over texts.
        credits_AA: from buyer (row) to seller (column).
        price_B: mean credits per GFLOP traded in each text, 0 without trade.
    """

    flops_AA: Float64[Tensor, "A A"]
    credits_AA: Float64[Tensor, "A A"]
    price_B: Float64[Tensor, "B"]


@dataclass(frozen=True)
class PermitSettlement(Settlement):
    """Agents pay each other through the treasury as a clearing house, which keeps nothing."""

    def settle(self, payment_A: Tensor, served_A: Tensor, contribution_A: Tensor) -> None:
        """Note what agents did; money moves in ``exchange``, once contracts are known."""
        self.ledger.population.record(served_A, contribution_A)

    def exchange(self, credits_AA: Float64[Tensor, "A A"]) -> None:
        """Pay every contract and close the step.

        Args:
            credits_AA: from buyer (row) to seller (column).
        """
        self.ledger.pay(credits_AA.sum(1))
        self.ledger.pay_income(credits_AA.sum(0))
        self.bankruptcy.apply(self.ledger)
        self.ledger.close_step()


def used_flops(receipt: Receipt) -> Float64[Tensor, "B A"]:
    """FLOPs that every agent used of each row's supply, set-up included."""
    used = []
    for layer, tariff in enumerate(receipt.tariffs):
        used_BN = receipt.agent_flops_BLN(layer).sum(1).double()
        used_BN[:, : tariff.fee_agents] += receipt.setup_flops_BU(layer)
        used.append(used_BN)
    return torch.cat(used, 1)


def paid_credits(receipt: Receipt) -> Float64[Tensor, "B A"]:
    """What every agent owes for its use of each row, at the mechanism's price."""
    paid = []
    for layer, clearing in enumerate(receipt.clearings):
        rows, agents = receipt.tariffs[layer].token_flops_BNL.shape[:2]
        nothing_BN = torch.zeros(rows, agents, dtype=torch.float64)
        paid.append(nothing_BN if clearing is None else clearing.payment_BLN.double().sum(1))
    return torch.cat(paid, 1)


def endowed_flops(receipt: Receipt, share_A: Float64[Tensor, "A"]) -> Float64[Tensor, "B A"]:
    """Permits of every agent for each row: its share of what the markets left to agents."""
    left = [
        supply_BL.sum(1) - flops * tariff.mask_BL.sum(1)
        for supply_BL, flops, tariff in zip(
            receipt.supplies, receipt.market_flops_Y, receipt.tariffs, strict=True
        )
    ]
    return torch.stack(left).sum(0).double()[:, None] * share_A


def contracts(
    receipt: Receipt,
    share_A: Float64[Tensor, "A"],
    matching: Literal["lot", "largest"],
    generator: torch.Generator,
) -> Contracts:
    """Match buyers with sellers text by text.

    A buyer pays, for what it lacks, what a FLOP costs it in the market. Permits that nobody needs
    stay unsold.

    Args:
        receipt: of the forward.
        share_A: of all permits, summing to one.
        matching: who comes first on both sides.
        generator: of the lots.
    """
    used_BA, paid_BA = used_flops(receipt), paid_credits(receipt)
    lacks_BA = used_BA - endowed_flops(receipt, share_A)
    buys_BA, sells_BA = lacks_BA.clamp(min=0), (-lacks_BA).clamp(min=0)
    if matching == "lot":
        lots = torch.rand(2, *buys_BA.shape, generator=generator)
    else:
        lots = torch.stack((-sells_BA, -buys_BA))
    flops_BAA = matched(sells_BA, buys_BA, lots[0].argsort(1), lots[1].argsort(1))
    price_BA = paid_BA / torch.where(used_BA > 0, used_BA, 1.0)
    credits_BAA = flops_BAA.transpose(1, 2) * price_BA[..., None]
    traded_B = flops_BAA.sum((1, 2))
    price_B = 1e9 * credits_BAA.sum((1, 2)) / torch.where(traded_B > 0, traded_B, 1.0)
    return Contracts(flops_BAA.sum(0), credits_BAA.sum(0), price_B)


def matched(
    sells_BA: Float[Tensor, "B A"],
    buys_BA: Float[Tensor, "B A"],
    sellers_BA: Tensor,
    buyers_BA: Tensor,
) -> Float[Tensor, "B A A"]:
    """Sellers serve buyers in the order in which both stand in line (the north-west corner rule).

    Laid end to end, offers and demands are two rulers; where their marks overlap, a contract is
    made.

    Args:
        sells_BA: what each agent offers.
        buys_BA: what each agent lacks.
        sellers_BA: agents in the order in which they sell.
        buyers_BA: agents in the order in which they buy.

    Returns:
        What row ``a`` sells to column ``b``.
    """
    sold_BA = sells_BA.gather(1, sellers_BA).cumsum(1)
    bought_BA = buys_BA.gather(1, buyers_BA).cumsum(1)
    upper = torch.minimum(sold_BA[:, :, None], bought_BA[:, None])
    first = torch.maximum(_before(sold_BA)[:, :, None], _before(bought_BA)[:, None])
    lined_BAA = (upper - first).clamp(min=0)
    found = torch.zeros_like(lined_BAA)
    rows_B = torch.arange(len(lined_BAA))[:, None, None]
    found[rows_B, sellers_BA[:, :, None], buyers_BA[:, None]] = lined_BAA
    return found


def _before(total_BA: Tensor) -> Tensor:
    return torch.nn.functional.pad(total_BA[:, :-1], (1, 0))
