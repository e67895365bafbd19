"""Fisher market: agents spend budgets on compute for the tokens that give them most for it.

Agent ``n`` of a row has the budget ``m_n`` (its bids on the row, within its wallet), values
``v_nt`` (its bids) and needs at most ``w_nt`` FLOPs for a token. The equilibrium solves the
Eisenberg-Gale program with caps::

    max  sum_n m_n log(u_n),   u_n = sum_t v_nt x_nt
    s.t. sum w_nt x_nt <= supply  (dual: the price p),   x_nt <= 1  (dual: the cap rent)

An agent buys its tokens from dense to thin. Token ``k`` is bought whole where ``p <= m d_k / U_k``
(``U_k`` the value of its ``k`` densest tokens) and not at all where ``p >= m d_k / U_{k-1}``; in
between the agent spends all of its budget: ``m / p - U_{k-1} / d_k`` FLOPs of it. So demand is
known at every price, the price is bracketed, and the set of tokens bought in part gives it exactly
and with its gradient.

    inputs      as for the uniform price; wallets count as budgets
    price       equilibrium price (B, 1, 1), (1, 1, 1) at batch scope; credits per GFLOP
    guarantees  feasible; relaxed form (the equilibrium itself) differentiable, price included;
                what has a price is sold out; hard gates by seeded lots (see ``divisible``); not
                causal. Payments are capped at the bids served, as everywhere: an agent with rents
                on capped tokens keeps them. At token scope every agent buys one token, and the
                equilibrium is the proportional share.
    complexity  iterative: one sort, then O(I) for each of about 20 evaluations of demand
    source      Eisenberg and Gale 1959; Devanur et al. 2008; caps as spending constraints

Example:
    >>> import torch
    >>> from agent_economy.costs.tariff import Tariff
    >>> from agent_economy.mechanisms.fisher_market import FisherMarket
    >>> bid = torch.tensor([[[2.0, 1.0], [1.0, 1.0]]])
    >>> real, nobody_pays = torch.ones(1, 2, dtype=torch.bool), torch.zeros(0, dtype=torch.long)
    >>> tariff = Tariff(torch.full((1, 2, 1), 10), nobody_pays, real)
    >>> rest = torch.tensor([[12, 12]]), torch.tensor([True, True]), torch.full((1, 2), 9e9), {}
    >>> soft, _ = FisherMarket().relax(bid, tariff, *rest, temperature=1.0)
    >>> [round(x, 2) for x in soft.allocation_BLN.flatten().tolist()]
    [1.0, 1.0, 0.04, 0.36]
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from agent_economy.mechanisms.base import Guarantees, Scope
from agent_economy.mechanisms.divisible import DivisibleMechanism
from agent_economy.mechanisms.goods import FLOPS_PER_GFLOP, Goods
from agent_economy.mechanisms.lines import Lines
from agent_economy.mechanisms.order import descending
from agent_economy.mechanisms.relaxation import clearing_price


class _Demand(NamedTuple):
    """What an agent buys of its k-th densest token, from dense to thin."""

    gflops_BNL: Tensor
    budget_BN1: Tensor
    #: value of all denser tokens over the token's own density, GFLOPs
    before_BNL: Tensor
    #: price up to which the token is bought whole, and from which on it is not bought
    whole_BNL: Tensor
    none_BNL: Tensor

    def at(self, price: Tensor) -> Tensor:
        """GFLOPs bought at a price that broadcasts to (B, N, L)."""
        part = self.budget_BN1 / price.clamp(min=1e-30) - self.before_BNL
        part = torch.where(price < self.none_BNL, part.clamp(min=0).minimum(self.gflops_BNL), 0.0)
        return torch.where(price <= self.whole_BNL, self.gflops_BNL * (self.whole_BNL > 0), part)


class FisherMarket(DivisibleMechanism):
    """The Eisenberg-Gale equilibrium with caps; see the module's heading."""

    name = "fisher_market"
    guarantees = Guarantees(seeded=True, sells_out=True)
    scopes: ClassVar[tuple[Scope, ...]] = ("sequence", "batch")
    flops_per_bid = 200

    def _shares(self, lines: Lines, temperature: float | None) -> tuple[Tensor, Tensor]:
        goods = lines.goods
        density_BNL = lines.back(lines.density)
        order_BNL = descending(density_BNL)
        demand = _demand(goods, density_BNL.gather(-1, order_BNL), order_BNL)
        left_M = lines.left.squeeze(-1) / FLOPS_PER_GFLOP
        price_M = _equilibrium(goods, demand, left_M)
        price_M = torch.where(left_M > 0, price_M, 0.0).to(density_BNL.dtype)
        price = price_M[:, None, None]
        bought_BNL = demand.at(price) * (left_M > 0)[:, None, None]
        share_BNL = (bought_BNL / demand.gflops_BNL).to(density_BNL.dtype).clamp(0.0, 1.0)
        back_BNL = order_BNL.argsort(-1)
        return share_BNL.gather(-1, back_BNL), price


def _demand(goods: Goods, density_BNL: Tensor, order_BNL: Tensor) -> _Demand:
    """Thresholds of every token of every agent, its tokens sorted by density."""
    flops_BNL = goods.tariff.double_BNL.expand(density_BNL.shape)
    gflops_BNL = flops_BNL.gather(-1, order_BNL) / FLOPS_PER_GFLOP
    density_BNL = density_BNL.double()
    value_BNL = density_BNL * gflops_BNL
    total_BNL = value_BNL.cumsum(-1)
    budget_BN1 = total_BNL[..., -1:]
    wants_BNL = density_BNL > 0
    safe_BNL = torch.where(wants_BNL, density_BNL, 1.0)
    earlier_BNL = torch.nn.functional.pad(total_BNL[..., :-1], (1, 0))
    reach_BNL = budget_BN1 * density_BNL
    whole_BNL = reach_BNL / torch.where(wants_BNL, total_BNL, 1.0)
    first = earlier_BNL == 0
    none_BNL = torch.where(first, torch.inf, reach_BNL / torch.where(first, 1.0, earlier_BNL))
    none_BNL = torch.where(wants_BNL, none_BNL, 0.0)
    return _Demand(gflops_BNL, budget_BN1, earlier_BNL / safe_BNL, whole_BNL, none_BNL)


def _equilibrium(goods: Goods, demand: _Demand, left_M: Tensor) -> Tensor:
    """Prices (M,): bracketed, then exact and differentiable from the tokens bought in part."""
    safe_M = torch.where(left_M > 0, left_M, 1.0)

    def excess_M(price_M: Tensor) -> Tensor:
        bought_B = demand.at(price_M[:, None, None]).sum((1, 2))
        return (goods.per_market_sum(bought_B) - left_M) / safe_M

    with torch.no_grad():
        rich_M = goods.per_market_sum(demand.budget_BN1.sum((1, 2))) / safe_M
        price_M = clearing_price(excess_M, rich_M * (1 + 1e-9))
        price = price_M[:, None, None]
        whole_BNL = (price <= demand.whole_BNL) & (demand.whole_BNL > 0)
        part_BNL = ~whole_BNL & (price < demand.none_BNL)

    def sums_M(x_BNL: Tensor, where_BNL: Tensor) -> Tensor:
        return goods.per_market_sum((x_BNL * where_BNL).sum((1, 2)))

    budget_BNL = demand.budget_BN1.expand(part_BNL.shape)
    spent_M = sums_M(budget_BNL, part_BNL)
    free_M = left_M - sums_M(demand.gflops_BNL, whole_BNL) + sums_M(demand.before_BNL, part_BNL)
    exact_M = (spent_M > 0) & (free_M > 0) & (price_M > 0)
    return torch.where(exact_M, spent_M / torch.where(exact_M, free_M, 1.0), price_M)
