"""Ordered learners: heads stand in one line and blocks in another; a token buys the first k.

A token never skips an agent that stands before one it uses. At a posted price ``p`` it buys from
each line the prefix of highest surplus, ``k* = argmax_k sum_{i<=k} (bid_i - p w_i)``, none where no
prefix gains. Supply accrues token by token; what a token asks beyond it is cut from the end of the
lines, so that prefixes stay prefixes. Price, open units and the order of the lines are learned
from earlier forwards as in the posted price.

    inputs      as for the posted price
    price       the posted price, that of the marginal agent (1, 1, 1), credits per GFLOP
    guarantees  feasible at every token; causal given the state; monotone; relaxed form
                differentiable: ``P(k) ~ exp(surplus_k / (T w))`` with ``w`` an agent's mean cost,
                and a gate is the chance that its line is bought as far
    complexity  O(I)
    source      Wojcik et al. 2023, Adaptive Computation Modules (arXiv 2312.10193), where learners
                are trained in this order; here the order is by standing unless told otherwise

Example:
    >>> import torch
    >>> from agent_economy.costs.tariff import Tariff
    >>> from agent_economy.mechanisms.ordered_learners import OrderedLearners
    >>> bid = torch.tensor([[[1.0, 3.0, 1.0], [3.0, 1.0, 1.0]]])
    >>> real, nobody_pays = torch.ones(1, 2, dtype=torch.bool), torch.zeros(0, dtype=torch.long)
    >>> tariff = Tariff(torch.full((1, 3, 1), 10**9), nobody_pays, real)
    >>> rest = torch.full((1, 2), 2 * 10**9), torch.ones(3).bool(), torch.full((1, 3), 9.0)
    >>> at = {"price": torch.tensor(1.5), "surplus_U": torch.zeros(0), "standing_N": torch.ones(3)}
    >>> OrderedLearners().clear(bid, tariff, *rest, at)[0].allocation_BLN.int().tolist()
    [[[1, 1, 0], [1, 0, 0]]]
"""

from __future__ import annotations

import torch
from torch import Tensor

from agent_economy.errors import EconomyError
from agent_economy.mechanisms.base import Guarantees, Scope, State
from agent_economy.mechanisms.goods import FLOPS_PER_GFLOP, Goods
from agent_economy.mechanisms.order import descending
from agent_economy.mechanisms.posted_price import PostedPrice, Terms

_ORDERS = ("standing", "index")


class OrderedLearners(PostedPrice):
    """Tokens buy prefixes; see the module's heading.

    Args:
        scope: only ``"sequence"``.
        rate: step of the dual update.
        memory: weight of the past in the running means.
        order: ``"standing"``, or ``"index"`` for agents that were trained in their own order.

    Raises:
        EconomyError: an unknown order.
    """

    name = "ordered_learners"
    guarantees = Guarantees(causal=True)
    flops_per_bid = 24

    def __init__(
        self,
        scope: Scope = "sequence",
        rate: float = 0.5,
        memory: float = 0.7,
        order: str = "standing",
    ) -> None:
        super().__init__(scope, rate, memory)
        if order not in _ORDERS:
            raise EconomyError(f"ordered_learners: order {order!r}; choose {' or '.join(_ORDERS)}")
        self.order = order

    def _terms(self, goods: Goods, state: State) -> Terms:
        terms = super()._terms(goods, state)
        if self.order == "standing":
            return terms
        agents = terms.standing_BN.shape[1]
        falling_N = torch.arange(agents, 0, -1).to(terms.standing_BN)
        return terms._replace(standing_BN=falling_N.expand_as(terms.standing_BN))

    def _wants(self, goods: Goods, terms: Terms, state: State) -> tuple[Tensor, Tensor]:
        parts = []
        for order_BN1, gain_BNL in self._lines(goods, terms):
            total_BNL = gain_BNL.cumsum(1)
            best_B1L, length_B1L = total_BNL.max(1, keepdim=True)
            place_1N1 = torch.arange(gain_BNL.shape[1], device=gain_BNL.device)[:, None]
            bought_BNL = (place_1N1 <= length_B1L) & (best_B1L > 0)
            parts.append(self._back(bought_BNL, order_BN1))
        open_BN1 = goods.over_agents(terms.open_BU, True)
        may_BNL = goods.may_BNL & open_BN1
        return torch.cat(parts, 1) & may_BNL, terms.price[None, None, None]

    def _soft_wants(
        self, goods: Goods, terms: Terms, state: State, temperature: float
    ) -> tuple[Tensor, Tensor]:
        mean_B1L = goods.tariff.double_BNL.mean(1, keepdim=True).clamp(min=1) / FLOPS_PER_GFLOP
        parts = []
        for order_BN1, gain_BNL in self._lines(goods, terms):
            logit_BNL = gain_BNL.cumsum(1) / (temperature * mean_B1L)
            nothing_B1L = torch.zeros_like(logit_BNL[:, :1])
            chance_BNL = torch.cat((nothing_B1L, logit_BNL), 1).softmax(1)[:, 1:]
            gate_BNL = chance_BNL.flip(1).cumsum(1).flip(1).clamp(max=1.0)
            parts.append(self._back(gate_BNL, order_BN1))
        gate_BNL = torch.cat(parts, 1).to(goods.value_BNL.dtype)
        gate_BNL = gate_BNL * goods.may_BNL * goods.over_agents(terms.open_BU, True)
        return gate_BNL, terms.price[None, None, None]

    @staticmethod
    def _lines(goods: Goods, terms: Terms) -> list[tuple[Tensor, Tensor]]:
        """For heads and for blocks: who stands where, and the surplus of each place's agent.

        Those who may not trade or whose unit is closed stand in line with neither gain nor loss.
        """
        fee_agents = goods.tariff.fee_agents
        may_BNL = goods.may_BNL & goods.over_agents(terms.open_BU, True)
        gflops_BNL = goods.tariff.double_BNL / FLOPS_PER_GFLOP
        gain_BNL = (goods.density_BNL - terms.price) * gflops_BNL
        gain_BNL = torch.where(may_BNL, gain_BNL, 0.0)
        lines = []
        for part in (slice(0, fee_agents), slice(fee_agents, None)):
            if gain_BNL[:, part].shape[1]:
                order_BN1 = descending(terms.standing_BN[:, part])[..., None]
                own_BNL = gain_BNL[:, part]
                lines.append((order_BN1, own_BNL.gather(1, order_BN1.expand(own_BNL.shape))))
        return lines

    @staticmethod
    def _back(x_BNL: Tensor, order_BN1: Tensor) -> Tensor:
        return x_BNL.gather(1, order_BN1.argsort(1).expand(x_BNL.shape))
