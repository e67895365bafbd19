"""First price: whose bids win, and that they are paid to the credit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings

from agent_economy.costs.tariff import Tariff
from agent_economy.mechanisms.first_price import FirstPrice
from agent_economy.mechanisms.goods import Scope
from agent_economy.mechanisms.greedy_density import GreedyDensity
from agent_economy.testing.markets import Market, markets

SCOPES: tuple[Scope, ...] = ("sequence", "token", "batch")
quick = settings(max_examples=40)


def affordable_BLN(market: Market) -> torch.Tensor:
    """Bids as the wallets can pay them: each agent's scaled by one factor on each row."""
    bid_BLN = market.bid_BLN * market.may_BLN
    total_BN = bid_BLN.sum(1)
    factor_BN = (market.limit_BN / total_BN.clamp(min=1e-300)).clamp(max=1)
    return bid_BLN * factor_BN[:, None]


@pytest.mark.parametrize("scope", SCOPES)
@quick
@given(market=markets())
def test_greedy_winners_pay_what_they_bid(scope: Scope, market: Market) -> None:
    """Token by token, set-up fees included, whatever the price per GFLOP is."""
    clearing, _ = market.clear(FirstPrice(scope))
    same, _ = market.clear(GreedyDensity(scope))
    assert torch.equal(clearing.allocation_BLN, same.allocation_BLN)
    assert torch.equal(clearing.spend_flops, same.spend_flops)
    bill_BLN = clearing.allocation_BLN * affordable_BLN(market)
    free = clearing.price.expand(market.bid_BLN.shape) == 0
    bill_BLN = torch.where(free & ~_scarce_B11(market, scope), 0.0, bill_BLN)
    assert torch.allclose(clearing.payment_BLN, bill_BLN, rtol=1e-9, atol=1e-12)


@quick
@given(market=markets(tight=False))
def test_soft_winners_pay_the_served_share_of_their_bid(market: Market) -> None:
    clearing, _ = market.relax(FirstPrice(), market.temperature(0.3))
    paid = clearing.price.expand(market.bid_BLN.shape) > 0
    bill_BLN = clearing.allocation_BLN * market.bid_BLN * paid
    assert torch.allclose(clearing.payment_BLN, bill_BLN, rtol=1e-9, atol=1e-12)


def test_set_up_fees_are_not_billed_on_top() -> None:
    # One head of 10 FLOPs a token; opening it costs 2 tokens * 5; one token is served.
    tariff = Tariff(torch.tensor([[[10]]]), torch.tensor([5]), torch.ones(1, 2).bool())
    bid_BLN = torch.tensor([[[6.0], [1.0]]], dtype=torch.float64)
    limit_BN = torch.full((1, 1), 1e30, dtype=torch.float64)
    market = Market(bid_BLN, tariff, torch.tensor([[10, 10]]), torch.ones(1).bool(), limit_BN)
    clearing, _ = market.clear(FirstPrice())
    assert clearing.allocation_BLN[0].tolist() == [[1], [0]]
    assert clearing.spend_flops.tolist() == [20]
    assert clearing.payment_BLN[0].flatten().tolist() == pytest.approx([6.0, 0.0])
    assert clearing.price[0].flatten().tolist() == pytest.approx([6.0 / 10 * 1e9, 1.0 / 10 * 1e9])


def test_a_higher_bid_costs_what_it_adds() -> None:
    """What no uniform price does, and why everybody shades."""
    tariff = Tariff(torch.tensor([[[10], [10]]]), torch.zeros(0).long(), torch.ones(1, 1).bool())
    limit_BN = torch.full((1, 2), 1e30, dtype=torch.float64)
    for own in (2.5, 9.0):
        bid_BLN = torch.tensor([[[own, 2.0]]], dtype=torch.float64)
        market = Market(bid_BLN, tariff, torch.tensor([[10]]), torch.ones(2).bool(), limit_BN)
        assert market.clear(FirstPrice())[0].payment_BLN.flatten().tolist() == pytest.approx(
            [own, 0]
        )
        assert market.clear(GreedyDensity())[0].payment_BLN.flatten().tolist() == pytest.approx(
            [2, 0]
        )


def _scarce_B11(market: Market, scope: Scope) -> torch.Tensor:
    """Where not everything fits, so that winners pay."""
    return ~market.goods(scope).fits
