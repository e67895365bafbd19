"""Learned valuations at the floor: who fell out of the market may come back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from agent_economy.costs.tariff import Tariff
from agent_economy.mechanisms.fixed_price import FixedPrice
from agent_economy.policies import Features
from agent_economy.policies.learned import LearnedPolicy

PRICE, TEMPERATURE = 0.2, 0.1
DENSITY = [[0.5, 0.0, -0.1, -0.4]]


def policy(*, revives: bool) -> LearnedPolicy:
    made = LearnedPolicy()
    made.start(torch.tensor(DENSITY), torch.ones(1, 4), hidden=3)
    made.revives = revives
    return made


def bids(of: LearnedPolicy) -> Tensor:
    limit_BN = torch.full((1, 4), 1e9)
    hidden_BLD = torch.zeros(1, 2, 3)
    return of.bid(Features(0, 0, hidden_BLD, torch.arange(4), limit_BN, None))


def gates(of: LearnedPolicy) -> Tensor:
    """Straight-through gates at a fixed price: hard ones with a soft gradient."""
    real, no_fees = torch.ones(1, 2, dtype=torch.bool), torch.zeros(0, dtype=torch.long)
    market = FixedPrice(price=PRICE, straight_through=True)
    clearing, _ = market.relax(
        bids(of),
        Tariff(torch.full((1, 4, 1), 10**9), no_fees, real),
        torch.ones(1, 2, dtype=torch.long),
        torch.ones(4, dtype=torch.bool),
        torch.full((1, 4), 1e9),
        market.initial_state(4, 0, 0),
        temperature=TEMPERATURE,
    )
    return clearing.allocation_BLN.sum((0, 1))


def test_bids_are_the_same_and_start_where_they_are_told() -> None:
    with_floor, reviving = bids(policy(revives=False)), bids(policy(revives=True))
    assert torch.equal(with_floor, reviving)
    assert torch.equal(reviving[0, 0], torch.tensor([0.5, 0.0, 0.0, 0.0]))


@pytest.mark.parametrize("wanted", [True, False])
def test_the_gradient_at_the_floor_only_raises(wanted: bool) -> None:
    """``loss = -gates`` asks for more of everybody, ``+gates`` for less."""
    gradients = {}
    for revives in (False, True):
        of = policy(revives=revives)
        (-gates(of) if wanted else gates(of)).sum().backward()
        assert of.density_YN.grad is not None
        gradients[revives] = of.density_YN.grad[0]
    above = torch.tensor([True, True, False, False])
    assert torch.equal(gradients[True][above], gradients[False][above]), "above it nothing changes"
    assert (gradients[False][~above] == 0).all()
    assert ((gradients[True][~above] < 0) == wanted).all()
    # Two tokens, each sigmoid'((0 - price) / T) / T.
    s = torch.sigmoid(torch.tensor(-PRICE / TEMPERATURE))
    slope = 2 * s * (1 - s) / TEMPERATURE if wanted else torch.tensor(0.0)
    torch.testing.assert_close(gradients[True][2:], -slope.expand(2))


@pytest.mark.parametrize("revives", [False, True])
def test_a_dead_agent_comes_back_only_where_it_may(revives: bool) -> None:
    of = policy(revives=revives)
    optimiser = torch.optim.Adam([of.density_YN], lr=0.05)
    for _ in range(30):
        optimiser.zero_grad()
        served_N = gates(of)
        # The third agent is worth having, the fourth is not.
        (served_N[3] - served_N[2]).backward()
        optimiser.step()
    with torch.no_grad():
        served_N = gates(of)
    assert (float(served_N[2]) == 2.0) == revives, "served for both tokens"
    assert float(of.density_YN[0, 3].detach()) == pytest.approx(-0.4), "it sinks no deeper"
    assert float(served_N[3]) == 0.0
