"""Fisher market: agents spend budgets on compute for the tokens that give them most for it.

Agent ``n`` of a row has the budget ``m_n`` (its bids on the row, within its wallet), values
``v_nt`` (its bids) and needs at most ``w_nt`` FLOPs for a token. The equilibrium solves the
Eisenberg-Gale program with caps::

    max  sum_n m_n log(u_n),   u_n = sum_t v_nt x_nt
    s.t. sum w_nt x_nt <= supply  (dual: the price p),   x_nt <= 1  (dual: the cap rent)

An agent buys its tokens from dense to thin. With ``U_k`` the value of its ``k`` densest tokens,
token ``k`` gets ``clamp(m / p - U_{k-1} / d_k, 0, w_k)`` FLOPs: all that the budget can pay, less
what the earlier tokens' value stands for. So demand at a price is one binary search per agent, the
price is bracketed, and the tokens bought in part give it exactly and with its gradient.

    inputs      as for the uniform price; wallets count as budgets
    price       equilibrium price (B, 1, 1), (1, 1, 1) at batch scope; credits per GFLOP
    guarantees  feasible; relaxed form (the equilibrium itself) differentiable, price included;
                what has a price is sold out; hard gates by seeded lots (see ``divisible``); not
                causal. Payments are capped at the bids served, as everywhere: an agent with rents
                on capped tokens keeps them. At token scope every agent buys one token, and the
                equilibrium is the proportional share.
    complexity  iterative: one sort of each agent's tokens, then O(N log L) for each of about 20
                evaluations of demand
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
from torch.nn.functional import pad

from agent_economy.mechanisms.base import Guarantees, Scope
from agent_economy.mechanisms.divisible import DivisibleMechanism
from agent_economy.mechanisms.goods import FLOPS_PER_GFLOP, Goods
from agent_economy.mechanisms.lines import Lines
from agent_economy.mechanisms.order import descending
from agent_economy.mechanisms.relaxation import clearing_price


class _Demand(NamedTuple):
    """What every agent buys, its tokens from dense to thin.

    With ``q = m / p`` the GFLOPs that an agent can pay, its k-th token gets
    ``clamp(q - before_k, 0, w_k)``, where ``before_k = U_{k-1} / d_k``: stretches that follow each
    other, so that at most one token is bought in part.

    Attributes:
        budget_BN: credits of each agent.
        before_BNL: where each token's stretch begins, GFLOPs; infinite where the bid is 0.
        gflops_BNL: how long it is.
        total_BNL: GFLOPs of all denser tokens.
    """

    budget_BN: Tensor
    before_BNL: Tensor
    gflops_BNL: Tensor
    total_BNL: Tensor

    def marginal_BN(self, price_B1: Tensor) -> tuple[Tensor, Tensor]:
        """The GFLOPs that agents can pay at a price, and the last token that these reach."""
        reach_BN = self.budget_BN / price_B1.clamp(min=1e-30)
        count_BN1 = torch.searchsorted(self.before_BNL, reach_BN[..., None])
        return reach_BN, (count_BN1 - 1).clamp(min=0)

    def at(self, price_B1: Tensor) -> Tensor:
        """GFLOPs that each agent buys (B, N): a binary search instead of a sum over tokens."""
        reach_BN, last_BN1 = self.marginal_BN(price_B1)
        before_BN, gflops_BN, total_BN = (
            x.gather(-1, last_BN1).squeeze(-1)
            for x in (self.before_BNL, self.gflops_BNL, self.total_BNL)
        )
        return total_BN + (reach_BN - before_BN).clamp(min=0).minimum(gflops_BN)


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
        price_M = torch.where(left_M > 0, _equilibrium(goods, demand, left_M), 0.0)
        rows = density_BNL.shape[0]
        price_B11 = price_M[:, None, None].expand(rows, 1, 1)
        reach_BN1 = demand.budget_BN[..., None] / price_B11.clamp(min=1e-30)
        bought_BNL = (reach_BN1 - demand.before_BNL).clamp(min=0).minimum(demand.gflops_BNL)
        # Where an agent cannot serve a token there is nothing to buy a share of.
        whole_BNL = torch.where(demand.gflops_BNL > 0, demand.gflops_BNL, 1.0)
        share_BNL = bought_BNL / whole_BNL * (left_M > 0)[:, None, None]
        share_BNL = share_BNL.to(density_BNL.dtype)
        placed_BNL = torch.zeros_like(share_BNL).scatter(-1, order_BNL, share_BNL)
        return placed_BNL, price_M.to(density_BNL.dtype)[:, None, None]


def _demand(goods: Goods, density_BNL: Tensor, order_BNL: Tensor) -> _Demand:
    """Stretches of every token of every agent, its tokens sorted by density."""
    gflops_BNL = goods.tariff.double_BNL.expand(density_BNL.shape) / FLOPS_PER_GFLOP
    if goods.tariff.token_flops_BNL.shape[-1] > 1:
        gflops_BNL = gflops_BNL.gather(-1, order_BNL)
    value_BNL = density_BNL * gflops_BNL
    total_BNL = value_BNL.cumsum(-1)
    wants_BNL = density_BNL > 0
    earlier_BNL = pad(total_BNL[..., :-1], (1, 0))
    before_BNL = torch.where(
        wants_BNL, earlier_BNL / torch.where(wants_BNL, density_BNL, 1.0), torch.inf
    )
    denser_BNL = pad(gflops_BNL.cumsum(-1)[..., :-1], (1, 0))
    return _Demand(total_BNL[..., -1], before_BNL, gflops_BNL, denser_BNL)


def _equilibrium(goods: Goods, demand: _Demand, left_M: Tensor) -> Tensor:
    """Prices (M,): bracketed, then exact and differentiable from the tokens bought in part."""
    safe_M = torch.where(left_M > 0, left_M, 1.0)
    rows = demand.budget_BN.shape[0]

    def excess_M(price_M: Tensor) -> Tensor:
        bought_B = demand.at(price_M[:, None].expand(rows, 1)).sum(1)
        return (goods.per_market_sum(bought_B) - left_M) / safe_M

    with torch.no_grad():
        rich_M = goods.per_market_sum(demand.budget_BN.sum(1)) / safe_M
        price_M = clearing_price(excess_M, rich_M * (1 + 1e-9))
        reach_BN, last_BN1 = demand.marginal_BN(price_M[:, None].expand(rows, 1))
    before_BN = demand.before_BNL.gather(-1, last_BN1).squeeze(-1)
    gflops_BN = demand.gflops_BNL.gather(-1, last_BN1).squeeze(-1)
    total_BN = demand.total_BNL.gather(-1, last_BN1).squeeze(-1)
    # An agent that can pay its last token whole saves the rest; all others spend everything.
    wants_BN = demand.budget_BN > 0
    part_BN = wants_BN & (reach_BN < before_BN + gflops_BN)
    whole_BN = total_BN + gflops_BN * ~part_BN - torch.where(part_BN, before_BN, 0.0)
    free_M = left_M - goods.per_market_sum(torch.where(wants_BN, whole_BN, 0.0).sum(1))
    spent_M = goods.per_market_sum((demand.budget_BN * part_BN).sum(1))
    exact_M = (spent_M > 0) & (free_M > 0) & (price_M > 0)
    price_M = torch.where(price_M > 0, _dearest_next(goods, demand, last_BN1), 0.0)
    return torch.where(exact_M, spent_M / torch.where(exact_M, free_M, 1.0), price_M)


def _dearest_next(goods: Goods, demand: _Demand, last_BN1: Tensor) -> Tensor:
    """The price (M,) at which the next token would be bought.

    Where whole tokens use up supply to the last FLOP, every price from here to that of the last
    token sold clears the market; this is the lowest.
    """
    tokens = demand.before_BNL.shape[-1]
    next_BN1 = (last_BN1 + 1).clamp(max=tokens - 1)
    before_BN = demand.before_BNL.gather(-1, next_BN1).squeeze(-1)
    waits_BN = (last_BN1.squeeze(-1) + 1 < tokens) & (demand.budget_BN > 0)
    price_BN = torch.where(waits_BN, demand.budget_BN / torch.where(waits_BN, before_BN, 1.0), 0.0)
    highest_B = price_BN.amax(1)
    return highest_B.amax(0, keepdim=True) if goods.scope == "batch" else highest_B
