"""Posted price with dual pacing: agents buy what they want at a price announced in advance.

A price learned from earlier forwards is posted; every (token, agent) whose bid covers it asks to
be served. Supply accrues token by token; a token that asks for more than has accrued is served in
the order of the agents' standing until its share is used up, so that spend never exceeds supply
at any token. After the forward the price moves with the ratio of demand to supply.

With accrual ``s_t`` and demand ``d_t`` the unspent balance is a reflected walk
``W_t = X_t - min(0, min_{u<=t} X_u)``, ``X_t = sum_{u<=t} (s_u - d_u)`` (Lindley 1952), so the
hard stop is a running minimum and needs no loop over tokens.

    inputs      as for the uniform price; supply per token must not fall along a row
    price       the pacing multiplier (1, 1, 1), credits per GFLOP
    guarantees  feasible at every token; causal given the state; monotone; relaxed form
                differentiable (a gate around the posted price)
    complexity  O(I), no sort over bids
    source      Balseiro and Gur 2019 (dual pacing); Balseiro, Lu and Mirrokni 2020 (the entropic
                dual step ``price * exp(rate * (demand / supply - 1))``)

Which units open is decided before the row is seen: those whose running mean surplus at the posted
price covers their fee, best standing first, as long as the row's supply can pay. Before anything
was learned the price is 0 and an agent's standing is its first bid of the row.

Example:
    >>> import torch
    >>> from agent_economy.costs.tariff import Tariff
    >>> from agent_economy.mechanisms.posted_price import PostedPrice
    >>> bid = torch.tensor([[[3.0, 1.0], [3.0, 1.0]]])
    >>> real, nobody_pays = torch.ones(1, 2, dtype=torch.bool), torch.zeros(0, dtype=torch.long)
    >>> tariff = Tariff(torch.full((1, 2, 1), 10), nobody_pays, real)
    >>> rest = torch.tensor([[10, 10]]), torch.tensor([True, True]), torch.full((1, 2), 9e9)
    >>> market = PostedPrice()
    >>> cold, state = market.clear(bid, tariff, *rest, {})
    >>> cold.allocation_BLN.int().tolist(), float(state["price"]) > 0
    ([[[1, 0], [1, 0]]], True)
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from agent_economy.mechanisms.base import Guarantees, Mechanism, Scope, State
from agent_economy.mechanisms.goods import Goods, nowhere
from agent_economy.mechanisms.optimum import optimum
from agent_economy.mechanisms.order import descending


class Terms(NamedTuple):
    """What is fixed before a row is seen: price, agents' standing, open units."""

    price: Tensor
    standing_BN: Tensor
    open_BU: Tensor


class PostedPrice(Mechanism):
    """A price announced in advance; see the module's heading.

    Args:
        scope: only ``"sequence"``: supply accrues along the row.
        rate: step of the dual update.
        memory: weight of the past in the running means of surplus and standing.
    """

    name = "posted_price"
    guarantees = Guarantees(causal=True)
    scopes: ClassVar[tuple[Scope, ...]] = ("sequence",)
    learns = True
    flops_per_bid = 16

    def __init__(self, scope: Scope = "sequence", rate: float = 0.5, memory: float = 0.7) -> None:
        super().__init__(scope)
        self.rate, self.memory = rate, memory

    def _fits(self, goods: Goods) -> Tensor:
        return goods.fits_so_far

    def _allocate(self, goods: Goods, state: State) -> tuple[Tensor, Tensor, State]:
        terms = self._terms(goods, state)
        wants_BNL, price = self._wants(goods, terms, state)
        if not nowhere(goods.fits_so_far):
            # What is served for nothing spends accrued supply too.
            wants_BNL = torch.where(goods.fits_so_far, goods.may_BNL, wants_BNL)
        # Agents stand in line by their standing, so that a token's budget is a running sum.
        order_BN1 = descending(terms.standing_BN)[..., None]
        order_BNL = order_BN1.expand(goods.value_BNL.shape)
        line_BNL = wants_BNL.gather(1, order_BNL)
        flops_BNL = goods.tariff.double_BNL
        cost_BNL = flops_BNL.gather(1, order_BN1.expand(flops_BNL.shape))
        total_BNL = torch.where(line_BNL, cost_BNL, 0.0).cumsum(1)
        allowed_BL = self._allowed(goods, terms.open_BU, total_BNL[:, -1])
        served_BNL = line_BNL & (total_BNL <= allowed_BL[:, None])
        more_BNL = self._from_remainders(line_BNL & ~served_BNL, cost_BNL, allowed_BL, served_BNL)
        served_BNL = served_BNL | more_BNL
        gate_BNL = served_BNL.gather(1, order_BN1.argsort(1).expand(order_BNL.shape))
        return gate_BNL, price, self._learn(goods, state)

    def _relax(
        self, goods: Goods, state: State, temperature: float
    ) -> tuple[Tensor, Tensor, State]:
        terms = self._terms(goods, state)
        gate_BNL, price = self._soft_wants(goods, terms, state, temperature)
        gate_BNL = torch.where(goods.fits_so_far, goods.may_BNL, gate_BNL)
        demand_BL = (gate_BNL * goods.tariff.double_BNL).sum(1)
        allowed_BL = self._allowed(goods, terms.open_BU, demand_BL)
        share_BL = (allowed_BL / torch.where(demand_BL > 0, demand_BL, 1)).clamp(0, 1)
        gate_BNL = (gate_BNL * share_BL[:, None]).to(goods.value_BNL.dtype)
        return gate_BNL, price, self._learn(goods, state)

    def _price(self, goods: Goods, terms: Terms, state: State, temperature: float | None) -> Tensor:
        """What is posted, broadcastable to (B, N, L); temperature as for ``relax``, if soft."""
        return terms.price[None, None, None]

    def _wants(self, goods: Goods, terms: Terms, state: State) -> tuple[Tensor, Tensor]:
        """Who asks to be served (B, N, L), and the price (broadcastable) at which."""
        price = self._price(goods, terms, state, None)
        open_BN1 = goods.over_agents(terms.open_BU, True)
        return (goods.density_BNL >= price.clamp(min=1e-30)) & open_BN1, price

    def _soft_wants(
        self, goods: Goods, terms: Terms, state: State, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """The same as soft gates."""
        price = self._price(goods, terms, state, temperature)
        gate_BNL = torch.sigmoid((goods.density_BNL - price) / temperature)
        return gate_BNL * goods.may_BNL * goods.over_agents(terms.open_BU, True), price

    def _terms(self, goods: Goods, state: State) -> Terms:
        """Price, standing and open units, from the state or, without one, from the first token."""
        density_BNL, tariff = goods.density_BNL.detach(), goods.tariff
        if "price" in state:
            price = state["price"].to(density_BNL.dtype)
            standing_BN = state["standing_N"].to(density_BNL.dtype).expand(density_BNL.shape[:2])
            covers_BU = (state["surplus_U"] >= 0).expand(tariff.setup_flops_BU.shape)
        else:
            first_B11 = tariff.first_B1[..., None]
            price = density_BNL.new_zeros(())
            standing_BN = density_BNL.take_along_dim(first_B11, -1).squeeze(-1)
            covers_BU = torch.ones_like(tariff.setup_flops_BU, dtype=torch.bool)
        # What fits at the first token opens everything.
        all_in_B1 = goods.fits_so_far[:, 0].gather(-1, tariff.first_B1)
        standing_BU = goods.over_units(standing_BN[..., None]).sum(-1)
        order_BU = descending(standing_BU)
        fee_BU = torch.where(covers_BU, tariff.setup_flops_U, 0).gather(-1, order_BU)
        payable_BU = torch.zeros_like(covers_BU).scatter_(
            -1, order_BU, fee_BU.cumsum(-1) <= goods.sure_B1
        )
        return Terms(price, standing_BN, (covers_BU & payable_BU) | (all_in_B1 & goods.unit_U))

    @staticmethod
    def _allowed(goods: Goods, open_BU: Tensor, demand_BL: Tensor) -> Tensor:
        """FLOPs that each token may spend: its demand, less what overdraws the balance."""
        fee_B1 = (goods.tariff.setup_flops_U * open_BU).sum(-1, keepdim=True)
        accrual_BL = goods.supply_BL - fee_B1 * goods.tariff.real_BL
        return demand_BL + _new_lows(accrual_BL - demand_BL)

    @staticmethod
    def _from_remainders(
        unserved_BNL: Tensor, cost_BNL: Tensor, allowed_BL: Tensor, served_BNL: Tensor
    ) -> Tensor:
        """Who is served from what was allowed to earlier tokens but bought no whole agent.

        These remainders are added up along the row and granted again as soon as they pay for the
        dearest agent: a second balance, which the first never touches.
        """
        spent_BL = torch.where(served_BNL, cost_BNL, 0.0).sum(1)
        saved_BL = (allowed_BL - spent_BL).clamp(min=0).cumsum(-1)
        dearest_BL = cost_BNL.amax(1).clamp(min=1)
        granted_BL = ((saved_BL / dearest_BL).floor() * dearest_BL).cummax(-1).values
        grant_BL = granted_BL.diff(dim=-1, prepend=torch.zeros_like(granted_BL[:, :1]))
        total_BNL = torch.where(unserved_BNL, cost_BNL, 0.0).cumsum(1)
        demand_BL = total_BNL[:, -1]
        allowed_BL = demand_BL + _new_lows(grant_BL - demand_BL)
        return unserved_BNL & (total_BNL <= allowed_BL[:, None])

    def _learn(self, goods: Goods, state: State) -> State:
        """The dual step, and the running means that open units and rank agents."""
        with torch.no_grad():
            tariff, density_BNL = goods.tariff, goods.density_BNL.detach()
            tokens = tariff.length_B.sum().clamp(min=1)
            supply = goods.supply_BL.sum().clamp(min=1)
            price = state["price"] if "price" in state else self._opening_price(goods)
            above_BNL = (density_BNL - price.to(density_BNL.dtype)).clamp_(min=0)
            gain_BN = tariff.total_flops_BN(above_BNL)
            gain_U = goods.over_units(gain_BN[..., None]).sum((0, 2)) / tokens
            surplus_U = gain_U - price * tariff.setup_flops_U
            covers_U = surplus_U >= 0
            asked_BN1 = tariff.total_flops_BN((above_BNL > 0).to(density_BNL.dtype))[..., None]
            asked = (asked_BN1 * goods.over_agents(covers_U[None], True)).sum()
            ratio = (asked + (tariff.setup_flops_U * covers_U).sum() * tokens) / supply
            standing_N = density_BNL.sum(-1).double().sum(0) / tokens
            if "price" in state:
                price = price * torch.exp(self.rate * (ratio - 1).clamp(-1, 1))
                keep = self.memory
                surplus_U = keep * state["surplus_U"] + (1 - keep) * surplus_U
                standing_N = keep * state["standing_N"] + (1 - keep) * standing_N
            return {"price": price, "surplus_U": surplus_U, "standing_N": standing_N}

    @staticmethod
    def _opening_price(goods: Goods) -> Tensor:
        """The mean over rows of the price that would have cleared this batch."""
        mean = goods.density_BNL.double().mean()
        # A price of 0 would stay 0 under a multiplicative step.
        return optimum(goods).price_M.double().mean().maximum(1e-3 * mean)


def _new_lows(step_BL: Tensor) -> Tensor:
    """How far each step takes a walk below all its earlier lows and 0: what overdraws a balance."""
    low_BL = step_BL.cumsum(-1).cummin(-1).values.clamp(max=0)
    return low_BL.diff(dim=-1, prepend=torch.zeros_like(low_BL[:, :1]))
