"""No market: every kind of agent gets the same fraction, drawn by lot.

Bids are ignored. With supply at a fraction ``r`` of dense FLOPs, ``floor(r * U)`` set-up units
and ``floor(r * (N - fee agents))`` agents without a fee serve every token; which ones is a seeded
draw, fixed for the layer.

    inputs      tariff, supply_flops_BL, active_N; bids count for welfare only
    price       0
    guarantees  feasible; causal (``r`` is read off the first token); no gradient, since nothing
                depends on bids; not equivariant, since the lot is drawn by index
    complexity  O(N)
    source      the rationing baseline of design section 5

Example:
    >>> import torch
    >>> from agent_economy.costs.tariff import Tariff
    >>> from agent_economy.mechanisms.uniform import Uniform
    >>> real, nobody_pays = torch.ones(1, 2, dtype=torch.bool), torch.zeros(0, dtype=torch.long)
    >>> tariff = Tariff(torch.full((1, 4, 1), 10), nobody_pays, real)
    >>> rest = torch.tensor([[20, 20]]), torch.ones(4, dtype=torch.bool), torch.full((1, 4), 9e9)
    >>> lots = Uniform()
    >>> clearing, _ = lots.clear(torch.ones(1, 2, 4), tariff, *rest, lots.initial_state(4, 0, 7))
    >>> clearing.allocation_BLN.sum(-1).tolist()
    [[2.0, 2.0]]
"""

from __future__ import annotations

import torch
from torch import Tensor

from agent_economy.mechanisms.base import Guarantees, Mechanism, State
from agent_economy.mechanisms.goods import Goods


class Uniform(Mechanism):
    """The same fraction of every kind, by lot; see the module's heading."""

    name = "uniform"
    guarantees = Guarantees(causal=True, differentiable=False, monotone=False, equivariant=False)
    flops_per_bid = 0

    def initial_state(self, agents: int, units: int, seed: int) -> State:
        """One lot per agent; those of a unit share the unit's."""
        generator = torch.Generator().manual_seed(seed)
        return {"lot_A": torch.rand(units + agents, generator=generator, dtype=torch.float64)}

    def _fits(self, goods: Goods) -> Tensor:
        return goods.fits_so_far

    def _allocate(self, goods: Goods, state: State) -> tuple[Tensor, Tensor, State]:
        tariff = goods.tariff
        units = tariff.setup_flops_U.shape[0]
        lot_A = state["lot_A"].to(goods.value_BNL.device)
        unit_rank_U = lot_A[:units].argsort().argsort()
        free_rank = lot_A[units + tariff.fee_agents :].argsort().argsort()
        first_B1 = tariff.mask_BL.int().argmax(-1)[:, None]
        supply_B1 = goods.supply_BL.gather(-1, first_B1)
        dense_B1 = tariff.dense_flops_BL.gather(-1, first_B1).clamp(min=1)

        def few(rank: Tensor) -> Tensor:
            # multiply before dividing: whole fractions stay whole
            return rank < (supply_B1 * rank.shape[0]).div(dense_B1, rounding_mode="floor")

        own_BN = few(unit_rank_U).repeat_interleave(tariff.group, 1)
        chosen_BN1 = torch.cat((own_BN, few(free_rank)), 1)[..., None]
        return chosen_BN1 & goods.may_BNL, goods.pace_BN1.new_zeros(1, 1, 1), state

    def _relax(
        self, goods: Goods, state: State, temperature: float
    ) -> tuple[Tensor, Tensor, State]:
        return self._allocate(goods, state)
