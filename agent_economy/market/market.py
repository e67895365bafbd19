"""The market of one model: bids in, gates out, credits settled at the end of a forward."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from agent_economy.agents.checks import share
from agent_economy.agents.settlement import Settlement
from agent_economy.costs.rates import Rates
from agent_economy.costs.reading import Reading
from agent_economy.costs.tariff import LayerShape, Tariff, layer_tariff, layer_tariffs
from agent_economy.errors import EconomyError
from agent_economy.market.bidding import Bidding
from agent_economy.market.charges import market_charge, market_flops, tariffs_in_flops
from agent_economy.market.course import Course
from agent_economy.market.joint import joint_tariff, stack, unstack
from agent_economy.mechanisms import Clearing, Mechanism, Scope, State
from agent_economy.mechanisms.goods import Goods
from agent_economy.mechanisms.optimum import optimum
from agent_economy.policies import Features
from agent_economy.receipt import Receipt
from agent_economy.runs.seeds import seed_for

#: spot: layer by layer, from the layer's own hidden states; forward: all layers at once before the
#: first one runs, from what enters it; trace: all at once, from a dense pass that ran before
Timing = Literal["spot", "forward", "trace"]


class Market:
    """Clears every layer of a forward and keeps what lasts between forwards.

    Args:
        shape: sizes of a layer.
        settlement: the rules of money, with ledger and population.
        mechanism: how a market clears.
        reading: what of the last layer is read, and FLOPs outside the agents.
        seed: root of the mechanism's draws.
        timing: when contracts are made.
    """

    def __init__(
        self,
        shape: LayerShape,
        settlement: Settlement,
        mechanism: Mechanism,
        reading: Reading,
        seed: int,
        timing: Timing = "spot",
    ) -> None:
        self.shape, self.settlement, self.reading, self.seed = shape, settlement, reading, seed
        self.ledger = settlement.ledger
        self.population = settlement.ledger.population
        self.bidding = Bidding(self.population)
        self.budget_fraction = 1.0
        #: softness of the gates in credits per GFLOP; None for hard 0/1 gates
        self.temperature: float | None = None
        #: whether each clearing is compared with the linear program's optimum (costs a sort)
        self.measure_optimum = False
        #: agents that serve every token, instead of a market: a static mask (see ``rivals``)
        self.plan_YN: Tensor | None = None
        self.step = 0
        self.timings_ms: dict[str, float] = defaultdict(float)
        #: the sequence that the last forward served: what a cache may go on from
        self.last_course: Course | None
        self._left_out: bool | None = None
        self._seen_version = -1
        self.set_rates(shape.rates)
        self.set_mechanism(mechanism, timing)

    def set_rates(self, rates: Rates | None) -> None:
        """Change what agents are charged; None for FLOPs. No cache goes on across the change."""
        self.shape, self.last_course = replace(self.shape, rates=rates), None
        # No token that can be served brings less than one that attends to itself alone.
        alone = layer_tariff(self.shape, torch.ones(1, 1, dtype=torch.bool))
        self._least_dense_flops = float(alone.dense_flops_BL)

    def set_mechanism(self, mechanism: Mechanism, timing: Timing = "spot") -> None:
        """Change how and when the market clears; what the old mechanism remembered is forgotten."""
        units, agents, layers = self.shape.kv_heads, self.shape.agents, self.population.layers
        self.mechanism, self.timing, self.last_course = mechanism, timing, None
        markets, size = (layers, 1) if timing == "spot" else (1, layers)
        #: one per market: each layer's, or the joint one's
        self.states: list[State] = [
            mechanism.initial_state(
                size * agents, size * units, seed_for(self.seed, "mechanism", market)
            )
            for market in range(markets)
        ]
        self.prices: list[Tensor | None] = [None] * layers

    @property
    def budget_fraction(self) -> float:
        """Supply as a share of dense agent FLOPs.

        Raises:
            EconomyError: set to a number outside [0, 1].
        """
        return self._budget_fraction

    @budget_fraction.setter
    def budget_fraction(self, budget: float) -> None:
        self._budget_fraction = share("budget_fraction", budget)

    # --- one forward -------------------------------------------------------------------------

    def open(self, mask_BL: Bool[Tensor, "B L"], past: int = 0) -> None:
        """A forward begins: price list, supply, spending limits; nothing is learned before close.

        A market is run where compute is scarce and every token's supply can pay for it.

        Args:
            mask_BL: real tokens of the whole sequence.
            past: so many of them were served by earlier forwards and come from a cache.

        Raises:
            EconomyError: the cache is not the one that the last forward filled.
        """
        self.timings_ms.clear()
        with self._clock("features"):
            self.mask_BL = mask_BL
            #: each layer's price list; layers that cost the same share one
            self.tariffs = layer_tariffs(
                self.shape, self.population.layers, mask_BL, pooled=self.reading.pooled
            )
            self.past, self.course = past, self._resume(mask_BL, past)
            self.limit_YBN = self.course.limit_YBN
            self.scarce = self.budget_fraction < 1
            planned = self.plan_YN is not None
            self.free = not (self.scarce or planned or self._anybody_left_out())
            layers = range(self.population.layers)
            to_pay = self.bidding, self.mechanism, self.shape
            asked_Y = [market_charge(*to_pay, layer) for layer in layers]
            least = int(self._least_dense_flops * self.budget_fraction)
            payable_Y = [asked <= least for asked in asked_Y]
            if self.timing != "spot":
                payable_Y = [sum(asked_Y) <= least * len(asked_Y)] * len(asked_Y)
            self.run_Y = [self.scarce and not planned and payable for payable in payable_Y]
            #: what bidding and clearing take per token in each layer, in the market's unit
            self.market_charge_Y = [
                asked if run else 0 for asked, run in zip(asked_Y, self.run_Y, strict=True)
            ]
            #: what each token brings to each layer, the market's own included
            self.supplies = [self._supply(each) for each in self.tariffs]
            self._learned: dict[int, State] = {}
            self.active_YN = self.course.active_YN
            self.contribution_YN = torch.zeros_like(self.limit_YBN[:, 0])
            self.clearings: list[Clearing | None] = [None] * self.population.layers
            self._sound = torch.ones((), dtype=torch.bool, device=mask_BL.device)
            #: bids of the sequence so far, layer by layer
            self.bids: dict[int, Tensor] = {}
            self.optimal_welfare = torch.zeros((), dtype=torch.float64, device=mask_BL.device)

    @property
    def needs_trace(self) -> bool:
        """Whether this forward must be traced densely before it runs."""
        return self.timing == "trace" and any(self.run_Y)

    def contract(self, hidden_YBLD: list[Tensor]) -> None:
        """Clear all layers in one market, each layer's bids read from its own hidden states."""
        with self._clock("bids"):
            for layer, hidden_BLD in enumerate(hidden_YBLD):
                self.bids[layer] = self._bids(layer, hidden_BLD)
        with self._clock("clearing"):
            layers, fee_agents = self.population.layers, self.tariffs[0].fee_agents
            offers = [self._on_offer(layer) for layer in range(layers)]
            clearing = self._clear(
                0,
                stack([self.bids[layer] for layer in range(layers)], fee_agents),
                joint_tariff(self.tariffs),
                torch.stack(offers).sum(0),
                stack(list(self.active_YN), fee_agents),
                stack(list(self.limit_YBN), fee_agents),
            )
            gates = unstack(clearing.allocation_BLN, layers, fee_agents)
            prices = unstack(clearing.price, layers, fee_agents)
            for layer, (gate_BLN, price) in enumerate(zip(gates, prices, strict=True)):
                goods = self._goods(layer, self.bids[layer])
                gate_BNL = gate_BLN.transpose(1, 2)
                gate_BNL = gate_BNL.bool() if self.temperature is None else gate_BNL
                self.clearings[layer] = self._settled(goods, gate_BNL, price.transpose(1, 2))

    def trade(
        self, layer: int, hidden_BLD: Float[Tensor, "B l D"]
    ) -> Float[Tensor, "B l N"] | None:
        """Gates of a layer for the tokens that run now; None where all are served."""
        if self.free:
            return None  # compute is not scarce: no market needs to be run
        if not self.run_Y[layer]:
            self.clearings[layer] = self._decree(layer)
        elif self.timing == "spot":
            with self._clock("bids"):
                bid_BLN = self.bids[layer] = self._bids(layer, hidden_BLD)
            with self._clock("clearing"):
                self.clearings[layer] = self._clear(
                    layer,
                    bid_BLN,
                    self.tariffs[layer],
                    self._on_offer(layer),
                    self.active_YN[layer],
                    self.limit_YBN[layer],
                )
        elif layer == 0 and self.timing == "forward":
            self.contract([hidden_BLD] * self.population.layers)
        clearing = self.clearings[layer]
        assert clearing is not None
        return clearing.allocation_BLN[:, self.past :]

    def served(self, layer: int, contribution_N: Float[Tensor, "N"]) -> None:
        """Note what the layer's agents were measured to add to the residual stream."""
        self.contribution_YN[layer] = contribution_N

    def close(self) -> Receipt:
        """Settle payments, check that nobody overspent, and write the receipt.

        Raises:
            EconomyError: bids were not finite, FLOPs exceed supply, or credits do not add up.
        """
        with self._clock("ledger"):
            self._settle()
        with self._clock("bids"):
            if self.bidding.anybody_observes:
                for layer, bid_BLN in self.bids.items():
                    clearing = self.clearings[layer]
                    assert clearing is not None
                    self.bidding.tell(layer, self.tariffs[layer].mask_BL, bid_BLN, clearing)
        with self._clock("recording"):
            receipt = Receipt(
                tariffs=self.tariffs,
                mask_BL=self.mask_BL,
                clearings=self.clearings,
                supplies=self.supplies,
                market_flops_Y=[
                    sum(market_flops(self.bidding, self.mechanism, self.shape, layer)) if run else 0
                    for layer, run in enumerate(self.run_Y)
                ],
                fixed=self.reading.fixed,
                traced=self.needs_trace,
                optimal_welfare=float(self.optimal_welfare) if self.measure_optimum else None,
                flops_tariffs=tariffs_in_flops(
                    self.shape, self.population.layers, self.mask_BL, pooled=self.reading.pooled
                ),
                market_charge_Y=self.market_charge_Y,
            )
        receipt.timings_ms.update(self.timings_ms)
        self.timings_ms.clear()
        self.step += 1
        return receipt

    # --- parts -------------------------------------------------------------------------------

    def _resume(self, mask_BL: Tensor, past: int) -> Course:
        """The sequence that this forward belongs to."""
        terms = (self._budget_fraction, id(self.mechanism), id(self.plan_YN))
        if past:
            if self.last_course is None:
                raise EconomyError(
                    "the cache was not filled by this economy; prefill with it, then decode"
                )
            self.last_course.refuse_another(mask_BL, past, terms)
            if self.bidding.anybody_observes:
                raise EconomyError(
                    "policies that learn from what they won (paced, bandit) would bid otherwise at "
                    "every token; decode with policies that do not, or without a cache"
                )
            return self.last_course
        limit_YBN = self.ledger.limit_YBN(mask_BL.shape[0], torch.float32)
        active_YN = self.population.by_layer(self.population.active_A).clone()
        states, prices = list(self.states), list(self.prices)
        return Course(terms, self.step, states, prices, limit_YBN, active_YN, mask_BL)

    def _settle(self) -> None:
        """Charge what the new tokens cost, pay incomes, and take over what was learned."""
        course, layers = self.course, self.population.layers
        agents = self.population.agents_per_layer
        payment_YN = self.contribution_YN.new_zeros((layers, agents), dtype=torch.float64)
        served_YN = payment_YN + self._served_Y1()
        sound = self._sound
        for layer, clearing in enumerate(self.clearings):
            if clearing is None:
                continue
            payment_YN[layer] = clearing.payment_BLN.detach().sum((0, 1))
            served_YN[layer] = clearing.allocation_BLN.detach().sum((0, 1))
            sound = sound & clearing.welfare.isfinite().all()
            if not (self.run_Y[layer] and self.timing != "spot"):
                sound = sound & self._within(layer)
        paid_YN = payment_YN if course.paid_YN is None else payment_YN - course.paid_YN
        fresh_YN = served_YN if course.served_YN is None else served_YN - course.served_YN
        # No broken payment ever reaches a wallet.
        paid_YN = torch.where(sound, paid_YN.clamp(min=0), 0.0)
        self.settlement.settle(
            paid_YN.flatten(), fresh_YN.flatten(), self.contribution_YN.double().flatten()
        )
        # One read of the device per forward, here, where the result is due anyway.
        left_out = ~self.population.active_A.all()
        was_sound, self._left_out = torch.stack((sound, left_out)).tolist()
        if not was_sound:
            raise EconomyError(
                "the market broke an invariant: bids are not finite, or spend exceeds supply; "
                "check the policies' inputs, or report this with the config"
            )
        for market, state in self._learned.items():
            self.states[market] = state
        for layer in self.bids:
            clearing = self.clearings[layer]
            assert clearing is not None
            self.prices[layer] = clearing.price.detach()
        course.mask_BL, course.bids = self.mask_BL, self.bids
        course.paid_YN, course.served_YN = payment_YN, served_YN
        self.last_course = course

    def _anybody_left_out(self) -> bool:
        """Whether an agent is muted or bankrupt; read anew only after somebody changed agents."""
        if self._left_out is None or self._seen_version != self.population.version:
            self._left_out = not bool(self.population.active_A.all())
            self._seen_version = self.population.version
        return self._left_out

    def _supply(self, tariff: Tariff) -> Int[Tensor, "B L"]:
        """FLOPs that each token brings to a layer."""
        dense_BL = tariff.dense_flops_BL
        if not self.scarce:
            return dense_BL
        # Whole FLOPs: float64 is exact here, and rounding down never overspends.
        return (dense_BL.double() * self.budget_fraction).floor().long()

    def _served_Y1(self) -> Int[Tensor, "Y 1"]:
        """Tokens that each layer can serve."""
        return torch.stack([each.mask_BL.sum() for each in self.tariffs])[:, None]

    def _on_offer(self, layer: int) -> Int[Tensor, "B L"]:
        """What each token's supply leaves to agents once the layer's market has been paid for."""
        return self.supplies[layer] - self.market_charge_Y[layer] * self.tariffs[layer].mask_BL

    def _bids(self, layer: int, hidden_BLD: Tensor) -> Tensor:
        """Bids of the whole sequence: those of its new tokens after those remembered.

        Nobody bids for a token whose output is not read.
        """
        if hidden_BLD.dtype in (torch.float16, torch.bfloat16):
            # Prices and sums of money need more digits than activations do.
            hidden_BLD = hidden_BLD.float()
        course = self.course
        features = Features(
            layer=layer,
            step=course.step,
            hidden_BLD=hidden_BLD,
            agents_N=torch.empty(0, dtype=torch.long),
            limit_BN=self.limit_YBN[layer],
            price=course.prices[layer],
            position=self.past,
            budget_fraction=self.budget_fraction,
        )
        bid_BLN = self.bidding.bids(features)
        if self.tariffs[layer].patchy:
            bid_BLN = torch.where(self.tariffs[layer].mask_BL[..., None], bid_BLN, 0.0)
        return torch.cat((course.bids[layer], bid_BLN), 1) if self.past else bid_BLN

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
        self._learned[market] = state
        if self.timing != "spot":
            self._sound = self._sound & self._keeps(clearing.spend_flops, supply_BL)
        if self.measure_optimum:
            with self._clock("measuring"):
                scope: Scope = "batch" if self.mechanism.scope == "batch" else "sequence"
                # What wallets cannot pay for is part of the loss that efficiency reports.
                unlimited_BN = torch.full_like(limit_BN, torch.inf)
                goods = Goods.of(bid_BLN, tariff, supply_BL, active_N, unlimited_BN, scope)
                self.optimal_welfare += optimum(goods).welfare_M.sum()
        return clearing

    def _goods(self, layer: int, bid_BLN: Tensor) -> Goods:
        """What a layer trades, in the scope of the market."""
        return Goods.of(
            bid_BLN,
            self.tariffs[layer],
            self._on_offer(layer),
            self.active_YN[layer],
            self.limit_YBN[layer],
            self.mechanism.scope if self.plan_YN is None else "sequence",
            causal=self.mechanism.guarantees.causal,
        )

    def _decree(self, layer: int) -> Clearing:
        """The gates of a layer without a market, for nothing.

        Those of the plan where there is one; else all in business serve where compute is not
        scarce, and none where supply cannot even pay for a market.
        """
        rows, length = self.mask_BL.shape
        nothing_BLN = self.contribution_YN.new_zeros(rows, length, self.shape.agents)
        goods = self._goods(layer, nothing_BLN)
        if self.plan_YN is not None:
            gate_BNL = goods.may_BNL & self.plan_YN[layer][:, None]
        else:
            gate_BNL = torch.zeros_like(goods.may_BNL) if self.scarce else goods.may_BNL
        return self._settled(goods, gate_BNL, goods.value_BNL.new_zeros(1, 1, 1))

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
            supply_B = torch.stack([self._on_offer(y).sum(1) for y in layers]).sum(0)
            spent = [each.spend_flops for each in self.clearings if each is not None]
            return (torch.stack(spent).sum(0) <= supply_B).all()
        return self._keeps(clearing.spend_flops, self._on_offer(layer))

    def _keeps(self, spend: Tensor, supply_BL: Tensor) -> Tensor:
        """Whether spend keeps to supply in the mechanism's scope; soft gates to rounding.

        A mechanism that does not promise it is held to its budget over many forwards, elsewhere.
        """
        if not self.mechanism.guarantees.feasible:
            return torch.ones_like(self._sound)
        scope = self.mechanism.scope
        supply = supply_BL if scope == "token" else supply_BL.sum(1)
        supply = supply.sum(0, keepdim=True) if scope == "batch" else supply
        slack = 0.0 if self.temperature is None else 1e-4
        return (spend <= supply * (1 + slack)).all()

    @contextmanager
    def _clock(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings_ms[phase] += (time.perf_counter() - start) * 1e3
