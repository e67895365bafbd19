"""Greedy density: serve the densest bids, and go on past those that do not fit.

The classical heuristic of the 0/1 knapsack, with set-up fees: units are opened as in the uniform
price, then bids are served by density; what does not fit is skipped, thinner bids that do are
served.

    inputs      as for the uniform price
    price       the dearest bid left unserved in an open unit (B, 1, 1); (B, L, 1) at token scope,
                (1, 1, 1) at batch scope; credits per GFLOP
    guarantees  feasible; at least the hard uniform price's welfare; relaxed form straight-through
                (the hard gates, with the gradient of the sigmoid market); not causal
    complexity  O(I log I)
    source      Dantzig 1957; Lehmann, O'Callaghan and Shoham 2002 for greedy by density

Example:
    >>> import torch
    >>> from agent_economy.costs.tariff import Tariff
    >>> from agent_economy.mechanisms.greedy_density import GreedyDensity
    >>> bid, flops = torch.tensor([[[9.0, 7.0, 1.0]]]), torch.tensor([[[10], [9], [3]]])
    >>> real, nobody_pays = torch.ones(1, 1, dtype=torch.bool), torch.zeros(0, dtype=torch.long)
    >>> tariff = Tariff(flops, nobody_pays, real)
    >>> rest = torch.tensor([[14]]), torch.ones(3, dtype=torch.bool), torch.full((1, 3), 9e9), {}
    >>> GreedyDensity().clear(bid, tariff, *rest)[0].allocation_BLN.int().tolist()
    [[[1, 0, 1]]]
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from agent_economy.mechanisms.base import Guarantees, State
from agent_economy.mechanisms.goods import Goods
from agent_economy.mechanisms.uniform_price import UniformPrice


class GreedyDensity(UniformPrice):
    """The 0/1 knapsack's greedy; see the module's heading."""

    name = "greedy_density"
    guarantees = Guarantees(straight_through=True, differentiable=False)
    flops_per_bid = 48
    passes: ClassVar[int] = 2

    def _relax(
        self, goods: Goods, state: State, temperature: float
    ) -> tuple[Tensor, Tensor, State]:
        hard_BNL, price, _ = self._allocate(goods, state)
        soft_BNL, _, _ = super()._relax(goods, state, temperature)
        return hard_BNL + soft_BNL - soft_BNL.detach(), price, state
