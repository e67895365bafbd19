"""VCG against brute force over every allocation."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from agent_economy.costs.tariff import Tariff
from agent_economy.mechanisms.base import Scope
from agent_economy.mechanisms.vcg import VCG
from agent_economy.testing.markets import Market, supply


def best_welfare(value: np.ndarray, flops: np.ndarray, room: int) -> float:
    """The most valuable subset that fits, by trying all."""
    items = range(len(value))
    return max(
        float(value[list(chosen)].sum())
        for size in range(len(value) + 1)
        for chosen in combinations(items, size)
        if flops[list(chosen)].sum() <= room
    )


def two_sizes(seed: int, heads: int, blocks: int, tokens: int, fraction: float) -> Market:
    """One row, no fees; heads of one cost, blocks of another."""
    generator = np.random.default_rng(seed)
    head, block = generator.integers(20, 200, 2).tolist()
    flops = torch.tensor([head] * heads + [block] * blocks)[None, :, None]
    mask_BL = torch.ones(1, tokens, dtype=torch.bool)
    tariff = Tariff(flops, torch.zeros(0, dtype=torch.long), mask_BL)
    agents = heads + blocks
    bid_BLN = torch.from_numpy(generator.lognormal(0, 1, (1, tokens, agents)))
    slack = torch.full((1, agents), 1e30, dtype=torch.float64)
    everyone = torch.ones(agents, dtype=torch.bool)
    return Market(bid_BLN, tariff, supply(tariff, [fraction]), everyone, slack)


@pytest.mark.parametrize("fraction", [0.1, 0.35, 0.6, 0.9])
@pytest.mark.parametrize(
    ("heads", "blocks", "tokens"),
    [(3, 2, 2), (2, 3, 2), (5, 4, 1), (4, 0, 2), (1, 1, 3), (1, 7, 1)],
)
@pytest.mark.parametrize("seed", range(4))
def test_winners_and_externalities_are_exact(
    seed: int, heads: int, blocks: int, tokens: int, fraction: float
) -> None:
    market = two_sizes(seed, heads, blocks, tokens, fraction)
    assert market.tariff.two_sizes(one_market=False) == heads
    clearing, _ = market.clear(VCG("sequence"))
    value = market.bid_BLN[0].numpy().ravel()
    flops = market.tariff.token_flops_BNL[0, :, 0].repeat(tokens).numpy()
    room = int(market.supply_flops_BL.sum())
    best = best_welfare(value, flops, room)
    gates = clearing.allocation_BLN[0].numpy().ravel()
    assert flops[gates > 0].sum() <= room
    assert float(value[gates > 0].sum()) == pytest.approx(best, rel=1e-9)
    paid = clearing.payment_BLN[0].numpy().ravel()
    for i in np.flatnonzero(gates):
        others = np.delete(np.arange(len(value)), i)
        externality = best_welfare(value[others], flops[others], room) - (best - value[i])
        assert paid[i] == pytest.approx(externality, abs=1e-9)
    assert not paid[gates == 0].any()


@pytest.mark.parametrize("scope", ["token", "batch"])
def test_the_other_scopes_are_markets_of_their_own(scope: Scope) -> None:
    market = two_sizes(1, 3, 3, 4, 0.4)
    clearing, _ = market.clear(VCG(scope))
    if scope == "batch":
        whole, _ = market.clear(VCG("sequence"))
        assert torch.equal(clearing.allocation_BLN, whole.allocation_BLN)
        torch.testing.assert_close(clearing.payment_BLN, whole.payment_BLN)
        return
    flops = market.tariff.token_flops_BNL[0, :, 0].numpy()
    for token in range(4):
        value = market.bid_BLN[0, token].numpy()
        room = int(market.supply_flops_BL[0, token])
        served = clearing.allocation_BLN[0, token].numpy() > 0
        assert float(value[served].sum()) == pytest.approx(best_welfare(value, flops, room))


def test_three_sizes_pay_the_density_of_the_first_that_does_not_fit() -> None:
    bid = torch.tensor([[[9.0, 8.0, 5.0, 1.0]]], dtype=torch.float64)
    flops = torch.tensor([10, 20, 30, 5])[None, :, None]
    real = torch.ones(1, 1, dtype=torch.bool)
    tariff = Tariff(flops, torch.zeros(0, dtype=torch.long), real)
    assert tariff.two_sizes(one_market=False) is None
    slack = torch.full((1, 4), 1e30, dtype=torch.float64)
    market = Market(bid, tariff, torch.tensor([[40]]), torch.ones(4, dtype=torch.bool), slack)
    clearing, _ = market.clear(VCG())
    # Densities 0.9, 0.4, 0.1667, 0.2: the third in line costs 5 and fits, the fourth does not.
    assert clearing.allocation_BLN.flatten().tolist() == [1, 1, 0, 1]
    expected = torch.tensor([10, 20, 0, 5]) * 5.0 / 30
    torch.testing.assert_close(clearing.payment_BLN.flatten(), expected.double())


def test_fees_of_opened_units_are_not_billed_but_count_against_supply() -> None:
    flops = torch.tensor([10, 10, 10, 10])[None, :, None]
    real = torch.ones(1, 2, dtype=torch.bool)
    tariff = Tariff(flops, torch.tensor([5, 5]), real)
    bid = torch.tensor([[[3.0, 1.0, 2.0, 1.5]] * 2], dtype=torch.float64)
    slack = torch.full((1, 4), 1e30, dtype=torch.float64)
    market = Market(bid, tariff, torch.tensor([[22, 22]]), torch.ones(4, dtype=torch.bool), slack)
    clearing, state = market.clear(VCG())
    # Both heads may open (20 of 44), 24 FLOPs are left: two items, the first head's.
    assert clearing.allocation_BLN[0].tolist() == [[1, 0, 0, 0], [1, 0, 0, 0]]
    assert int(clearing.spend_flops) == 30
    torch.testing.assert_close(
        clearing.payment_BLN[0, :, 0], torch.full((2,), 2.0, dtype=torch.float64)
    )
    torch.testing.assert_close(state["standing_U"], torch.tensor([3.0, 1.0], dtype=torch.float64))
