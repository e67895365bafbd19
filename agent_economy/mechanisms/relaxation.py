"""Soft clearing at a uniform price, with the gradient through the price.

At price ``p`` a bid of density ``d`` is served to the degree ``sigmoid((d - p) / T)``, and a unit
with a fee ``S`` opens to the degree ``sigmoid(surplus / (T * (S + W)))`` where its surplus is
``sum w T softplus((d - p) / T) - p S`` (the entropy-smoothed linear program, whose optimum is
reached as ``T`` falls to 0). The price makes expected spend equal supply; it is bracketed, and one
differentiable Newton step at the solution gives the implicit gradient
``dp/dx = -(dF/dx) / (dF/dp)`` (Amos and Kolter 2017 give the general case).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus

from agent_economy.mechanisms.goods import FLOPS_PER_GFLOP, Goods, nowhere
from agent_economy.mechanisms.lines import Lines

#: Evaluations of the excess demand at most, one in so many of them a bisection.
_EVALUATIONS, _BISECT = 120, 4


def clearing_price(
    excess: Callable[[Tensor], Tensor], high: Tensor, low: Tensor | None = None
) -> Tensor:
    """The price at which a decreasing excess demand is zero, differentiable implicitly.

    Regula falsi with scaled end values (Anderson and Björck 1973), every fourth step a bisection,
    so that kinks and steps of demand are cut through: some 15 evaluations. On a CPU it stops as
    soon as every price is found; a device is not asked and makes all steps.

    Args:
        excess: expected spend less supply, relative to supply, at prices of one per market;
            decreasing, differentiable.
        high: prices at which there is no excess demand.
        low: least prices; 0 where None.

    Returns:
        Prices of the shape of ``high``. Where there is no excess demand at ``low`` the price is
        ``low`` and has no gradient (a sigmoid at half its height would ask for a negative price).
    """
    floor = torch.zeros_like(high) if low is None else low.detach()
    with torch.no_grad():
        price, slack = _root(excess, floor.clone(), high.detach().clone())
        price = torch.where(slack, floor, price)
    if not torch.is_grad_enabled():
        return price
    probe = price.clone().requires_grad_()
    slope = torch.autograd.grad(excess(probe).sum(), probe)[0]
    safe = torch.where(slope < 0, slope, -1.0)
    step = torch.where(slack | (slope >= 0), 0.0, excess(price) / safe)
    return price - (step - step.detach())


def _root(excess: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The upper end of the last bracket, and where there was no excess at ``low`` to begin with.

    Demand at that price exceeds supply by no more than rounding.
    """
    above, below = excess(low), excess(high)
    slack = above <= 0
    eps = torch.finfo(high.dtype).eps
    was_over = torch.zeros_like(slack)
    for evaluation in range(_EVALUATIONS):
        middle = (low + high) / 2
        if evaluation % _BISECT != _BISECT - 1:
            chord = (low * below - high * above) / torch.where(below == above, -1.0, below - above)
            middle = torch.where((chord > low) & (chord < high), chord, middle)
        here = excess(middle)
        over = here > 0
        # An end that stays twice is scaled down as if the curve went on bending as it did.
        old = torch.where(over, above, below)
        bend = 1 - here / torch.where(old == 0, 1.0, old)
        bend = torch.where(bend > 0, bend, 0.5)
        bend = torch.where(over == was_over, bend, 1.0) if evaluation else torch.ones_like(bend)
        above, below = torch.where(over, here, above * bend), torch.where(over, below * bend, here)
        low, high = torch.where(over, middle, low), torch.where(over, high, middle)
        was_over, found = over, here.abs() <= eps**0.75
        low, high = torch.where(found, middle, low), torch.where(found, middle, high)
        if nowhere(~(slack | (high - low <= 2 * eps * high.abs()))):
            break
    return high, slack


def soft_allocation(goods: Goods, temperature: float, price: Tensor) -> Tensor:
    """Soft gates (B, N, L) at a price (B, 1, 1)."""
    gap_BNL = (goods.density_BNL - price) / temperature
    gate_BNL = torch.sigmoid(gap_BNL) * goods.may_BNL
    tariff = goods.tariff
    if not tariff.fee_agents:
        return gate_BNL
    gflops_BNL = tariff.double_BNL.to(gate_BNL.dtype) / FLOPS_PER_GFLOP * goods.may_BNL
    fee_BU = tariff.setup_flops_BU / FLOPS_PER_GFLOP
    gain_BU = goods.over_units(gflops_BNL * softplus(gap_BNL)).sum(-1)
    size_BU = fee_BU + goods.over_units(gflops_BNL).sum(-1)
    open_BU = torch.sigmoid(
        (gain_BU - price[:, 0] * fee_BU / temperature) / size_BU.clamp(min=1e-30)
    )
    # A row with nobody to serve opens nothing.
    open_BU = open_BU * goods.over_units(goods.may_BNL).any(-1)
    return gate_BNL * goods.over_agents(open_BU, 1.0)


def _steepest_B(goods: Goods) -> Tensor:
    """Largest ratio, over a row's units, of what serving everything costs to the fee."""
    tariff = goods.tariff
    if not tariff.fee_agents:
        return goods.pace_BNL.new_zeros(goods.pace_BNL.shape[0])
    served_BU = goods.over_units(tariff.served_flops_BN[..., None]).sum(-1)
    return (1 + served_BU / tariff.setup_flops_BU.clamp(min=1)).amax(-1)


def soft_market(goods: Goods, temperature: float) -> tuple[Tensor, Tensor]:
    """Soft gates (B, N, L) and the uniform price of every row or batch, shape (M, 1, 1)."""

    def relative_excess_M(price_M: Tensor) -> Tensor:
        price = price_M[:, None, None].expand(goods.value_BNL.shape[0], 1, 1)
        gate_BNL = soft_allocation(goods, temperature, price)
        # A unit is open as far as its widest gate, as the settlement counts it.
        fee_B = goods.fees_B(goods.open_BU(gate_BNL)) if goods.tariff.fee_agents else 0
        spend_B = goods.tariff.total_flops_BN(gate_BNL).sum(1) + fee_B
        excess_M = goods.per_market_sum(spend_B) - goods.supply_M
        return (excess_M / goods.supply_M.clamp(min=1)).to(price_M.dtype)

    # At this price no bid is served, and no unit open, to more than exp(-40).
    peak_B = _beyond(goods.density_BNL.detach().amax((1, 2)))
    peak_B = peak_B + 40 * temperature * (1 + _steepest_B(goods))
    high_M = peak_B.amax(0, keepdim=True) if goods.scope == "batch" else peak_B
    price = clearing_price(relative_excess_M, high_M)[:, None, None]
    rows = goods.value_BNL.shape[0]
    return soft_allocation(goods, temperature, price.expand(rows, 1, 1)), price


def soft_lines(lines: Lines, temperature: float) -> tuple[Tensor, Tensor]:
    """Soft gates (B, N, L) and the price of every budget, once units are open.

    ``x = sigmoid((density - price) / T)`` with the price at which expected spend meets what is
    left of supply.
    """
    may, left = lines.of(lines.may_BNL), lines.left

    def gate(price: Tensor) -> Tensor:
        return torch.sigmoid((lines.density - price) / temperature) * may

    def relative_excess(price: Tensor) -> Tensor:
        spend = (gate(price) * lines.flops).sum(-1, keepdim=True)
        return ((spend - left) / left.clamp(min=1)).to(price.dtype)

    high = _beyond(lines.density.detach().amax(-1, keepdim=True)) + 40 * temperature
    price = clearing_price(relative_excess, high)
    return lines.back(gate(price)), lines.price(price)


def _beyond(peak: Tensor) -> Tensor:
    """A little more than the dearest bid, where a low temperature would drown in its rounding."""
    return peak * (1 + 16 * torch.finfo(peak.dtype).eps)
