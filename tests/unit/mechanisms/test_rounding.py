from dataclasses import replace

import pytest
import torch
from oracles import exact_welfare, random_market

from agent_economy.costs.shape import LayerShape
from agent_economy.costs.tariff import Tariff, layer_tariff
from agent_economy.mechanisms.greedy_density import GreedyDensity
from agent_economy.mechanisms.rounding import fill
from agent_economy.mechanisms.uniform_price import UniformPrice
from agent_economy.testing import Market


def row(bid: list[list[float]], tariff: Tariff, supply: int) -> Market:
    """One row; its supply comes with its first token."""
    bid_BLN = torch.tensor([bid], dtype=torch.float64)
    supply_BL = torch.zeros(bid_BLN.shape[:2], dtype=torch.long)
    supply_BL[0, 0] = supply
    agents = bid_BLN.shape[2]
    limit_BN = torch.full((1, agents), 1e30, dtype=torch.float64)
    return Market(bid_BLN, tariff, supply_BL, torch.ones(agents, dtype=torch.bool), limit_BN)


def heads(count: int, tokens: int, *, flops: int, fee: int) -> Tariff:
    mask_BL = torch.ones(1, tokens, dtype=torch.bool)
    return Tariff(torch.full((1, count, 1), flops), torch.full((count,), fee), mask_BL)


def test_a_head_opens_when_its_tokens_together_pay_the_fee() -> None:
    # Per token 10 FLOPs, for the row 2 * 10 more. No single token of head 0 beats head 1's best.
    market = row([[4.0, 5.0], [4.0, 0.0]], heads(2, 2, flops=10, fee=10), 40)
    plan = fill(market.goods("sequence"))
    assert plan.open_BU.tolist() == [[True, False]]
    assert plan.gate_BNL.tolist() == [[[True, True], [False, False]]]


def test_a_unit_that_cannot_open_leaves_room_for_others() -> None:
    # Head 0 is worth most but costs more than there is; the block is served instead.
    tariff = Tariff(torch.tensor([[[10], [10]]]), torch.tensor([100]), torch.ones(1, 1).bool())
    plan = fill(row([[500.0, 1.0]], tariff, 50).goods("sequence"))
    assert plan.gate_BNL.tolist() == [[[False], [True]]]


@pytest.mark.parametrize("supply_of", [1, 2, 3])
def test_identical_heads_open_one_after_the_other(supply_of: int) -> None:
    market = row([[1.0] * 4] * 3, heads(4, 3, flops=10, fee=5), supply_of * 45)
    clearing, _ = market.clear(UniformPrice())
    served = [[float(n < supply_of) for n in range(4)]] * 3
    assert clearing.allocation_BLN[0].tolist() == served


def test_constant_bids_on_a_real_layer_use_their_supply() -> None:
    shape = LayerShape(384, 12, 12, 32, 1536, 2, 128, causal=False)
    tariff = layer_tariff(shape, torch.ones(2, 16, dtype=torch.bool))
    bid_BLN = torch.ones(2, 16, shape.agents, dtype=torch.float64)
    supply_BL = (tariff.dense_flops_BL * 0.5).long()
    limit_BN = torch.full((2, shape.agents), 1e9)
    market = Market(bid_BLN, tariff, supply_BL, torch.ones(shape.agents).bool(), limit_BN)
    for make in (UniformPrice, GreedyDensity):
        clearing, _ = market.clear(make())
        assert (clearing.spend_flops >= 0.95 * supply_BL.sum(1)).all()


def test_greedy_goes_on_past_what_does_not_fit() -> None:
    tariff = Tariff(
        torch.tensor([[[10], [9], [3]]]), torch.zeros(0).long(), torch.ones(1, 1).bool()
    )
    market = row([[9.0, 7.0, 1.0]], tariff, 14)
    assert market.clear(UniformPrice())[0].allocation_BLN.flatten().tolist() == [1, 0, 0]
    assert market.clear(GreedyDensity())[0].allocation_BLN.flatten().tolist() == [1, 0, 1]


def test_price_lies_between_served_and_unserved() -> None:
    for seed in range(50):
        market = random_market(seed, fees=False)
        goods = market.goods("sequence")
        plan = fill(goods)
        served = goods.density_BNL[plan.gate_BNL]
        unserved = goods.density_BNL[~plan.gate_BNL]
        price = plan.price_M.item()
        assert unserved.max() <= price * (1 + 1e-12)
        assert not served.numel() or served.min() >= price


def test_muted_agents_leave_the_others_their_optimum() -> None:
    for seed in range(30):
        market = random_market(seed, least_units=2, least_tokens=4)
        active_N = torch.ones_like(market.active_N)
        active_N[1] = False
        muted = replace(market, active_N=active_N)
        clearing, _ = muted.clear(GreedyDensity())
        assert clearing.welfare.item() <= exact_welfare(muted.goods("sequence")) + 1e-9
