from dataclasses import replace

import pytest
import torch
from oracles import linear_welfare, random_market

from agent_economy.mechanisms.goods import FLOPS_PER_GFLOP
from agent_economy.mechanisms.optimum import optimum


@pytest.mark.parametrize(
    ("fees", "group"), [(False, 1), (True, 1), (True, 2)], ids=["no fees", "fees", "shared fees"]
)
@pytest.mark.parametrize("rows", [1, 3])
def test_welfare_is_that_of_highs(rows: int, fees: bool, group: int) -> None:
    for seed in range(40):
        market = random_market(seed, rows=rows, group=group, fees=fees)
        best = optimum(market.goods("batch")).welfare_M.item()
        assert best == pytest.approx(linear_welfare(market.goods("batch")), rel=1e-6)


def test_every_row_is_a_market_at_sequence_scope() -> None:
    for seed in range(20):
        market = random_market(seed, rows=3)
        best_B = optimum(market.goods("sequence")).welfare_M
        for b in range(3):
            expected = linear_welfare(market.row(b).goods("sequence"))
            assert best_B[b].item() == pytest.approx(expected, rel=1e-6)


def test_bids_count_at_what_wallets_can_pay() -> None:
    for seed in range(20):
        market = random_market(seed)
        limit_BN = 0.5 * (market.bid_BLN * market.mask_BL[..., None]).sum(1)
        goods = replace(market, limit_BN=limit_BN).goods("sequence")
        assert optimum(goods).welfare_M.item() == pytest.approx(linear_welfare(goods), rel=1e-6)


@pytest.mark.parametrize("fees", [False, True])
def test_shadow_price_is_the_slope_of_welfare(fees: bool) -> None:
    """A few FLOPs more and less; where both slopes agree no kink lies between."""
    checked = 0
    for seed in range(100):
        market = random_market(seed, fees=fees)
        step = 3

        def welfare(extra: int, market=market) -> float:
            supply_BL = market.supply_flops_BL.clone()
            supply_BL[0, 0] += extra
            return optimum(
                replace(market, supply_flops_BL=supply_BL).goods("sequence")
            ).welfare_M.item()

        below = (welfare(0) - welfare(-step)) / step * FLOPS_PER_GFLOP
        above = (welfare(step) - welfare(0)) / step * FLOPS_PER_GFLOP
        if above == pytest.approx(below, rel=1e-6):
            price = optimum(market.goods("sequence")).price_M.item()
            assert price == pytest.approx(above, rel=0.01)
            checked += 1
    assert checked >= 50


def test_dense_supply_has_no_price() -> None:
    market = random_market(1).supplied(1.0)
    best = optimum(market.goods("sequence"))
    assert best.price_M.item() == 0
    may = market.bid_BLN * market.may_BLN
    torch.testing.assert_close(best.welfare_M, may.sum((1, 2)))
