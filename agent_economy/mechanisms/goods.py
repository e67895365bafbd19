"""What is traded in one clearing, agent by agent.

A *row* is one sequence; a *market* is where one budget is cleared: the row itself at sequence
scope, the whole batch at batch scope, and each token at token scope. Set-up units belong to rows.
Inside a clearing tensors are indexed agent by agent, (B, N, L), so that position in a market breaks
ties by agent index; they are views of (B, L, N) memory, the bids' own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from agent_economy.costs.tariff import Tariff

Scope = Literal["token", "sequence", "batch"]
FLOPS_PER_GFLOP = 1e9


class Clearing(NamedTuple):
    """What a mechanism returns.

    Attributes:
        allocation_BLN: 0/1 when hard, in [0, 1] when relaxed.
        price: credits per GFLOP, broadcastable to (B, L, N); its shape follows the scope:
            (1, 1, 1) batch, (B, 1, 1) sequence, (B, L, 1) token, (B, 1, N) per agent.
        payment_BLN: credits, set-up fees spread over the tokens that share them.
        spend_flops: per scope ((1,), (B,) or (B, L)), set-up part included; whole numbers when
            hard.
        welfare: declared value served, per scope, in credits.
    """

    allocation_BLN: Float[Tensor, "B L N"]
    price: Float[Tensor, "#B #L #N"]
    payment_BLN: Float[Tensor, "B L N"]
    spend_flops: Tensor
    welfare: Tensor


@dataclass(frozen=True)
class Goods:
    """Bids, tariff and supply of one clearing.

    Attributes:
        value_BNL: bids as declared, 0 where nobody may trade.
        pace_BNL: factor that brings an agent's bids down to what its wallet can pay; one column
            where it is the same for the whole row.
        tariff: FLOPs per token and per opened unit.
        supply_BL: FLOPs that each token brings to its scope.
        active_N: agents that are not muted.
        scope: where one budget is cleared.
        causal: whether nothing may be decided by later tokens. Supply per token must then not
            fall along a row; where some tokens cannot be served by everybody, it must be at least
            the same fraction of dense FLOPs at each.
    """

    value_BNL: Float[Tensor, "B N L"]
    pace_BNL: Float[Tensor, "B N #L"]
    tariff: Tariff
    supply_BL: Int[Tensor, "B L"]
    active_N: Bool[Tensor, "N"]
    scope: Scope
    causal: bool = False

    @classmethod
    def of(
        cls,
        bid_BLN: Float[Tensor, "B L N"],
        tariff: Tariff,
        supply_BL: Int[Tensor, "B L"],
        active_N: Bool[Tensor, "N"],
        limit_BN: Float[Tensor, "B N"],
        scope: Scope,
        *,
        causal: bool = False,
    ) -> Goods:
        """Scale every agent's bids to what it may spend on a row.

        ``bid * min(1, limit / sum of bids over the row)``: multiplicative pacing, as budget-bound
        bidders do in ad auctions (Balseiro and Gur 2019). No payment ever exceeds the bids it
        served, so none exceeds the limit.

        A causal market cannot know the sum over the row; there an agent bids in full until its
        bids so far reach the limit.
        """
        value_BNL = bid_BLN.transpose(1, 2)
        if not (nowhere(~tariff.for_sale_BNL) and nowhere(~active_N)):
            may_BLN = tariff.for_sale_BNL.transpose(1, 2) & active_N
            value_BNL = torch.where(may_BLN, bid_BLN, 0.0).transpose(1, 2)
        limit_BN1 = limit_BN.to(bid_BLN.dtype)[..., None]
        total_BN1 = value_BNL.sum(-1, keepdim=True)
        if nowhere(total_BN1 > limit_BN1):
            pace_BNL = torch.ones_like(total_BN1)
        elif causal:
            total_BNL = value_BNL.cumsum(-1)
            afforded_BNL = total_BNL.minimum(limit_BN1)
            afforded_BNL = afforded_BNL.diff(dim=-1, prepend=torch.zeros_like(limit_BN1))
            pace_BNL = (afforded_BNL / value_BNL.clamp(min=1e-30)).clamp(0.0, 1.0)
            # Exactly 1 until the limit is reached: rounding must not tell what comes later.
            pace_BNL = torch.where(total_BNL <= limit_BN1, 1.0, pace_BNL)
        else:
            pace_BNL = (limit_BN1 / total_BN1.clamp(min=1e-30)).clamp(max=1.0)
        return cls(value_BNL, pace_BNL, tariff, supply_BL, active_N, scope, causal)

    # --- shapes ------------------------------------------------------------------------------

    def per_market(self, x_BNL: Tensor) -> Tensor:
        """(B, N, L) -> (M, I): the bids of one market in a line."""
        if self.scope == "batch":
            return x_BNL.transpose(0, 1).reshape(1, -1)
        return x_BNL.reshape(x_BNL.shape[0], -1)

    def per_agent(self, x_MI: Tensor, agents: int) -> Tensor:
        """The inverse of ``per_market``, for a slice of so many agents."""
        rows, _, length = self.value_BNL.shape
        if self.scope == "batch":
            return x_MI.reshape(agents, rows, length).transpose(0, 1)
        return x_MI.reshape(rows, agents, length)

    def units_per_market(self, x_BU: Tensor) -> Tensor:
        """(B, U) -> (M, units of the market)."""
        return x_BU.reshape(1, -1) if self.scope == "batch" else x_BU

    def per_market_sum(self, x_B: Tensor) -> Tensor:
        """(B,) -> (M,): summed over rows where one market serves the batch, else as it is."""
        return x_B.sum(0, keepdim=True) if self.scope == "batch" else x_B

    def over_agents(self, x_BU: Tensor, default: float | bool) -> Tensor:
        """(B, U) -> (B, N, 1): a unit's value for its agents, ``default`` for those without."""
        group, fee_agents = self.tariff.group, self.tariff.fee_agents
        own = x_BU.repeat_interleave(group, 1) if group > 1 else x_BU
        rest = own.new_full((own.shape[0], self.value_BNL.shape[1] - fee_agents), default)
        return torch.cat((own, rest), 1)[..., None]

    def over_units(self, x_BNL: Tensor) -> Tensor:
        """(B, N, L) -> (B, U, group * L): the tokens of each unit's agents."""
        units = self.tariff.setup_flops_U.shape[0]
        return x_BNL[:, : self.tariff.fee_agents].reshape(
            x_BNL.shape[0], units, self.tariff.group * x_BNL.shape[-1]
        )

    # --- quantities --------------------------------------------------------------------------

    @cached_property
    def density_BNL(self) -> Float[Tensor, "B N L"]:
        """Credits offered per GFLOP of serving the token, set-up apart."""
        # Nobody bids where FLOPs are 0: no agent that can serve a token does it for nothing.
        rate = FLOPS_PER_GFLOP / self.tariff.double_BNL.clamp(min=1)
        return self.value_BNL * (self.pace_BNL * rate).to(self.value_BNL.dtype)

    @cached_property
    def may_BNL(self) -> Bool[Tensor, "B N L"]:
        """Who may trade: the agent can serve the token and is not muted."""
        return self.tariff.for_sale_BNL & self.active_N[:, None]

    @cached_property
    def supply_M(self) -> Int[Tensor, "M"]:
        """FLOPs on offer in each market of at least a row."""
        return self.per_market_sum(self.supply_BL.sum(1))

    def open_BU(self, gate_BNL: Tensor) -> Float[Tensor, "B U"]:
        """How far each unit is open: its widest gate."""
        return self.over_units(gate_BNL).amax(-1)

    def fees_B(self, open_BU: Tensor) -> Tensor:
        """Set-up FLOPs of each row's open units."""
        return (open_BU * self.tariff.setup_flops_BU).sum(1)

    def reserve_BL(self, fee_B: Tensor) -> Int[Tensor, "B L"]:
        """Set-up fees of a row, split over its context tokens and rounded up.

        Tokens that nobody can serve have nothing else to pay for, so their supply goes first. The
        rest is split evenly where every token can pay its part of all fees, so that dense supply
        is enough for dense spend at every token; else in proportion to supply, which every token
        can pay. A causal market splits evenly, whatever comes later: it opens what its first token
        can pay.
        """
        supply_BL, tariff = self.supply_BL, self.tariff
        fee_B1 = fee_B[:, None].double()
        length_B1 = tariff.length_B[:, None]
        if self.causal:
            return (fee_B1 / length_B1.clamp(min=1) * tariff.real_BL).ceil().long()
        most_B1 = (tariff.setup_flops_U * self.unit_U).sum() * length_B1
        if not tariff.patchy:
            return self._split_BL(fee_B1, most_B1, tariff.mask_BL).ceil().long()
        idle_BL = tariff.real_BL & ~tariff.mask_BL
        spare_BL = supply_BL * idle_BL
        spare_B1 = spare_BL.sum(1, keepdim=True)
        from_idle_B1 = fee_B1.minimum(spare_B1)
        # At most all of it, exactly: a factor of at most 1 never rounds a product up.
        idle_part_BL = from_idle_B1 / spare_B1.clamp(min=1) * spare_BL
        rest_B1, most_B1 = fee_B1 - from_idle_B1, (most_B1 - spare_B1).clamp(min=0)
        return (idle_part_BL + self._split_BL(rest_B1, most_B1, tariff.mask_BL)).ceil().long()

    def _split_BL(self, fee_B1: Tensor, most_B1: Tensor, mask_BL: Tensor) -> Tensor:
        """Fees split over tokens, evenly if each can pay its part of the most there may be."""
        supply_BL = self.supply_BL * mask_BL
        tokens_B1 = mask_BL.sum(1, keepdim=True).clamp(min=1)
        even_BL = fee_B1 / tokens_B1 * mask_BL
        fair_BL = fee_B1 * supply_BL / supply_BL.sum(1, keepdim=True).clamp(min=1)
        rich_B1 = ((supply_BL * tokens_B1 >= most_B1) | ~mask_BL).all(1, keepdim=True)
        return torch.where(rich_B1, even_BL, fair_BL)

    @cached_property
    def sure_B1(self) -> Int[Tensor, "B 1"]:
        """FLOPs that every token of a row brings towards fees, read off the first one: causal.

        What the first token brings; or, where others have less to be served with, the same
        fraction of all fees as the first token brings of its dense FLOPs.
        """
        tariff = self.tariff
        supply_B1 = self.supply_BL.gather(1, tariff.first_B1)
        if not tariff.patchy:
            return supply_B1
        dense_B1 = tariff.dense_flops_BL.gather(1, tariff.first_B1).clamp(min=1)
        fees = tariff.setup_flops_U.sum()
        return supply_B1.minimum(supply_B1 * fees // dense_B1)

    @cached_property
    def unit_U(self) -> Bool[Tensor, "U"]:
        """Units that an agent who is not muted may open."""
        return self.active_N[: self.tariff.fee_agents].view(-1, self.tariff.group).any(-1)

    @cached_property
    def fits(self) -> Bool[Tensor, "#B 1 1"]:
        """Whether everybody who may trade can be served: then the market is not run."""
        fee_B = (self.tariff.setup_flops_BU * self.unit_U).sum(1)
        if self.scope == "token":
            cost_BL = (self.tariff.token_flops_BNL * self.active_N[:, None]).sum(1)
            cost_BL = cost_BL * self.tariff.mask_BL + self.reserve_BL(fee_B)
            return (cost_BL <= self.supply_BL).all(1)[:, None, None]
        cost_B = (self.tariff.served_flops_BN * self.active_N).sum(1) + fee_B
        return (self.per_market_sum(cost_B) <= self.supply_M)[:, None, None]

    @cached_property
    def fits_so_far(self) -> Bool[Tensor, "B 1 L"]:
        """Whether every token up to and with this one could be served by everybody: causal."""
        tariff = self.tariff
        cost_BL = (tariff.token_flops_BNL * self.active_N[:, None]).sum(1) * tariff.mask_BL
        cost_BL = cost_BL + (tariff.setup_flops_U * self.unit_U).sum() * tariff.real_BL
        short_BL = cost_BL > self.supply_BL
        return (short_BL.cumsum(1) == 0)[:, None]

    # --- the end of every clearing -----------------------------------------------------------

    def settle(
        self, gate_BNL: Tensor, price: Tensor, fits: Tensor, *, bill_fees: bool = True
    ) -> Clearing:
        """Serve everybody for nothing where everything fits; then add up FLOPs and credits.

        An agent pays the price of its own FLOPs and of its share of the set-up fees, but never
        more than the bids it was served for.

        Args:
            gate_BNL: bool when hard, floating point when soft.
            price: credits per GFLOP, broadcastable to (B, N, L).
            fits: where everything fits, broadcastable to (B, N, L).
            bill_fees: whether the price is also asked for the agent's share of set-up fees.
        """
        dtype = self.value_BNL.dtype
        soft = gate_BNL.is_floating_point()
        if not nowhere(fits):
            gate_BNL = torch.where(fits, self.may_BNL, gate_BNL)
            price = torch.where(fits, 0.0, price)
        gate_BNL = gate_BNL.to(dtype)
        served_BN = gate_BNL.sum(-1)
        flops_BN = self.tariff.total_flops_BN(gate_BNL, served_BN)
        served_BU = self.over_units(served_BN[..., None]).sum(-1)
        open_BU = self.open_BU(gate_BNL) if soft else (served_BU > 0).double()
        fee_BU = open_BU * self.tariff.setup_flops_BU
        flops_BNL = self.tariff.double_BNL
        if bill_fees:
            share = fee_BU / torch.where(served_BU > 0, served_BU, 1)
            flops_BNL = flops_BNL + self.over_agents(share, 0.0)
        rate = (price * (flops_BNL / FLOPS_PER_GFLOP)).to(dtype)
        welfare_BNL = self.value_BNL * gate_BNL
        welfare_BN1 = welfare_BNL.sum(-1, keepdim=True)
        if self.pace_BNL.shape[-1] == 1:
            worth_BN1 = welfare_BN1 * self.pace_BNL
        else:
            worth_BN1 = (welfare_BNL * self.pace_BNL).sum(-1, keepdim=True)
        if rate.shape[-1] == 1:
            asked_BN1 = rate * served_BN[..., None]
        else:
            asked_BN1 = (rate * gate_BNL).sum(-1, keepdim=True)
        # Where nothing is asked the ratio does not matter; 1 keeps its gradient finite.
        capped_BN1 = torch.minimum(asked_BN1, worth_BN1) / torch.where(asked_BN1 > 0, asked_BN1, 1)
        payment_BNL = gate_BNL * (rate * capped_BN1)
        if self.scope == "token":
            spend = (gate_BNL * self.tariff.double_BNL).sum(1) + self.reserve_BL(fee_BU.sum(1))
            welfare = welfare_BNL.sum(1)
        else:
            spend = self.per_market_sum(flops_BN.sum(1) + fee_BU.sum(1))
            welfare = self.per_market_sum(welfare_BN1.sum((1, 2)))
        return Clearing(
            gate_BNL.transpose(1, 2),
            price.transpose(1, 2),
            payment_BNL.transpose(1, 2),
            spend,
            welfare,
        )


def nowhere(condition: Tensor) -> bool:
    """Whether a condition surely holds nowhere, so that work for it can be saved.

    Known on the CPU alone: asking a device would make it wait.
    """
    return condition.device.type == "cpu" and not bool(condition.any())
