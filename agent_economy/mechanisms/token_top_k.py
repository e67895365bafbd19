"""Token top-k: every agent serves the tokens that it bids most for, all to the same capacity.

The expert-choice rule of Mixture-of-Depths, with every head and block a router of its own. Units
with set-up fees open, best total bid first, as long as their fees take at most half of supply;
the rest of supply sets one capacity, the share of its own dense FLOPs that every open agent may
spend.

    inputs      as for the uniform price
    price       each agent's cut-off: the dearest bid it left unserved (B, 1, N), credits per GFLOP
    guarantees  feasible; monotone in a bid against the agent's own others; relaxed form
                differentiable (served tokens weighted by the router,
                ``sigmoid((density - cut-off) / T)``); not causal; welfare is not maximised
    complexity  O(I log L)
    source      Raposo et al. 2024 (arXiv 2404.02258); Zhou et al. 2022 for expert choice

Example:
    >>> import torch
    >>> from agent_economy.costs.tariff import Tariff
    >>> from agent_economy.mechanisms.token_top_k import TokenTopK
    >>> bid = torch.tensor([[[3.0, 1.0], [2.0, 4.0]]])
    >>> real, nobody_pays = torch.ones(1, 2, dtype=torch.bool), torch.zeros(0, dtype=torch.long)
    >>> tariff = Tariff(torch.full((1, 2, 1), 10), nobody_pays, real)
    >>> rest = torch.tensor([[10, 10]]), torch.tensor([True, True]), torch.full((1, 2), 9e9), {}
    >>> TokenTopK().clear(bid, tariff, *rest)[0].allocation_BLN.int().tolist()
    [[[1, 0], [0, 1]]]
"""

from __future__ import annotations

import torch
from torch import Tensor

from agent_economy.mechanisms.base import Guarantees, Mechanism, State
from agent_economy.mechanisms.goods import Goods
from agent_economy.mechanisms.openings import by_total_bid
from agent_economy.mechanisms.order import descending


class TokenTopK(Mechanism):
    """Every agent serves its best tokens; see the module's heading."""

    name = "token_top_k"
    guarantees = Guarantees()
    flops_per_bid = 32

    def _allocate(self, goods: Goods, state: State) -> tuple[Tensor, Tensor, State]:
        tariff, density_BNL = goods.tariff, goods.density_BNL
        supply_B1 = goods.supply_BL.sum(1, keepdim=True)
        open_BU = by_total_bid(goods)
        open_BN = goods.over_agents(open_BU, True).squeeze(-1) & goods.active_N
        dense_BN = tariff.served_flops_BN * open_BN
        left_B1 = supply_B1 - goods.fees_B(open_BU)[:, None]
        capacity_B1 = left_B1.double() / dense_BN.sum(-1, keepdim=True).clamp(min=1)
        budget_BN1 = (dense_BN * capacity_B1).floor()[..., None]

        order_BNL = descending(density_BNL)
        flops_BNL = tariff.double_BNL.expand(density_BNL.shape).gather(-1, order_BNL)
        sorted_BNL = density_BNL.gather(-1, order_BNL)
        served_BNL = (flops_BNL.cumsum(-1) <= budget_BN1) & (sorted_BNL > 0)
        cut_BN1 = torch.where(served_BNL, 0, sorted_BNL).amax(-1, keepdim=True)
        gate_BNL = torch.zeros_like(served_BNL).scatter_(-1, order_BNL, served_BNL)
        return gate_BNL, torch.where(open_BN[..., None], cut_BN1, 0), state

    def _relax(
        self, goods: Goods, state: State, temperature: float
    ) -> tuple[Tensor, Tensor, State]:
        gate_BNL, cut_BN1, state = self._allocate(goods, state)
        router_BNL = torch.sigmoid((goods.density_BNL - cut_BN1) / temperature)
        return gate_BNL * router_BNL, cut_BN1, state
