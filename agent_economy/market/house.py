"""The clearing house: one forward's bids turned into gates, prices and payments.

It clears a layer's own market or the joint one of all layers, decrees gates where there is no
market, and checks that nobody spends more than there is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agent_economy.costs.tariff import Tariff
from agent_economy.market.course import Course
from agent_economy.market.joint import joint_tariff, stack, unstack
from agent_economy.market.offer import Offer
from agent_economy.market.phases import Phases
from agent_economy.mechanisms import Clearing, Mechanism, Scope, State
from agent_economy.mechanisms.goods import Goods
from agent_economy.mechanisms.optimum import optimum


class ClearingHouse:
    """Clears the markets of one forward.

    Args:
        mechanism: how a market clears.
        offer: price lists and supply.
        course: the sequence: what mechanisms remembered, who trades, what each may spend.
        phases: clock readings.
        temperature: softness of the gates in credits per GFLOP; None for hard 0/1 gates.
        plan_YN: agents that serve every token, instead of a market.
        measure_optimum: whether each clearing is compared with the linear program's optimum.

    Attributes:
        clearings: what each layer's market decided; None where there was none yet.
        learned: what each market that was cleared will remember.
    """

    def __init__(
        self,
        mechanism: Mechanism,
        offer: Offer,
        course: Course,
        phases: Phases,
        *,
        temperature: float | None,
        plan_YN: Tensor | None,
        measure_optimum: bool,
    ) -> None:
        self.mechanism, self.offer, self.course, self.phases = mechanism, offer, course, phases
        self.temperature, self.plan_YN = temperature, plan_YN
        self.measure_optimum = measure_optimum
        device = offer.tariffs[0].mask_BL.device
        self.clearings: list[Clearing | None] = [None] * len(offer.tariffs)
        self.learned: dict[int, State] = {}
        #: whether the joint market kept to supply
        self._kept = torch.ones((), dtype=torch.bool, device=device)
        self._optimal_welfare = torch.zeros((), dtype=torch.float64, device=device)

    def clear(self, layer: int, bid_BLN: Tensor) -> None:
        """Clear a layer's own market."""
        self.clearings[layer] = self._clear(
            layer,
            bid_BLN,
            self.offer.tariffs[layer],
            self.offer.for_agents(layer),
            self.course.active_YN[layer],
            self.course.limit_YBN[layer],
        )

    def clear_jointly(self, bids: list[Tensor]) -> None:
        """Clear all layers in one market."""
        course, tariffs = self.course, self.offer.tariffs
        layers, fee_agents = len(tariffs), tariffs[0].fee_agents
        clearing = self._clear(
            0,
            stack(bids, fee_agents),
            joint_tariff(tariffs),
            torch.stack([self.offer.for_agents(layer) for layer in range(layers)]).sum(0),
            stack(list(course.active_YN), fee_agents),
            stack(list(course.limit_YBN), fee_agents),
        )
        gates = unstack(clearing.allocation_BLN, layers, fee_agents)
        prices = unstack(clearing.price, layers, fee_agents)
        for layer, (gate_BLN, price) in enumerate(zip(gates, prices, strict=True)):
            goods = self._goods(layer, bids[layer])
            gate_BNL = gate_BLN.transpose(1, 2)
            gate_BNL = gate_BNL.bool() if self.temperature is None else gate_BNL
            self.clearings[layer] = self._settled(goods, gate_BNL, price.transpose(1, 2))

    def decree(self, layer: int) -> None:
        """The gates of a layer without a market, for nothing.

        Those of the plan where there is one; else all in business serve where compute is not
        scarce, and none where supply cannot even pay for a market.
        """
        rows, length = self.offer.tariffs[layer].mask_BL.shape
        limit_YBN = self.course.limit_YBN
        goods = self._goods(layer, limit_YBN.new_zeros(rows, length, limit_YBN.shape[-1]))
        if self.plan_YN is not None:
            gate_BNL = goods.may_BNL & self.plan_YN[layer][:, None]
        else:
            gate_BNL = torch.zeros_like(goods.may_BNL) if self.offer.scarce else goods.may_BNL
        self.clearings[layer] = self._settled(goods, gate_BNL, goods.value_BNL.new_zeros(1, 1, 1))

    def optimum(self) -> float | None:
        """The linear program's welfare over all markets, in credits; None where not measured."""
        return float(self._optimal_welfare) if self.measure_optimum else None

    def sound(self) -> Tensor:
        """Whether all bids were finite, and spend is within supply."""
        sound = self._kept
        for layer, clearing in enumerate(self.clearings):
            if clearing is None:
                continue
            sound = sound & clearing.welfare.isfinite().all()
            if not (self.offer.joint and self.offer.run_Y[layer]):
                sound = sound & self._within(layer)
        return sound

    # --- parts -------------------------------------------------------------------------------

    def _clear(
        self,
        market: int,
        bid_BLN: Tensor,
        tariff: Tariff,
        supply_BL: Tensor,
        active_N: Tensor,
        limit_BN: Tensor,
    ) -> Clearing:
        """Clear one market, a layer's or the joint one."""
        order = bid_BLN, tariff, supply_BL, active_N, limit_BN, self.course.states[market]
        if self.temperature is None:
            clearing, state = self.mechanism.clear(*order)
        else:
            clearing, state = self.mechanism.relax(*order, temperature=self.temperature)
        self.learned[market] = state
        if self.offer.joint:
            self._kept = self._kept & self._keeps(clearing.spend_flops, supply_BL)
        if self.measure_optimum:
            with self.phases.clock("measuring"):
                scope: Scope = "batch" if self.mechanism.scope == "batch" else "sequence"
                # What wallets cannot pay for is part of the loss that efficiency reports.
                unlimited_BN = torch.full_like(limit_BN, torch.inf)
                goods = Goods.of(bid_BLN, tariff, supply_BL, active_N, unlimited_BN, scope)
                self._optimal_welfare += optimum(goods).welfare_M.sum()
        return clearing

    def _goods(self, layer: int, bid_BLN: Tensor) -> Goods:
        """What a layer trades, in the scope of the market."""
        return Goods.of(
            bid_BLN,
            self.offer.tariffs[layer],
            self.offer.for_agents(layer),
            self.course.active_YN[layer],
            self.course.limit_YBN[layer],
            self.mechanism.scope if self.plan_YN is None else "sequence",
            causal=self.mechanism.guarantees.causal,
        )

    def _settled(self, goods: Goods, gate_BNL: Tensor, price: Tensor) -> Clearing:
        """FLOPs and credits of gates that were decided elsewhere."""
        nowhere = torch.zeros(1, 1, 1, dtype=torch.bool, device=gate_BNL.device)
        return goods.settle(gate_BNL, price, nowhere, bill_fees=self.mechanism.bills_fees)

    def _within(self, layer: int) -> Tensor:
        """Whether a layer's spend stays within supply, in its scope.

        A plan may move FLOPs between layers: all layers of a row together must stay within supply.
        """
        clearing = self.clearings[layer]
        assert clearing is not None
        if self.plan_YN is not None:
            layers = [y for y, each in enumerate(self.clearings) if each is not None]
            supply_B = torch.stack([self.offer.for_agents(y).sum(1) for y in layers]).sum(0)
            spent = [each.spend_flops for each in self.clearings if each is not None]
            return (torch.stack(spent).sum(0) <= supply_B).all()
        return self._keeps(clearing.spend_flops, self.offer.for_agents(layer))

    def _keeps(self, spend: Tensor, supply_BL: Tensor) -> Tensor:
        """Whether spend keeps to supply in the mechanism's scope; soft gates to rounding.

        A mechanism that does not promise it is held to its budget over many forwards, elsewhere.
        """
        if not self.mechanism.guarantees.feasible:
            return torch.ones_like(self._kept)
        scope = self.mechanism.scope
        supply = supply_BL if scope == "token" else supply_BL.sum(1)
        supply = supply.sum(0, keepdim=True) if scope == "batch" else supply
        slack = 0.0 if self.temperature is None else 1e-4
        return (spend <= supply * (1 + slack)).all()
