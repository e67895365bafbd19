"""Sparse softmax: supply is spread over the best bids by an entmax with a cost and a cap per item.

    ``x_i = min(1, [(a - 1) (d_i - p) / T]_+ ^ (1 / (a - 1)))``,  ``sum w x = supply``

with density ``d`` and the threshold ``p`` as price: bids below it get nothing, bids well above it
are served whole. ``a = 2`` is the Euclidean projection of ``d / T`` onto the budget (sparsemax);
``a`` towards 1 is the softmax. With equal costs ``w``, no cap reached and supply for one item it
is the entmax of ``d / T``.

    inputs      as for the uniform price
    price       the threshold, at least 0 (B, 1, 1); (B, L, 1) at token scope, (1, 1, 1) at batch
                scope; credits per GFLOP
    guarantees  feasible (the budget holds on the mass); relaxed form differentiable, through the
                threshold too; sold out wherever not everything fits; monotone; causal at token
                scope; hard gates by seeded lots (see ``divisible``)
    complexity  iterative: O(I) for each of about 20 evaluations of the mass
    source      Peters, Niculae and Martins 2019 (entmax); Martins and Astudillo 2016 (sparsemax)

Example:
    >>> import torch
    >>> from agent_economy.costs.tariff import Tariff
    >>> from agent_economy.mechanisms.sparse_softmax import SparseSoftmax
    >>> bid = torch.tensor([[[0.9, 0.5, 0.1]]], dtype=torch.float64)
    >>> real, nobody_pays = torch.ones(1, 1, dtype=torch.bool), torch.zeros(0, dtype=torch.long)
    >>> tariff = Tariff(torch.full((1, 3, 1), 1_000_000_000), nobody_pays, real)
    >>> rest = torch.tensor([[10**9]]), torch.ones(3, dtype=torch.bool), torch.full((1, 3), 9.0), {}
    >>> soft, _ = SparseSoftmax(alpha=2.0).relax(bid, tariff, *rest, temperature=1.0)
    >>> [round(x, 6) for x in soft.allocation_BLN.flatten().tolist()], round(float(soft.price), 6)
    ([0.7, 0.3, 0.0], 0.2)
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from agent_economy.errors import EconomyError
from agent_economy.mechanisms.base import Guarantees, Scope
from agent_economy.mechanisms.divisible import DivisibleMechanism
from agent_economy.mechanisms.goods import FLOPS_PER_GFLOP
from agent_economy.mechanisms.lines import Lines
from agent_economy.mechanisms.relaxation import clearing_price


class SparseSoftmax(DivisibleMechanism):
    """Entmax over bids under a budget; see the module's heading.

    Args:
        scope: where one budget is cleared.
        alpha: 2 for sparsemax, towards 1 for softmax.
        spread: temperature of the shares that hard gates are drawn from, in credits: how far
            above the threshold a bid on an agent of mean cost must be to be surely served, times
            ``alpha - 1``.

    Raises:
        EconomyError: alpha is not in (1, 2], or spread is not positive.
    """

    name = "sparse_softmax"
    guarantees = Guarantees(seeded=True, sells_out=True)
    scopes: ClassVar[tuple[Scope, ...]] = ("sequence", "token", "batch")
    flops_per_bid = 160

    def __init__(self, scope: Scope = "sequence", alpha: float = 1.5, spread: float = 0.25) -> None:
        super().__init__(scope)
        if not (1 < alpha <= 2 and spread > 0):
            raise EconomyError(
                f"sparse_softmax: alpha {alpha} and spread {spread} are out of range; "
                "give 1 < alpha <= 2 and spread > 0"
            )
        self.alpha, self.spread = alpha, spread

    def _shares(self, lines: Lines, temperature: float | None) -> tuple[Tensor, Tensor]:
        density, may, left = lines.density, lines.of(lines.may_BNL), lines.left
        heat = self._heat(lines) if temperature is None else torch.full_like(density, temperature)
        steep = (self.alpha - 1) / heat
        power = 1 / (self.alpha - 1)
        # In the bids' own precision: the mass is added up some twenty times.
        part = (torch.where(may, lines.flops, 0.0) / left.clamp(min=1)).to(density.dtype)

        def share(price: Tensor) -> Tensor:
            return ((density - price) * steep).clamp(0.0, 1.0) ** power

        def relative_excess(price: Tensor) -> Tensor:
            return (share(price) * part).sum(-1, keepdim=True) - (left > 0).to(part.dtype)

        # Between the price at which even a bid of 0 is served whole and the dearest bid.
        high = density.detach().amax(-1, keepdim=True)
        low = -torch.where(may, 1 / steep, 0.0).amax(-1, keepdim=True).expand_as(high)
        price = clearing_price(relative_excess, high, low)
        shares = torch.where((left > 0) & may, share(price), 0.0)
        return lines.back(shares), lines.price(price.clamp(min=0))

    def _heat(self, lines: Lines) -> Tensor:
        """``spread`` credits on an agent of mean cost, as a density: no bid has a say in it."""
        goods = lines.goods
        mean_B1L = goods.tariff.double_BNL.mean(1, keepdim=True).clamp(min=1) / FLOPS_PER_GFLOP
        heat = (self.spread / mean_B1L).to(goods.value_BNL.dtype)
        return lines.of(heat.expand(goods.value_BNL.shape))
