"""A standing market: every agent buys service for all tokens of all sequences, or for none.

One clearing, with a typical sequence as the only good: an agent takes what serving all of its
tokens costs, keys and values included. All layers trade in one market, so FLOPs go where they are
worth most. The allocation is a static plan (Y, N), which can be compacted into a smaller model.

While training the market clears softly at the budget and hard gates stand on top of the soft ones
(straight-through, Bengio et al. 2013, arXiv 1308.3432); the gradient runs through the price, which
the budget determines (``mechanisms.relaxation``).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from agent_economy.costs.tariff import Tariff
from agent_economy.mechanisms import Mechanism


class Contract(NamedTuple):
    """What a standing market decided.

    Attributes:
        gate_YN: 0/1, or soft; differentiable in the bids where they are.
        price: credits per GFLOP.
        flops_fraction: expected spend over dense agent FLOPs, a typical row; differentiable.
    """

    gate_YN: Float[Tensor, "Y N"]
    price: Float[Tensor, ""]
    flops_fraction: Float[Tensor, ""]


class StandingMarket:
    """Clears whole agents.

    Args:
        flops_YN: what each agent takes for a typical sequence, its set-up included.
        dense_flops: what all of them take.
    """

    def __init__(self, flops_YN: Int[Tensor, "Y N"], dense_flops: int) -> None:
        self.flops_YN, self.dense_flops = flops_YN, dense_flops
        one = torch.ones(1, 1, dtype=torch.bool, device=flops_YN.device)
        no_fees = torch.zeros(0, dtype=torch.long, device=flops_YN.device)
        self._tariff = Tariff(flops_YN.reshape(1, -1, 1), no_fees, one)
        self._everybody = one.expand(flops_YN.numel(), 1)[:, 0]
        self._unlimited = torch.full((1, flops_YN.numel()), torch.inf, device=flops_YN.device)

    def clear(
        self,
        mechanism: Mechanism,
        bid_YN: Float[Tensor, "Y N"],
        budget_fraction: float,
        temperature: float | None = None,
    ) -> Contract:
        """One clearing of whole agents.

        Args:
            mechanism: one at sequence scope: ``GreedyDensity`` spends the budget with hard gates
                (straight-through where there is a temperature), ``UniformPrice`` with soft ones;
                ``FixedPrice`` sells at its price, whatever that spends.
            bid_YN: credits that each agent offers for serving a typical sequence.
            budget_fraction: supply over dense agent FLOPs.
            temperature: credits per GFLOP over which a soft gate turns; None clears hard.
        """
        order = (
            bid_YN.reshape(1, 1, -1),
            self._tariff,
            torch.tensor([[int(self.dense_flops * budget_fraction)]], device=bid_YN.device),
            self._everybody,
            self._unlimited,
            mechanism.initial_state(bid_YN.numel(), 0, 0),
        )
        if temperature is None:
            clearing, _ = mechanism.clear(*order)
        else:
            clearing, _ = mechanism.relax(*order, temperature=temperature)
        gate_YN = clearing.allocation_BLN.view_as(self.flops_YN)
        spend = (gate_YN * self.flops_YN).sum() / self.dense_flops
        return Contract(gate_YN, clearing.price.mean(), spend.to(gate_YN))
