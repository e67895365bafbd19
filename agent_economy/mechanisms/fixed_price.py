"""One price for everybody, set from outside and kept: take it or leave it.

Every (token, agent) whose bid covers the price of its FLOPs is served; a head opens for a row where
the summed surplus of its tokens covers the price of its keys and values. All layers trade at the
same price, so FLOPs go wherever they are worth most, at no layer's budget. What that spends is
known afterwards: the price is the dual of a budget over many forwards, and whoever sets it
(training by dual ascent, ``training.methods.posted``) has to see to the budget.

    maximises   declared value less price times FLOPs, row by row
    inputs      bid (B, L, N), tariff; of supply only whether there is any in a row, and whether
                it is enough for everybody (who is then served for nothing)
    price       the one in the state, (1, 1, 1), credits per GFLOP
    guarantees  monotone; the relaxed form is differentiable. Not feasible forward by forward: over
                a data set only, as far as its price was set on data like it. Not causal: a head
                opens by the sum over its row
    complexity  O(I), nothing is sorted
    source      Lagrangian relaxation of the budget (Everett 1963)

Example:
    >>> import torch
    >>> from agent_economy.costs.tariff import Tariff
    >>> from agent_economy.mechanisms.fixed_price import FixedPrice
    >>> bid = torch.tensor([[[3.0, 1.0], [2.0, 4.0]]])
    >>> real, nobody_pays = torch.ones(1, 2, dtype=torch.bool), torch.zeros(0, dtype=torch.long)
    >>> tariff = Tariff(torch.full((1, 2, 1), 10**9), nobody_pays, real)
    >>> rest = torch.tensor([[1, 1]]), torch.tensor([True, True]), torch.full((1, 2), 9e9)
    >>> market = FixedPrice(price=2.5)
    >>> clearing, _ = market.clear(bid, tariff, *rest, market.initial_state(2, 0, 0))
    >>> clearing.allocation_BLN.int().tolist()
    [[[1, 0], [0, 1]]]
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from agent_economy.errors import EconomyError
from agent_economy.mechanisms.base import Guarantees, Mechanism, Scope, State
from agent_economy.mechanisms.goods import FLOPS_PER_GFLOP, Goods
from agent_economy.mechanisms.relaxation import soft_allocation


class FixedPrice(Mechanism):
    """A price that no forward changes; see the module's heading.

    Args:
        scope: only ``"sequence"``: heads open row by row.
        price: credits per GFLOP to begin with; above 0.
        straight_through: whether the relaxed form is the hard one with the soft one's gradient.

    Raises:
        EconomyError: the price is not above 0.
    """

    name = "fixed_price"
    scopes: ClassVar[tuple[Scope, ...]] = ("sequence",)
    flops_per_bid = 8

    def __init__(
        self, scope: Scope = "sequence", price: float = 1.0, straight_through: bool = False
    ) -> None:
        super().__init__(scope)
        self.guarantees = Guarantees(
            feasible=False, straight_through=straight_through, differentiable=not straight_through
        )
        self.straight_through = straight_through
        if not 0 < price < float("inf"):
            raise EconomyError(f"fixed_price: price = {price}; give a number above 0")
        self.price = price

    def initial_state(self, agents: int, units: int, seed: int) -> State:
        """``price``: credits per GFLOP, the same whatever the market; nothing is learned."""
        return {"price": torch.tensor(self.price, dtype=torch.float64)}

    def _allocate(self, goods: Goods, state: State) -> tuple[Tensor, Tensor, State]:
        price = self._posted(goods, state)
        above_BNL = goods.density_BNL - price
        gate_BNL = (above_BNL >= 0) & goods.may_BNL & _supplied(goods)
        if goods.tariff.fee_agents:
            gflops_BNL = goods.tariff.double_BNL / FLOPS_PER_GFLOP
            gain_BU = goods.over_units(gflops_BNL * above_BNL.clamp(min=0) * goods.may_BNL).sum(-1)
            fee_BU = goods.tariff.setup_flops_BU / FLOPS_PER_GFLOP * price[:, 0]
            gate_BNL = gate_BNL & goods.over_agents(gain_BU >= fee_BU, True)
        return gate_BNL, price, state

    def _relax(
        self, goods: Goods, state: State, temperature: float
    ) -> tuple[Tensor, Tensor, State]:
        price = self._posted(goods, state)
        soft_BNL = soft_allocation(goods, temperature, price) * _supplied(goods)
        if self.straight_through:
            hard_BNL, _, _ = self._allocate(goods, state)
            soft_BNL = hard_BNL + soft_BNL - soft_BNL.detach()
        return soft_BNL, price, state

    def _posted(self, goods: Goods, state: State) -> Tensor:
        posted = state.get("price", torch.tensor(self.price, dtype=torch.float64))
        return posted.to(goods.density_BNL)[None, None, None]


def _supplied(goods: Goods) -> Tensor:
    """Rows that have any supply at all, (B, 1, 1)."""
    return (goods.supply_BL.sum(1) > 0)[:, None, None]
