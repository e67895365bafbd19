"""The market of one model: bids in, gates out, credits settled at the end of a forward."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agent_economy.agents.checks import share
from agent_economy.agents.settlement import Settlement
from agent_economy.costs.rates import Rates
from agent_economy.costs.reading import Reading
from agent_economy.costs.shape import LayerShape
from agent_economy.costs.tariff import layer_tariff, layer_tariffs
from agent_economy.errors import EconomyError
from agent_economy.market.bidding import Bidding
from agent_economy.market.charges import market_charge, market_flops, tariffs_in_flops
from agent_economy.market.course import Course
from agent_economy.market.house import ClearingHouse
from agent_economy.market.offer import Offer
from agent_economy.market.phases import Phases
from agent_economy.mechanisms import Mechanism, State
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

        Args:
            mask_BL: real tokens of the whole sequence.
            past: so many of them were served by earlier forwards and come from a cache.

        Raises:
            EconomyError: the cache is not the one that the last forward filled.
        """
        course = self._resume(mask_BL, past)
        self.phases = Phases()
        with self.phases.clock("features"):
            self.mask_BL, self.past, self.course = mask_BL, past, course
            self.offer, planned = self.offered(mask_BL), self.plan_YN is not None
            self.free = not (self.offer.scarce or planned or self._anybody_left_out())
            self.house = ClearingHouse(
                self.mechanism,
                self.offer,
                self.course,
                self.phases,
                temperature=self.temperature,
                plan_YN=self.plan_YN,
                measure_optimum=self.measure_optimum,
            )
            self.contribution_YN = torch.zeros_like(self.course.limit_YBN[:, 0])
            #: bids of the sequence so far, layer by layer
            self.bids: dict[int, Tensor] = {}

    def offered(self, mask_BL: Bool[Tensor, "B L"]) -> Offer:
        """Price lists and supply of a forward over such a batch."""
        layers = range(self.population.layers)
        tariffs = layer_tariffs(self.shape, len(layers), mask_BL, pooled=self.reading.pooled)
        to_pay = self.bidding, self.mechanism, self.shape
        return Offer(
            tariffs,
            self.budget_fraction,
            [market_charge(*to_pay, layer) for layer in layers],
            self._least_dense_flops,
            planned=self.plan_YN is not None,
            joint=self.timing != "spot",
        )

    @property
    def needs_trace(self) -> bool:
        """Whether this forward must be traced densely before it runs."""
        return self.timing == "trace" and any(self.offer.run_Y)

    def contract(self, hidden_YBLD: list[Tensor]) -> None:
        """Clear all layers in one market, each layer's bids read from its own hidden states."""
        with self.phases.clock("bids"):
            for layer, hidden_BLD in enumerate(hidden_YBLD):
                self.bids[layer] = self._bids(layer, hidden_BLD)
        with self.phases.clock("clearing"):
            self.house.clear_jointly([self.bids[y] for y in range(self.population.layers)])

    def trade(
        self, layer: int, hidden_BLD: Float[Tensor, "B l D"]
    ) -> Float[Tensor, "B l N"] | None:
        """Gates of a layer for the tokens that run now; None where all are served."""
        if self.free:
            return None  # compute is not scarce: no market needs to be run
        if not self.offer.run_Y[layer]:
            self.house.decree(layer)
        elif self.timing == "spot":
            with self.phases.clock("bids"):
                bid_BLN = self.bids[layer] = self._bids(layer, hidden_BLD)
            with self.phases.clock("clearing"):
                self.house.clear(layer, bid_BLN)
        elif layer == 0 and self.timing == "forward":
            self.contract([hidden_BLD] * self.population.layers)
        clearing = self.house.clearings[layer]
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
        with self.phases.clock("ledger"):
            self._settle()
        with self.phases.clock("bids"):
            if self.bidding.anybody_observes:
                for layer, bid_BLN in self.bids.items():
                    clearing = self.house.clearings[layer]
                    assert clearing is not None
                    self.bidding.tell(layer, self.offer.tariffs[layer].mask_BL, bid_BLN, clearing)
        to_pay = self.bidding, self.house.mechanism, self.shape
        with self.phases.clock("recording"):
            receipt = Receipt(
                tariffs=self.offer.tariffs,
                mask_BL=self.mask_BL,
                clearings=self.house.clearings,
                supplies=self.offer.supplies,
                market_flops_Y=[
                    sum(market_flops(*to_pay, layer)) if run else 0
                    for layer, run in enumerate(self.offer.run_Y)
                ],
                fixed=self.reading.fixed,
                traced=self.needs_trace,
                optimal_welfare=self.house.optimum(),
                flops_tariffs=tariffs_in_flops(
                    self.shape, self.population.layers, self.mask_BL, pooled=self.reading.pooled
                ),
                market_charge_Y=self.offer.market_charge_Y,
            )
        receipt.timings_ms.update(self.phases.timings_ms)
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
        served_YN = payment_YN + self.offer.tokens_Y1
        for layer, clearing in enumerate(self.house.clearings):
            if clearing is None:
                continue
            payment_YN[layer] = clearing.payment_BLN.detach().sum((0, 1))
            served_YN[layer] = clearing.allocation_BLN.detach().sum((0, 1))
        paid_YN = payment_YN if course.paid_YN is None else payment_YN - course.paid_YN
        fresh_YN = served_YN if course.served_YN is None else served_YN - course.served_YN
        sound = self.house.sound()
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
        for market, state in self.house.learned.items():
            self.states[market] = state
        for layer in self.bids:
            clearing = self.house.clearings[layer]
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
            limit_BN=course.limit_YBN[layer],
            price=course.prices[layer],
            position=self.past,
            budget_fraction=self.budget_fraction,
        )
        bid_BLN = self.bidding.bids(features)
        if self.offer.tariffs[layer].patchy:
            bid_BLN = torch.where(self.offer.tariffs[layer].mask_BL[..., None], bid_BLN, 0.0)
        return torch.cat((course.bids[layer], bid_BLN), 1) if self.past else bid_BLN
