"""Proportional share: every bidder gets compute in proportion to its bid, up to all it can use.

Agent ``i`` pays its bid ``b`` and receives ``b / p`` FLOPs, but no more than the ``w`` it needs:
``x = min(1, b / (p w))``, with the price ``p`` at which supply is used up. Bidders at the cap are
served whole; the price is the bids of all others over the supply that the capped ones leave
(water-filling). It maximises ``sum b log x + cap terms``, the proportional fairness of Kelly.

    inputs      as for the uniform price
    price       uncapped bids / remaining supply (B, 1, 1); (B, L, 1) at token scope, (1, 1, 1) at
                batch scope; credits per GFLOP
    guarantees  feasible; relaxed form differentiable, and the shares themselves at every
                temperature; what has a price is sold out; monotone; causal at token scope; hard
                gates by seeded lots (see ``divisible``)
    complexity  O(I) for each of about 6 rounds; hard gates take a sort
    source      Kelly, Maulloo and Tan 1998; Johari and Tsitsiklis 2004

Units open by total bid, at token scope by what earlier forwards bid (see ``openings``).

Example:
    >>> import torch
    >>> from agent_economy.costs.tariff import Tariff
    >>> from agent_economy.mechanisms.proportional_share import ProportionalShare
    >>> bid = torch.tensor([[[8.0, 1.0, 1.0]]])
    >>> real, nobody_pays = torch.ones(1, 1, dtype=torch.bool), torch.zeros(0, dtype=torch.long)
    >>> tariff = Tariff(torch.full((1, 3, 1), 10), nobody_pays, real)
    >>> rest = torch.tensor([[20]]), torch.ones(3, dtype=torch.bool), torch.full((1, 3), 9e9), {}
    >>> ProportionalShare().relax(bid, tariff, *rest, temperature=1.0)[0].allocation_BLN.tolist()
    [[[1.0, 0.5, 0.5]]]
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from agent_economy.mechanisms.base import Guarantees, Scope
from agent_economy.mechanisms.divisible import DivisibleMechanism
from agent_economy.mechanisms.goods import nowhere
from agent_economy.mechanisms.lines import Lines

#: Rounds of capping at most; on a CPU it stops when the price does.
_ROUNDS = 40


class ProportionalShare(DivisibleMechanism):
    """Kelly's mechanism, water-filled at the cap; see the module's heading."""

    name = "proportional_share"
    guarantees = Guarantees(seeded=True, sells_out=True)
    scopes: ClassVar[tuple[Scope, ...]] = ("sequence", "token", "batch")
    flops_per_bid = 48

    def _shares(self, lines: Lines, temperature: float | None) -> tuple[Tensor, Tensor]:
        density, sells = lines.density, lines.left > 0
        price = water_fill(density, lines.flops, lines.left).to(density.dtype)
        share = torch.where(
            price > 0, (density / torch.where(price > 0, price, 1.0)).clamp(max=1.0), 1.0
        )
        share = torch.where((density > 0) & sells, share, 0.0)
        # Where nothing is left to sell no price clears; the dearest bid did not get any.
        price = torch.where(sells, price, density.detach().amax(-1, keepdim=True))
        return lines.back(share), lines.price(price)


def water_fill(
    density: Float[Tensor, "*budgets I"],
    flops: Float[Tensor, "*budgets I"],
    left: Float[Tensor, "*budgets 1"],
) -> Float[Tensor, "*budgets 1"]:
    """The price at which ``sum flops * min(1, density / price) = left``; 0 where all fit.

    Starts with nobody capped. Those whose density is at least the price are capped, which can only
    lower the price of the rest, so the iteration falls to the solution; it ends after a handful of
    rounds, and any price on the way is too high rather than too low, so never oversells.

    Args:
        density: credits per GFLOP, >= 0.
        flops: float64.
        left: float64 FLOPs on offer.

    Returns:
        Credits per GFLOP, float64, with a gradient; infinite where nothing is left but is wanted.
    """
    bid = density * flops
    with torch.no_grad():
        total = bid.sum(-1, keepdim=True)
        capped = torch.zeros_like(left)
        uncapped, price = total, _per_flop(total, left)
        for _ in range(_ROUNDS):
            whole = density >= price
            capped = torch.where(whole, flops, 0.0).sum(-1, keepdim=True)
            uncapped = torch.where(whole, 0.0, bid).sum(-1, keepdim=True)
            last, price = price, _per_flop(uncapped, left - capped)
            if nowhere(price < last):
                break
        whole = density >= price
    uncapped = torch.where(whole, 0.0, bid).sum(-1, keepdim=True)
    capped = torch.where(whole, flops, 0.0).sum(-1, keepdim=True)
    return _per_flop(uncapped, left - capped)


def _per_flop(bid: Tensor, remaining: Tensor) -> Tensor:
    """Bids over supply; 0 where nobody bids."""
    price = bid / torch.where(remaining > 0, remaining, 1.0)
    return torch.where(remaining > 0, price, torch.where(bid > 0, torch.inf, 0.0))
