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
    complexity  O(I log I), one sort
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
from agent_economy.mechanisms.lines import Lines
from agent_economy.mechanisms.order import descending


class ProportionalShare(DivisibleMechanism):
    """Kelly's mechanism, water-filled at the cap; see the module's heading."""

    name = "proportional_share"
    guarantees = Guarantees(seeded=True, sells_out=True)
    scopes: ClassVar[tuple[Scope, ...]] = ("sequence", "token", "batch")
    flops_per_bid = 32

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

    With the ``k`` densest bids capped the price is ``p_k``, uncapped bids over remaining supply;
    the right ``k`` is the first whose next bid is not denser than ``p_k``.

    Args:
        density: credits per GFLOP, >= 0.
        flops: float64.
        left: float64 FLOPs on offer.

    Returns:
        Credits per GFLOP, float64.
    """
    order = descending(density)
    sorted_density = density.gather(-1, order).double()
    sorted_flops = flops.gather(-1, order)
    bid = sorted_density * sorted_flops
    zero = torch.zeros_like(left)
    capped = torch.cat((zero, sorted_flops.cumsum(-1)), -1)
    # Summed from the thin end: a difference of two large sums would lose the small bids.
    uncapped = torch.cat((bid.flip(-1).cumsum(-1).flip(-1), zero), -1)
    remaining = left - capped
    price = uncapped / torch.where(remaining > 0, remaining, 1.0)
    # Nothing remains, and nobody asks for it; or the supply was 0 from the start.
    price = torch.where(remaining > 0, price, torch.where(uncapped > 0, torch.inf, 0.0))
    is_capped = sorted_density >= price[..., :-1]
    count = is_capped.int().cumprod(-1).sum(-1, keepdim=True)
    return price.gather(-1, count)
