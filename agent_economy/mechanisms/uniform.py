"""No market: every kind of agent gets the same fraction, drawn by lot.

Bids are ignored. With supply at a fraction ``r`` of dense FLOPs, ``floor(r * U)`` set-up units
serve every token, and so do as many agents without a fee as take at most ``r`` of what all of them
would; which ones is a seeded draw, fixed for the layer, in which muted agents come last.

    inputs      tariff, supply_flops_BL, active_N; bids count for welfare only
    price       0
    guarantees  feasible; causal (``r`` is read off the first token); no gradient, since nothing
                depends on bids
    complexity  O(N)
    source      rationing by lot, the baseline that any market has to beat

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
    guarantees = Guarantees(causal=True, differentiable=False, monotone=False, seeded=True)
    flops_per_bid = 0

    def initial_state(self, agents: int, units: int, seed: int) -> State:
        """One lot per unit, and one per agent, for those that belong to none."""
        generator = torch.Generator().manual_seed(seed)
        lot = torch.rand(units + agents, generator=generator, dtype=torch.float64)
        return {"lot_U": lot[:units], "lot_N": lot[units:]}

    def _fits(self, goods: Goods) -> Tensor:
        # Never: a row whose first token fits may have a later one that does not. At full supply
        # every lot is drawn all the same.
        return torch.zeros_like(goods.fits_so_far)

    def _allocate(self, goods: Goods, state: State) -> tuple[Tensor, Tensor, State]:
        tariff = goods.tariff
        device = goods.value_BNL.device
        lot_U, lot_N = state["lot_U"].to(device), state["lot_N"].to(device)
        supply_B1 = goods.supply_BL.gather(-1, tariff.first_B1).double()
        dense_B1 = tariff.dense_flops_BL.gather(-1, tariff.first_B1).clamp(min=1).double()
        length = goods.value_BNL.shape[-1]
        own_BNL = tariff.double_BNL[:, tariff.fee_agents :].expand(-1, -1, length)
        free_BN = own_BNL.take_along_dim(tariff.first_B1[..., None], -1).squeeze(-1)

        def drawn(lot: Tensor, active: Tensor, flops_BN: Tensor) -> Tensor:
            """Agents in the order of their lots, up to their fraction of the kind's FLOPs."""
            order = (lot + ~active).argsort()
            total_BN = flops_BN[:, order].cumsum(1)
            # Multiplied, not divided: whole fractions stay whole.
            taken_BN = total_BN * dense_B1 <= supply_B1 * total_BN[:, -1:]
            return torch.empty_like(taken_BN).index_copy_(1, order, taken_BN)

        def drawn_apart(lot: Tensor, active: Tensor, flops_BN: Tensor, narrow: Tensor) -> Tensor:
            """Those that cannot serve every token are a kind of their own."""
            wide_BN = drawn(lot, active, flops_BN * ~narrow)
            return torch.where(narrow, drawn(lot, active, flops_BN * narrow), wide_BN)

        narrow_N = tariff.narrow_N
        if narrow_N is None:
            narrow_N = torch.zeros_like(goods.active_N)
        fee_agents = tariff.fee_agents
        narrow_U = narrow_N[:fee_agents].view(-1, tariff.group).any(-1)
        one_BU = torch.ones_like(tariff.setup_flops_BU).double()
        unit_BU = drawn_apart(lot_U, goods.unit_U, one_BU, narrow_U)
        rest_BN = drawn_apart(
            lot_N[fee_agents:], goods.active_N[fee_agents:], free_BN, narrow_N[fee_agents:]
        )
        chosen_BN1 = torch.cat((unit_BU.repeat_interleave(tariff.group, 1), rest_BN), 1)[..., None]
        return chosen_BN1 & goods.may_BNL, goods.pace_BNL.new_zeros(1, 1, 1), state

    def _relax(
        self, goods: Goods, state: State, temperature: float
    ) -> tuple[Tensor, Tensor, State]:
        return self._allocate(goods, state)
