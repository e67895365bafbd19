"""First come, first served at a reserve price: whoever bids that much per GFLOP is served in turn.

Agents stand in a queue that is drawn by lot and starts at the same agent for every token. An agent
whose bid reaches the reserve price asks to be served; those whose turn comes too late for the
token's supply go without. Nothing is learned but which heads are worth their set-up fee, and
nothing depends on later tokens.

    inputs      bid_BLN (credits), tariff, supply_flops_BL, active_N, limit_BN
    price       the reserve (1, 1, 1), credits per GFLOP
    guarantees  feasible at every token; causal; monotone; truthful in a single bid, since neither
                turn nor price depends on it; relaxed form differentiable
    complexity  O(I)
    source      Myerson 1981 for the reserve; the queue is ours

Example:
    >>> import torch
    >>> from agent_economy.costs.tariff import Tariff
    >>> from first_come import FirstCome
    >>> bid = torch.tensor([[[3.0, 1.0, 2.0]]])
    >>> real, nobody_pays = torch.ones(1, 1, dtype=torch.bool), torch.zeros(0, dtype=torch.long)
    >>> tariff = Tariff(torch.full((1, 3, 1), 10**9), nobody_pays, real)
    >>> rest = torch.tensor([[2 * 10**9]]), torch.ones(3).bool(), torch.full((1, 3), 9.0)
    >>> queue = {"lot_N": torch.tensor([0.2, 0.1, 0.3])}
    >>> clearing, _ = FirstCome(reserve=1.5).clear(bid, tariff, *rest, queue)
    >>> clearing.allocation_BLN.tolist(), clearing.payment_BLN.tolist()
    ([[[1.0, 0.0, 1.0]]], [[[1.5, 0.0, 1.5]]])
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from agent_economy.errors import EconomyError
from agent_economy.mechanisms import Guarantees, Mechanism, Scope, State
from agent_economy.mechanisms.goods import Goods
from agent_economy.mechanisms.lines import Lines
from agent_economy.mechanisms.openings import by_standing, learn_standing


class FirstCome(Mechanism):
    """A queue at a fixed price; see the module's heading.

    Args:
        scope: only ``"token"``: every token has its own queue and its own supply.
        reserve: credits per GFLOP that a bid must reach.

    Raises:
        EconomyError: the reserve is not positive.
    """

    name = "first_come"
    guarantees = Guarantees(causal=True, truthful=True, seeded=True)
    scopes: ClassVar[tuple[Scope, ...]] = ("token",)
    learns = True
    bills_fees = False
    flops_per_bid = 8

    def __init__(self, scope: Scope = "token", reserve: float = 1.0) -> None:
        super().__init__(scope)
        if not reserve > 0:
            raise EconomyError(f"first_come: reserve {reserve} credits; give more than 0")
        self.reserve = reserve

    def initial_state(self, agents: int, units: int, seed: int) -> State:
        generator = torch.Generator().manual_seed(seed)
        return {"lot_N": torch.rand(agents, generator=generator, dtype=torch.float64)}

    def _fits(self, goods: Goods) -> Tensor:
        return goods.fits_so_far  # causal: up to this token, not over the whole row

    def _allocate(self, goods: Goods, state: State) -> tuple[Tensor, Tensor, State]:
        lines = self._lines(goods, state)
        asks = lines.density >= self.reserve
        before, flops = self._in_turn(lines, state, asks.double() * lines.flops)
        gate = asks & (before + flops <= lines.left)
        return lines.back(gate), self._price(goods), learn_standing(goods, state)

    def _relax(
        self, goods: Goods, state: State, temperature: float
    ) -> tuple[Tensor, Tensor, State]:
        lines = self._lines(goods, state)
        asks = torch.sigmoid((lines.density - self.reserve) / temperature)
        asks = asks * lines.of(lines.may_BNL)
        before, flops = self._in_turn(lines, state, asks * lines.flops)
        served = (lines.left - before).clamp(min=0).minimum(flops)
        # An agent that cannot serve a token takes nothing for it.
        gate = (served / lines.flops.clamp(min=1)).to(asks.dtype)
        return lines.back(gate), self._price(goods), learn_standing(goods, state)

    @staticmethod
    def _lines(goods: Goods, state: State) -> Lines:
        """Bids token by token, once units are open; which ones, earlier forwards decide."""
        return Lines(goods, by_standing(goods, state))

    @staticmethod
    def _in_turn(lines: Lines, state: State, flops_BLN: Tensor) -> tuple[Tensor, Tensor]:
        """What those before each agent ask for, and what it asks for itself, FLOPs."""
        turn_N = state["lot_N"].to(flops_BLN.device).argsort()
        before_BLN = flops_BLN[..., turn_N].cumsum(-1)[..., turn_N.argsort()] - flops_BLN
        return before_BLN, flops_BLN

    def _price(self, goods: Goods) -> Tensor:
        return goods.pace_BNL.new_full((1, 1, 1), self.reserve)
