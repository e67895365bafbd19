"""What every mechanism is: bids, costs and supply in, a clearing out.

Members say how an allocation and its price are found (``_allocate`` and ``_relax``). Everything
that must hold for all of them is done here once: bids scaled to what wallets can pay, the free
market when everything fits, FLOPs and credits added up.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from agent_economy.costs.tariff import Tariff
from agent_economy.errors import EconomyError
from agent_economy.mechanisms.goods import Clearing, Goods, Scope

State = dict[str, Tensor]


@dataclass(frozen=True)
class Guarantees:
    """What a mechanism promises; each flag selects its contract tests.

    Attributes:
        feasible: hard spend, set-up included, never exceeds supply in the declared scope.
        causal: an allocation does not change with later tokens (at token scope, or when a
            sequence is cleared in token order).
        differentiable: the relaxed form has a gradient in the bids that gradcheck confirms.
        straight_through: the relaxed form is the hard one with a borrowed gradient.
        monotone: a higher bid never loses what a lower one won.
        lp_limit: the relaxed form tends to the LP optimum as the temperature falls.
        equivariant: relabelling agents relabels the result (no ties).
        seeded: ties and fractions are settled by seeded lots, kept per agent in the state.
        sells_out: what has a price in the relaxed form is sold out (complementary slackness).
        truthful: no single (agent, token) bid gains by misreporting, with wallets slack and no
            fee at stake; winners pay their critical value.
    """

    feasible: bool = True
    causal: bool = False
    differentiable: bool = True
    straight_through: bool = False
    monotone: bool = True
    lp_limit: bool = False
    equivariant: bool = True
    seeded: bool = False
    sells_out: bool = False
    truthful: bool = False


class Mechanism(ABC):
    """Allocates and prices scarce FLOPs among agents that bid per token.

    What a mechanism remembers from forward to forward is a dict of tensors. The end of a key says
    how it is laid out: ``_N`` one value per agent, ``_U`` one per set-up unit, anything else is
    about the market as a whole.

    Args:
        scope: over which (row, tokens) one budget is cleared: ``"token"``, ``"sequence"`` or
            ``"batch"``.
    """

    name: ClassVar[str]
    #: may depend on the scope: then a member sets it in its constructor
    guarantees: Guarantees
    scopes: ClassVar[tuple[Scope, ...]] = ("sequence",)
    #: whether it learns from forward to forward, so that it is worth warming up
    learns: bool = False
    #: whether winners are billed for their share of set-up fees, at the price of FLOPs
    bills_fees: ClassVar[bool] = True
    #: comparisons and multiply-adds per bid, charged to the market's own FLOPs
    flops_per_bid: ClassVar[int]

    def __init__(self, scope: Scope = "sequence") -> None:
        if scope not in self.scopes:
            raise EconomyError(
                f"mechanism {self.name!r} does not clear per {scope}; choose scope = "
                + " or ".join(repr(each) for each in self.scopes)
            )
        self.scope: Scope = scope

    def initial_state(self, agents: int, units: int, seed: int) -> State:
        """What the mechanism remembers between forwards of one layer: nothing, unless it says."""
        return {}

    def clear(
        self,
        bid_BLN: Float[Tensor, "B L N"],
        tariff: Tariff,
        supply_flops_BL: Int[Tensor, "B L"],
        active_N: Bool[Tensor, "N"],
        limit_BN: Float[Tensor, "B N"],
        state: State,
    ) -> tuple[Clearing, State]:
        """Clear the market with hard 0/1 gates.

        Args:
            bid_BLN: credits offered for serving each token, >= 0.
            tariff: FLOPs per token and per opened unit.
            supply_flops_BL: FLOPs that each token brings to its scope; 0 on padding.
            active_N: agents that are not muted.
            limit_BN: credits that each agent may spend on each row.
            state: from ``initial_state`` or the last clearing.

        Returns:
            The clearing, and the state for the next forward.

        Raises:
            EconomyError: a bid is NaN, infinite or negative (checked on the CPU; on a device
                the market checks once per forward instead of stopping it here).
        """
        if bid_BLN.device.type == "cpu":
            check_bids(bid_BLN)
        with torch.no_grad():
            goods = self._goods(bid_BLN, tariff, supply_flops_BL, active_N, limit_BN)
            gate_BNL, price, state = self._allocate(goods, state)
            return self._settle(goods, gate_BNL, price), state

    def relax(
        self,
        bid_BLN: Float[Tensor, "B L N"],
        tariff: Tariff,
        supply_flops_BL: Int[Tensor, "B L"],
        active_N: Bool[Tensor, "N"],
        limit_BN: Float[Tensor, "B N"],
        state: State,
        *,
        temperature: float,
    ) -> tuple[Clearing, State]:
        """Clear with soft gates that carry a gradient to the bids.

        Args: as for ``clear``, and
            temperature: credits per GFLOP over which a gate turns from 0 to 1.
        """
        goods = self._goods(bid_BLN, tariff, supply_flops_BL, active_N, limit_BN)
        gate_BNL, price, state = self._relax(goods, state, temperature)
        return self._settle(goods, gate_BNL, price), state

    def _settle(self, goods: Goods, gate_BNL: Tensor, price: Tensor) -> Clearing:
        return goods.settle(gate_BNL, price, self._fits(goods), bill_fees=self.bills_fees)

    def _goods(
        self,
        bid_BLN: Tensor,
        tariff: Tariff,
        supply_flops_BL: Tensor,
        active_N: Tensor,
        limit_BN: Tensor,
    ) -> Goods:
        """What is traded, at bids that the wallets can pay."""
        causal = self.guarantees.causal
        return Goods.of(
            bid_BLN, tariff, supply_flops_BL, active_N, limit_BN, self.scope, causal=causal
        )

    def _fits(self, goods: Goods) -> Tensor:
        """Where everything fits, so that the market is not run; broadcastable to (B, N, L)."""
        return goods.fits

    @abstractmethod
    def _allocate(self, goods: Goods, state: State) -> tuple[Tensor, Tensor, State]:
        """Bool gates (B, N, L), price that broadcasts to them, and the next state."""

    @abstractmethod
    def _relax(
        self, goods: Goods, state: State, temperature: float
    ) -> tuple[Tensor, Tensor, State]:
        """Soft gates (B, N, L), price that broadcasts to them, and the next state."""


def check_bids(bid_BLN: Float[Tensor, "B L N"]) -> None:
    """Refuse bids that are not numbers.

    Raises:
        EconomyError: a bid is NaN, infinite or negative.
    """
    low, high = torch.aminmax(bid_BLN)
    # A NaN fails both comparisons; an infinity fails the second.
    if not (low >= 0 and high < torch.inf):
        raise EconomyError(
            "bids must be finite and at least 0; a policy returned "
            f"values from {low.item()} to {high.item()}: check its calibration and its inputs"
        )


__all__ = ["Clearing", "Guarantees", "Mechanism", "Scope", "State", "check_bids"]
