"""One market in the race: an economy, warmed up, that bids what it is told to."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import brentq
from torch import Tensor

from agent_economy import Economy
from agent_economy.config import MechanismConfig
from agent_economy.errors import EconomyError
from agent_economy.executors.hooks import watched
from agent_economy.policies import Features, Policy
from agent_economy.policies.shaded import ShadedPolicy
from agent_economy.receipt import Receipt
from simulations.laboratory.session import Laboratory
from simulations.mechanism_race.config import RaceConfig

#: A fixed price is looked for between a mean bid's density divided and multiplied by this.
_RANGE = 100.0


class DenseBids(Policy):
    """Another policy's bids, read off the hidden states of the dense pass.

    What a market serves in one layer changes the hidden states that later layers bid by. With
    these bids it does not: every market is asked the same question.

    Args:
        inner: the policy that bids.
    """

    def __init__(self, inner: Policy) -> None:
        super().__init__(inner.seed)
        self.inner = inner
        self.hidden_YBLD: list[Tensor] = []

    def bid(self, features: Features) -> Float[Tensor, "B L n"]:
        """The other policy's bids on what it would have seen in a dense pass."""
        hidden_BLD = self.hidden_YBLD[features.layer]
        return self.inner.bid(features._replace(hidden_BLD=hidden_BLD))

    def flops_per_token(self, hidden: int, agents: int) -> int:
        """Those of the other policy: the dense pass is a study's, and free."""
        return self.inner.flops_per_token(hidden, agents)


class Entrant:
    """An economy in the race.

    Args:
        session: the study.
        market: how it clears.
        seed: of texts, calibration and lots.
        same_bids: bid what the dense pass makes everybody bid, rather than by what the market
            left of it.
    """

    def __init__(
        self, session: Laboratory, market: MechanismConfig, seed: int, *, same_bids: bool
    ) -> None:
        config = session.config
        assert isinstance(config, RaceConfig)
        self.config = config
        self.economy: Economy = session.economy(seed, market, budget_fraction=config.supply)
        if same_bids:
            self.economy.set_policy(DenseBids(self.economy.policies[0]))
        self._warm_up(session.calibration(seed).batches)

    @torch.no_grad()
    def see(self, batch: dict[str, Any]) -> None:
        """Run a batch densely, if that is what bids are read off."""
        for policy in self.economy.policies:
            if isinstance(policy, DenseBids):
                policy.hidden_YBLD = watched(self.economy.adapter, batch)[1]

    @torch.no_grad()
    def run(self, batch: dict[str, Any]) -> Any:
        """The model's output on a batch, receipt and all."""
        self.see(batch)
        return self.economy(**batch)

    @torch.no_grad()
    def shaken(self, batch: dict[str, Any], seed: int) -> Receipt:
        """Of a forward in which every agent bids a little more or less, and which is forgotten."""
        economy, population = self.economy, self.economy.population
        generator = torch.Generator().manual_seed(seed)
        noise_YN = torch.randn(population.layers, population.agents_per_layer, generator=generator)
        shade_YN = (noise_YN * self.config.jitter).clamp(max=0.9)
        shaded = ShadedPolicy(policy=self.config.policy, shade=shade_YN.tolist())
        shaded.inner = deepcopy(economy.policies[0])
        with economy.trying():
            economy.set_policy(shaded)
            receipt: Receipt = economy(**batch).receipt
            return receipt

    # --- before the race ---------------------------------------------------------------------

    def _warm_up(self, batches: list[dict[str, Any]]) -> None:
        """Let a mechanism that learns do so, and set the price of one that is told it."""
        market = self.economy.market
        if not market.mechanism.guarantees.feasible:
            self._set_price(batches)
        if market.mechanism.learns:
            with self.economy.trying():
                for step in range(self.config.warm_up):
                    self.run(batches[step % len(batches)])
                learned, prices = market.states, market.prices
            market.states, market.prices = learned, prices

    def _set_price(self, batches: list[dict[str, Any]]) -> None:
        """The price at which calibration texts spend the supply.

        Raises:
            EconomyError: the mechanism keeps to no budget, and has no price to set.
        """
        market = self.economy.market
        if any("price" not in state for state in market.states):
            raise EconomyError(
                f"mechanism {market.mechanism.name!r} keeps to no budget and has no price that "
                "would make it; remove it from markets"
            )

        def post(log_price: float) -> None:
            price = torch.tensor(np.exp(log_price), dtype=torch.float64)
            market.states = [state | {"price": price} for state in market.states]

        def excess(log_price: float) -> float:
            post(log_price)
            with self.economy.trying():
                spent = [self.run(batch).receipt for batch in batches]
            flops = sum(receipt.spend_flops for receipt in spent)
            return flops / sum(receipt.dense_flops for receipt in spent) - self.config.supply

        with self.economy.trying():
            receipt = self.run(batches[0]).receipt
            declared = sum(float(bid_BLN.double().sum()) for bid_BLN in market.bids.values())
        middle = np.log(declared / (receipt.dense_flops / 1e9))
        ends = middle - np.log(_RANGE), middle + np.log(_RANGE)
        post(brentq(excess, *ends, xtol=5e-3, maxiter=30))
