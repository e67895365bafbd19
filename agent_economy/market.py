"""The market of one model: layer by layer, bids in, gates out, credits settled at the end."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from agent_economy.agents.checks import share
from agent_economy.agents.settlement import Settlement
from agent_economy.costs.fixed import FixedFlops
from agent_economy.costs.tariff import LayerShape, layer_tariff
from agent_economy.errors import EconomyError
from agent_economy.mechanisms import Clearing, Mechanism, Scope, State
from agent_economy.mechanisms.goods import Goods
from agent_economy.mechanisms.optimum import optimum
from agent_economy.policies import Features, Outcome, Policy
from agent_economy.receipt import Receipt
from agent_economy.runs.seeds import seed_for


class Market:
    """Clears every layer of a forward and keeps what lasts between forwards.

    Args:
        shape: sizes of a layer.
        settlement: the rules of money, with ledger and population.
        mechanism: how a layer clears.
        fixed: FLOPs outside the agents.
        seed: root of the mechanism's draws.
    """

    def __init__(
        self,
        shape: LayerShape,
        settlement: Settlement,
        mechanism: Mechanism,
        fixed: FixedFlops,
        seed: int,
    ) -> None:
        self.shape, self.settlement, self.fixed, self.seed = shape, settlement, fixed, seed
        self.ledger = settlement.ledger
        self.population = settlement.ledger.population
        self.budget_fraction = 1.0
        #: softness of the gates in credits per GFLOP; None for hard 0/1 gates
        self.temperature: float | None = None
        #: whether each clearing is compared with the linear program's optimum (costs a sort)
        self.measure_optimum = False
        #: agents that serve every token, instead of a market: a static mask (see ``rivals``)
        self.plan_YN: Tensor | None = None
        self.step = 0
        self.timings_ms: dict[str, float] = defaultdict(float)
        self._left_out: bool | None = None
        self._seen_version = -1
        # No token brings less than one that attends to itself alone.
        alone = layer_tariff(shape, torch.ones(1, 1, dtype=torch.bool))
        self._least_dense_flops = float(alone.dense_flops_BL)
        self.set_mechanism(mechanism)

    def set_mechanism(self, mechanism: Mechanism) -> None:
        """Change how layers clear; what the old mechanism remembered is forgotten."""
        units, agents = self.shape.kv_heads, self.shape.agents
        self.mechanism = mechanism
        self.states: list[State] = [
            mechanism.initial_state(agents, units, seed_for(self.seed, "mechanism", layer))
            for layer in range(self.population.layers)
        ]
        self.prices: list[Tensor | None] = [None] * self.population.layers

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

    def open(self, mask_BL: Bool[Tensor, "B L"]) -> None:
        """A forward begins: price list, supply, spending limits; nothing is learned before close.

        A market is run where compute is scarce and every token's supply can pay for it.
        """
        self.timings_ms.clear()
        with self._clock("features"):
            self.mask_BL, self.tariff = mask_BL, layer_tariff(self.shape, mask_BL)
            self.scarce = self.budget_fraction < 1
            planned = self.plan_YN is not None
            self.free = not (self.scarce or planned or self._anybody_left_out())
            layers = range(self.population.layers)
            asked_Y = [self._market_flops(layer) for layer in layers]
            # Whole FLOPs: float64 is exact here, and rounding down never overspends.
            least = int(self._least_dense_flops * self.budget_fraction)
            self.run_Y = [self.scarce and not planned and asked <= least for asked in asked_Y]
            self.market_flops_Y = [
                asked if run else 0 for asked, run in zip(asked_Y, self.run_Y, strict=True)
            ]
            dense_BL = self.tariff.dense_flops_BL
            supply_BL = (dense_BL.double() * self.budget_fraction).floor().long()
            self.supply_BL: Tensor = supply_BL if self.scarce else dense_BL
            self._learned: dict[int, tuple[State, Tensor]] = {}
            self.limit_YBN = self.ledger.limit_YBN(mask_BL.shape[0], torch.float32)
            self.active_YN = self.population.by_layer(self.population.active_A)
            self.contribution_YN = torch.zeros_like(self.limit_YBN[:, 0])
            self.clearings: list[Clearing | None] = [None] * self.population.layers
            #: the last forward's bids, layer by layer
            self.bids: dict[int, Tensor] = {}
            self.optimal_welfare = torch.zeros((), dtype=torch.float64, device=mask_BL.device)

    def trade(
        self, layer: int, hidden_BLD: Float[Tensor, "B L D"]
    ) -> Float[Tensor, "B L N"] | None:
        """Collect the layer's bids, clear, and return its gates; None where all are served."""
        if self.free:
            return None  # compute is not scarce: no market needs to be run
        if not self.run_Y[layer]:
            self.clearings[layer] = clearing = self._decree(layer)
            return clearing.allocation_BLN
        with self._clock("bids"):
            bid_BLN = self.bids[layer] = self._bids(layer, hidden_BLD)
        with self._clock("clearing"):
            order = (
                bid_BLN,
                self.tariff,
                self._on_offer(layer),
                self.active_YN[layer],
                self.limit_YBN[layer],
                self.states[layer],
            )
            if self.temperature is None:
                clearing, state = self.mechanism.clear(*order)
            else:
                clearing, state = self.mechanism.relax(*order, temperature=self.temperature)
            self._learned[layer] = state, clearing.price.detach()
            self.clearings[layer] = clearing
        if self.measure_optimum:
            with self._clock("measuring"):
                scope: Scope = "batch" if self.mechanism.scope == "batch" else "sequence"
                # What wallets cannot pay for is part of the loss that efficiency reports.
                unlimited_BN = torch.full_like(self.limit_YBN[layer], torch.inf)
                goods = Goods.of(*order[:4], unlimited_BN, scope)
                self.optimal_welfare += optimum(goods).welfare_M.sum()
        return clearing.allocation_BLN

    def served(self, layer: int, contribution_N: Float[Tensor, "N"]) -> None:
        """Note what the layer's agents were measured to add to the residual stream."""
        self.contribution_YN[layer] = contribution_N

    def close(self) -> Receipt:
        """Settle payments, check that nobody overspent, and write the receipt.

        Raises:
            EconomyError: bids were not finite, FLOPs exceed supply, or credits do not add up.
        """
        with self._clock("ledger"):
            layers, agents = self.population.layers, self.population.agents_per_layer
            payment_YN = self.contribution_YN.new_zeros((layers, agents), dtype=torch.float64)
            served_YN = payment_YN + self.mask_BL.sum()
            sound = payment_YN.new_ones((), dtype=torch.bool)
            for layer, clearing in enumerate(self.clearings):
                if clearing is None:
                    continue
                payment_YN[layer] = clearing.payment_BLN.detach().sum((0, 1))
                served_YN[layer] = clearing.allocation_BLN.detach().sum((0, 1))
                sound = sound & clearing.welfare.isfinite().all() & self._within(layer)
            # No broken payment ever reaches a wallet.
            payment_YN = torch.where(sound, payment_YN, 0.0)
            self.settlement.settle(
                payment_YN.flatten(), served_YN.flatten(), self.contribution_YN.double().flatten()
            )
            # One read of the device per forward, here, where the result is due anyway.
            left_out = ~self.population.active_A.all()
            was_sound, self._left_out = torch.stack((sound, left_out)).tolist()
            if not was_sound:
                raise EconomyError(
                    "the market broke an invariant: bids are not finite, or spend exceeds supply; "
                    "check the policies' inputs, or report this with the config"
                )
            for layer, (state, price) in self._learned.items():
                self.states[layer], self.prices[layer] = state, price
        with self._clock("bids"):
            self._tell_policies()
        with self._clock("recording"):
            receipt = Receipt(
                tariff=self.tariff,
                mask_BL=self.mask_BL,
                clearings=self.clearings,
                supply_flops_BL=self.supply_BL,
                market_flops_Y=self.market_flops_Y,
                fixed=self.fixed,
                optimal_welfare=float(self.optimal_welfare) if self.measure_optimum else None,
            )
        receipt.timings_ms.update(self.timings_ms)
        self.timings_ms.clear()
        self.step += 1
        return receipt

    # --- parts -------------------------------------------------------------------------------

    def _anybody_left_out(self) -> bool:
        """Whether an agent is muted or bankrupt; read anew only after somebody changed agents."""
        if self._left_out is None or self._seen_version != self.population.version:
            self._left_out = not bool(self.population.active_A.all())
            self._seen_version = self.population.version
        return self._left_out

    def _on_offer(self, layer: int) -> Int[Tensor, "B L"]:
        """What each token's supply leaves to agents once the layer's market has been paid for."""
        return self.supply_BL - self.market_flops_Y[layer] * self.mask_BL

    def _decree(self, layer: int) -> Clearing:
        """The gates of a layer without a market, for nothing.

        Those of the plan where there is one; else all in business serve where compute is not
        scarce, and none where supply cannot even pay for a market.
        """
        rows, length = self.mask_BL.shape
        goods = Goods.of(
            self.contribution_YN.new_zeros(rows, length, self.shape.agents),
            self.tariff,
            self.supply_BL,
            self.active_YN[layer],
            self.limit_YBN[layer],
            self.mechanism.scope if self.plan_YN is None else "sequence",
        )
        nobody = torch.zeros_like(goods.may_BNL)
        free = goods.value_BNL.new_zeros(1, 1, 1)
        if self.plan_YN is not None:
            gate_BNL = goods.may_BNL & self.plan_YN[layer][:, None]
        else:
            gate_BNL = nobody if self.scarce else goods.may_BNL
        return goods.settle(gate_BNL, free, nobody[:1, :1, :1])

    def _within(self, layer: int) -> Tensor:
        """Whether a layer's spend stays within supply, in its scope; soft gates to rounding.

        A plan may move FLOPs between layers: all layers of a row together must stay within supply.
        """
        clearing, supply = self.clearings[layer], self._on_offer(layer)
        assert clearing is not None
        if self.plan_YN is not None:
            cleared = [each.spend_flops for each in self.clearings if each is not None]
            spend_B: Tensor = torch.stack(cleared).sum(0)
            return (spend_B <= supply.sum(1) * len(cleared)).all()
        scope = self.mechanism.scope
        supply = supply if scope == "token" else supply.sum(1)
        supply = supply.sum(0, keepdim=True) if scope == "batch" else supply
        slack = 0.0 if self.temperature is None else 1e-4
        return (clearing.spend_flops <= supply * (1 + slack)).all()

    def _groups(self, layer: int) -> list[tuple[Policy, Tensor]]:
        """Agents of a layer by policy.

        Raises:
            EconomyError: agents were given something that is no policy.
        """
        groups = []
        for policy, agents_N in self.population.policy_groups(layer):
            if not isinstance(policy, Policy):
                raise EconomyError(
                    f"agents were told to bid by {policy!r}, which is no policy; "
                    "give an object such as FisherPolicy()"
                )
            groups.append((policy, agents_N))
        return groups

    def _bids(self, layer: int, hidden_BLD: Tensor) -> Tensor:
        """One (B, L, N) tensor, one call per group of agents that share a policy."""
        groups = self._groups(layer)
        if hidden_BLD.dtype in (torch.float16, torch.bfloat16):
            # Prices and sums of money need more digits than activations do.
            hidden_BLD = hidden_BLD.float()
        parts = [
            policy.bid(
                Features(
                    layer,
                    self.step,
                    hidden_BLD,
                    agents_N,
                    self.limit_YBN[layer],
                    self.prices[layer],
                )
            )
            for policy, agents_N in groups
        ]
        if len(parts) == 1 and parts[0].shape[-1] == self.shape.agents:
            return parts[0]
        rows, length, _ = hidden_BLD.shape
        bid_BLN: Tensor = hidden_BLD.new_zeros(rows, length, self.shape.agents)
        for (_, agents_N), part in zip(groups, parts, strict=True):
            bid_BLN = bid_BLN.index_copy(-1, agents_N, part.to(bid_BLN.dtype))
        return bid_BLN

    def _tell_policies(self) -> None:
        """Show policies that learn from their success what their bids won."""
        if not any(getattr(policy, "observes", False) for policy in self.population.policies):
            return
        for layer in self._learned:
            clearing = self.clearings[layer]
            assert clearing is not None
            for policy, agents_N in self._groups(layer):
                if policy.observes:
                    policy.observe(
                        Outcome(
                            layer,
                            agents_N,
                            self.mask_BL,
                            self.bids[layer][..., agents_N].detach(),
                            clearing.allocation_BLN[..., agents_N].detach(),
                            clearing.payment_BLN[..., agents_N].detach(),
                            clearing.price.detach(),
                        )
                    )

    def _market_flops(self, layer: int) -> int:
        """FLOPs per token of bidding and clearing in a layer."""
        if self.mechanism.flops_per_bid == 0:
            return 0  # nobody bids where nobody listens
        hidden = self.shape.hidden
        bidding = sum(
            policy.flops_per_token(hidden, len(agents_N))
            for policy, agents_N in self._groups(layer)
        )
        return bidding + self.mechanism.flops_per_bid * self.shape.agents

    @contextmanager
    def _clock(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings_ms[phase] += (time.perf_counter() - start) * 1e3
