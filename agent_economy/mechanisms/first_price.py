"""First price: the greedy density's winners, and every winner pays what it bid.

Pay-as-bid, the rule of most procurement and of display advertising since 2019. It asks nobody to
compute a price, and everybody to guess one: an agent gains by bidding just above what it takes to
win, so declared bids fall short of values.

    inputs      as for the uniform price
    price       every bid's own density (B, L, N): credits offered per GFLOP of serving the token
    payment     exactly the bid, brought down to what the wallet can pay; set-up fees count against
                supply and in who wins, and are not billed on top
    guarantees  feasible; monotone; relaxed form straight-through; not causal; not truthful, with
                one bid or with many (compare ``uniform_price``, ``vcg``)
    complexity  O(I log I)
    source      Vickrey 1961; Lehmann, O'Callaghan and Shoham 2002 for greedy by density

Example:
    >>> import torch
    >>> from agent_economy.costs.tariff import Tariff
    >>> from agent_economy.mechanisms.first_price import FirstPrice
    >>> bid, flops = torch.tensor([[[9.0, 7.0, 1.0]]]), torch.tensor([[[10], [9], [3]]])
    >>> real, nobody_pays = torch.ones(1, 1, dtype=torch.bool), torch.zeros(0, dtype=torch.long)
    >>> tariff = Tariff(flops, nobody_pays, real)
    >>> rest = torch.tensor([[14]]), torch.ones(3, dtype=torch.bool), torch.full((1, 3), 9e9), {}
    >>> FirstPrice().clear(bid, tariff, *rest)[0].payment_BLN.tolist()
    [[[9.0, 0.0, 1.0]]]
"""

from __future__ import annotations

from torch import Tensor

from agent_economy.mechanisms.base import State
from agent_economy.mechanisms.goods import Goods
from agent_economy.mechanisms.greedy_density import GreedyDensity


class FirstPrice(GreedyDensity):
    """Greedy winners that pay their bids; see the module's heading."""

    name = "first_price"
    flops_per_bid = 48
    bills_fees = False

    def _allocate(self, goods: Goods, state: State) -> tuple[Tensor, Tensor, State]:
        gate_BNL, _, state = super()._allocate(goods, state)
        return gate_BNL, goods.density_BNL, state

    def _relax(
        self, goods: Goods, state: State, temperature: float
    ) -> tuple[Tensor, Tensor, State]:
        gate_BNL, _, state = super()._relax(goods, state, temperature)
        return gate_BNL, goods.density_BNL, state
