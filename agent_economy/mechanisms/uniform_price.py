"""Uniform price: one price per market at which demand meets supply.

Maximises declared welfare ``sum bid * x`` subject to ``sum flops * x + fees <= supply``.

    inputs      bid_BLN (credits), tariff, supply_flops_BL, active_N, limit_BN
    price       hard: the dearest unserved bid of an open unit; relaxed: the LP dual (B, 1, 1),
                or (B, L, 1) at token scope, (1, 1, 1) at batch scope; credits per GFLOP
    guarantees  feasible; relaxed form differentiable, price included; LP optimum as T -> 0, where
                the hard form rounds the marginal agents down; not causal; not truthful for an
                agent that bids on many tokens
    complexity  O(I log I) for I bids of a market
    source      Walras; fixed charges by ironing, see ``optimum``; Dantzig 1957

Example:
    >>> import torch
    >>> from agent_economy.costs.tariff import Tariff
    >>> from agent_economy.mechanisms.uniform_price import UniformPrice
    >>> bid = torch.tensor([[[3.0, 1.0], [2.0, 4.0]]])
    >>> real, nobody_pays = torch.ones(1, 2, dtype=torch.bool), torch.zeros(0, dtype=torch.long)
    >>> tariff = Tariff(torch.full((1, 2, 1), 10), nobody_pays, real)
    >>> rest = torch.tensor([[15, 15]]), torch.tensor([True, True]), torch.full((1, 2), 9e9), {}
    >>> clearing, _ = UniformPrice().clear(bid, tariff, *rest)
    >>> clearing.allocation_BLN.int().tolist(), clearing.welfare.item()
    ([[[1, 0], [1, 1]]], 9.0)
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from agent_economy.mechanisms.base import Guarantees, Mechanism, State
from agent_economy.mechanisms.goods import Goods, Scope
from agent_economy.mechanisms.lines import Lines
from agent_economy.mechanisms.relaxation import soft_lines, soft_market
from agent_economy.mechanisms.rounding import fill


class UniformPrice(Mechanism):
    """One price per market; see the module's heading."""

    name = "uniform_price"
    guarantees = Guarantees(lp_limit=True)
    scopes: ClassVar[tuple[Scope, ...]] = ("sequence", "token", "batch")
    flops_per_bid = 40
    #: rounds of filling; the greedy mechanism goes on past bids that do not fit
    passes: ClassVar[int] = 1

    def _allocate(self, goods: Goods, state: State) -> tuple[Tensor, Tensor, State]:
        plan = fill(goods, passes=self.passes)
        if self.scope == "token":
            lines = Lines(goods, plan.open_BU)
            served = lines.serve(lines.density, passes=self.passes)
            return lines.back(served), lines.price(lines.dearest_unserved(served)), state
        return plan.gate_BNL, plan.price_M[:, None, None], state

    def _relax(
        self, goods: Goods, state: State, temperature: float
    ) -> tuple[Tensor, Tensor, State]:
        if self.scope == "token":
            return *soft_lines(Lines(goods, fill(goods).open_BU), temperature), state
        return *soft_market(goods, temperature), state
