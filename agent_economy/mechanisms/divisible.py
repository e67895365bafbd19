"""Mechanisms that hand out shares of compute, and one rounding that turns shares into gates.

A divisible mechanism has no temperature at which its shares become 0 or 1. In use, gates are hard;
so every share is rounded by lot, the same way for all of them: item ``i`` with share ``x`` and lot
``u`` in (0, 1) gets the key

    ``x (1 - u) / ((1 - x) u)``

and items are served from the highest key until the next does not fit (Rosén 1997: order sampling
with fixed shape, whose chances are close to the shares). A share of 1 has an infinite key and is
always served. A higher share with the others no higher moves an item forward in line, so the
rounding is monotone; supply is never exceeded. The lots of an agent over tokens are the golden
ratio sequence ``frac(u_n + t * 0.618...)`` from evenly spread starts in a seeded order, so that an
agent with a constant share is served evenly along the row, as many agents at every token, and no
lot depends on later tokens or other rows.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from agent_economy.mechanisms.base import Mechanism, Scope, State
from agent_economy.mechanisms.goods import Goods
from agent_economy.mechanisms.lines import Lines
from agent_economy.mechanisms.openings import by_standing, by_total_bid, learn_standing

_GOLDEN = 0.6180339887498949


class DivisibleMechanism(Mechanism):
    """Shares, rounded by lot in use; at token scope nothing depends on later tokens."""

    def __init__(self, scope: Scope = "sequence") -> None:
        super().__init__(scope)
        self.guarantees = replace(type(self).guarantees, causal=scope == "token")
        self.learns = scope == "token"

    def initial_state(self, agents: int, units: int, seed: int) -> State:
        """One lot per agent, evenly spread in a random order."""
        generator = torch.Generator().manual_seed(seed)
        shift = torch.rand(1, generator=generator, dtype=torch.float64)
        return {"lot_N": (torch.randperm(agents, generator=generator) + shift) / agents}

    @abstractmethod
    def _shares(self, lines: Lines, temperature: float | None) -> tuple[Tensor, Tensor]:
        """Shares (B, N, L) in [0, 1] and the price of every budget, broadcastable to them.

        Args:
            lines: bids, costs and what is left of supply.
            temperature: as for ``relax``; None where gates will be hard.
        """

    def _fits(self, goods: Goods) -> Tensor:
        return goods.fits_so_far if self.scope == "token" else goods.fits

    def _allocate(self, goods: Goods, state: State) -> tuple[Tensor, Tensor, State]:
        lines = self._lines(goods, state)
        share_BNL, price = self._shares(lines, None)
        tokens_L = torch.arange(share_BNL.shape[-1], device=share_BNL.device)
        start_N1 = state["lot_N"].to(share_BNL.device)[:, None]
        # Lots of exactly 0 and 1 would serve a share of nothing, and refuse one of all but all.
        lot_NL = ((start_N1 + tokens_L * _GOLDEN) % 1.0).clamp(1e-9, 1 - 1e-9)
        odds_NL = ((1 - lot_NL) / lot_NL).to(share_BNL.dtype)
        key_BNL = share_BNL / (1 - share_BNL) * odds_NL
        gate_BNL = lines.back(lines.serve(lines.of(key_BNL)))
        return gate_BNL, price, self._next(goods, state)

    def _relax(
        self, goods: Goods, state: State, temperature: float
    ) -> tuple[Tensor, Tensor, State]:
        share_BNL, price = self._shares(self._lines(goods, state), temperature)
        return share_BNL, price, self._next(goods, state)

    def _lines(self, goods: Goods, state: State) -> Lines:
        causal = self.scope == "token"
        return Lines(goods, by_standing(goods, state) if causal else by_total_bid(goods))

    def _next(self, goods: Goods, state: State) -> State:
        return learn_standing(goods, state) if self.learns else state
