"""Ordered learners and the planned price against sequential re-enactments."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agent_economy.costs.tariff import Tariff
from agent_economy.errors import EconomyError
from agent_economy.mechanisms.ordered_learners import OrderedLearners
from agent_economy.mechanisms.planned_price import PlannedPrice, _stretches
from agent_economy.mechanisms.posted_price import PostedPrice
from agent_economy.testing.markets import Market, supply

GFLOP = 10**9


def stream(seed: int, rows: int, tokens: int, agents: int, fraction: float) -> Market:
    """Rows of i.i.d. bids; every agent costs a GFLOP, nobody bears a fee."""
    generator = np.random.default_rng(seed)
    flops = torch.full((rows, agents, 1), GFLOP)
    real = torch.ones(rows, tokens, dtype=torch.bool)
    tariff = Tariff(flops, torch.zeros(0, dtype=torch.long), real)
    bid_BLN = torch.from_numpy(generator.lognormal(0, 1, (rows, tokens, agents)))
    slack = torch.full((rows, agents), 1e30, dtype=torch.float64)
    everyone = torch.ones(agents, dtype=torch.bool)
    return Market(bid_BLN, tariff, supply(tariff, [fraction] * rows), everyone, slack)


@pytest.mark.parametrize("seed", range(6))
def test_every_token_buys_the_prefix_of_highest_surplus(seed: int) -> None:
    market = stream(seed, 2, 5, 6, 0.99)
    price, standing = 1.1, torch.tensor([3.0, 9.0, 1.0, 7.0, 5.0, 2.0])
    state = {"price": torch.tensor(price), "surplus_U": torch.zeros(0), "standing_N": standing}
    gates_BLN = market.clear(OrderedLearners(), state)[0].allocation_BLN
    line = standing.argsort(descending=True).tolist()
    for row, token in np.ndindex(2, 5):
        gain = [float(market.bid_BLN[row, token, n]) - price for n in line]
        surplus = [0.0, *np.cumsum(gain)]
        bought = set(line[: int(np.argmax(surplus))])
        served = set(gates_BLN[row, token].nonzero().flatten().tolist())
        # The hard stop may cut the end of the line, and nothing else.
        assert served == set(line[: len(served)])
        assert served <= bought
        assert len(bought) - len(served) <= 1 or token == 0


def test_learners_in_their_own_order() -> None:
    market = stream(0, 1, 4, 5, 0.6)
    gates_LN = market.clear(OrderedLearners(order="index"))[0].allocation_BLN[0]
    assert (gates_LN.diff(dim=-1) <= 0).all() and gates_LN.any()
    with pytest.raises(EconomyError, match="standing or index"):
        OrderedLearners(order="random")


def test_cold_prefixes_are_chosen_sharply_and_warm_ones_are_gates_over_k() -> None:
    market = stream(1, 1, 6, 4, 0.9)
    state = {
        "price": torch.tensor(1.0),
        "surplus_U": torch.zeros(0),
        "standing_N": torch.tensor([4.0, 3.0, 2.0, 1.0]),
    }
    cold = market.relax(OrderedLearners(), 1e-4, state)[0].allocation_BLN[0]
    # A token that overdraws its balance has all of its gates scaled alike.
    relative = cold / cold.amax(-1, keepdim=True).clamp(min=1e-9)
    warm = market.relax(OrderedLearners(), 1.0, state)[0].allocation_BLN[0]
    assert ((relative < 1e-3) | (relative > 1 - 1e-3)).all()
    assert (warm.diff(dim=-1) <= 1e-12).all()


def test_stretches_double_and_cover_the_row() -> None:
    assert [(s.start, s.stop) for s in _stretches(50)] == [(0, 8), (8, 16), (16, 32), (32, 50)]
    assert [(s.start, s.stop) for s in _stretches(3)] == [(0, 3)]


def test_the_price_follows_spend_along_a_row() -> None:
    """The path re-enacted stretch by stretch with plain loops."""
    mechanism = PlannedPrice()
    _, state = stream(2, 4, 40, 5, 0.5).clear(mechanism)
    market = stream(3, 2, 40, 5, 0.5)
    clearing, _ = market.clear(mechanism, state)
    share = state["share_P"]
    for row in range(2):
        price, spent, planned = float(state["price"]), 0.0, 0.0
        for stretch in _stretches(40):
            for token in range(stretch.start, stretch.stop):
                assert float(clearing.price[row, token, 0]) == pytest.approx(price)
                spent += GFLOP * sum(float(b) >= price for b in market.bid_BLN[row, token])
                planned += float(share[token] * market.supply_flops_BL[row, token])
            price *= float(np.exp(0.5 * np.clip((spent - planned) / planned, -1, 1)))


def test_one_sample_gives_the_price_that_cleared_it() -> None:
    """With equal costs the LP dual is the density of the first bid that supply does not cover."""
    market = stream(4, 1, 30, 6, 0.4)
    _, state = market.clear(PlannedPrice())
    bids = market.bid_BLN.flatten().sort(descending=True).values
    first_left = int(market.supply_flops_BL.sum() // GFLOP)
    assert float(state["price"]) == pytest.approx(float(bids[first_left]))


def test_a_plan_spends_closer_to_supply_than_a_price_that_gropes() -> None:
    """One sample of a stationary stream is enough; the multiplicative step needs many forwards."""

    def spent(mechanism: PostedPrice, forwards: int) -> float:
        state = stream(0, 4, 64, 8, 0.5).state(mechanism)
        for seed in range(forwards):
            _, state = stream(seed, 4, 64, 8, 0.5).clear(mechanism, state)
        market = stream(99, 4, 64, 8, 0.5)
        clearing, _ = market.clear(mechanism, state)
        return float(clearing.spend_flops.sum() / market.supply_flops_BL.sum())

    assert spent(PlannedPrice(), 1) > 0.9
    assert spent(PlannedPrice(), 1) > spent(PostedPrice(rate=0.05), 1)
