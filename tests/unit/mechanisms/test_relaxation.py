import pytest
import torch
from oracles import random_market

from agent_economy.costs.tariff import Tariff
from agent_economy.mechanisms.optimum import optimum
from agent_economy.mechanisms.relaxation import clearing_price, soft_market
from agent_economy.mechanisms.uniform_price import UniformPrice
from agent_economy.testing import Market


def test_price_where_demand_meets_supply() -> None:
    weight = torch.tensor([1.0, 3.0], dtype=torch.float64, requires_grad=True)
    price = clearing_price(lambda p: weight / (1 + p) - 0.5, torch.full((2,), 50.0).double())
    # weight / (1 + p) = 1/2, so p = 2 * weight - 1 and its slope is 2.
    torch.testing.assert_close(price.detach(), torch.tensor([1.0, 5.0], dtype=torch.float64))
    (slope,) = torch.autograd.grad(price.sum(), weight)
    torch.testing.assert_close(slope, torch.full((2,), 2.0, dtype=torch.float64))


def test_slack_has_price_0_and_no_gradient() -> None:
    weight = torch.tensor([0.2], dtype=torch.float64, requires_grad=True)
    price = clearing_price(lambda p: weight / (1 + p) - 0.5, torch.full((1,), 50.0).double())
    assert price.item() == 0
    assert torch.autograd.grad(price.sum(), weight)[0].item() == 0


@pytest.mark.parametrize("steepness", [1.0, 1e3, 1e9])
def test_a_price_is_found_in_few_evaluations(steepness: float) -> None:
    """On smooth demand, on steps, and on steps that a float can barely tell apart."""
    asked = []

    def excess(price: torch.Tensor) -> torch.Tensor:
        asked.append(price)
        return torch.sigmoid((torch.tensor([3.0, 0.7, 11.0]) - price) * steepness).double() - 0.3

    price = clearing_price(excess, torch.full((3,), 50.0).double())
    excess_left = excess(price).abs()
    assert (excess_left <= 1e-6).all() or steepness > 1e6
    torch.testing.assert_close(
        price, torch.tensor([3.0, 0.7, 11.0]).double(), rtol=0, atol=0.9 / steepness + 1e-6
    )
    assert len(asked) < (25 if steepness == 1 else 100)


@pytest.mark.parametrize("temperature", [1e-3, 1e-6])
def test_a_cold_market_of_large_prices_in_float32_keeps_to_supply(temperature: float) -> None:
    tariff = Tariff(
        torch.full((1, 1, 1), 500), torch.zeros(0, dtype=torch.long), torch.ones(1, 1).bool()
    )
    order = torch.ones(1, 1, 1), tariff, torch.tensor([[1]]), torch.ones(1).bool()
    limit_BN = torch.full((1, 1), 1e30)
    for scope in ("sequence", "token"):
        soft, _ = UniformPrice(scope).relax(*order, limit_BN, {}, temperature=temperature)
        assert float(soft.spend_flops.sum()) <= 1 + 1e-3


@pytest.mark.parametrize("fees", [False, True])
@pytest.mark.parametrize("heat", [0.1, 0.5])
def test_gradient_of_the_price_is_its_slope(fees: bool, heat: float) -> None:
    for seed in range(10):
        market = random_market(seed, fees=fees)
        temperature = market.temperature(heat)

        def price(bid_BLN: torch.Tensor, market: Market = market, t: float = temperature):
            return market.bidding(bid_BLN).relax(UniformPrice(), t)[0].price.sum() / t

        bid_BLN = market.bid_BLN.clone().requires_grad_()
        (slope,) = torch.autograd.grad(price(bid_BLN), bid_BLN)
        direction = torch.ones_like(slope)
        step = 1e-5
        finite = price(market.bid_BLN + step * direction) - price(market.bid_BLN - step * direction)
        assert (slope * direction).sum().item() == pytest.approx(
            finite.item() / (2 * step), rel=1e-5
        )


def test_price_is_never_negative_near_full_supply() -> None:
    """A sigmoid serves half of what bids at the price: at full supply it would ask for less."""
    market = random_market(3)
    for fraction in (0.9, 0.97, 0.999, 1.0):
        near = market.supplied(fraction)
        clearing, _ = near.relax(UniformPrice(), market.temperature(1.0))
        assert (clearing.price >= 0).all()
        assert (clearing.spend_flops <= near.supply_flops_BL.sum(1) * (1 + 1e-9)).all()
    assert torch.equal(clearing.allocation_BLN.bool(), market.may_BLN)


def test_cooling_reaches_the_linear_program() -> None:
    market = random_market(5, least_units=2, least_tokens=4)
    best = optimum(market.goods("sequence"))
    gaps = []
    for heat in (1.0, 0.1, 0.01, 1e-4):
        welfare = market.relax(UniformPrice(), market.temperature(heat))[0].welfare
        gaps.append(1 - (welfare / best.welfare_M).item())
    assert gaps == sorted(gaps, reverse=True)
    assert 0 <= gaps[-1] < 1e-3


def test_units_shut_at_a_small_supply() -> None:
    for seed in range(10):
        market = random_market(seed).supplied(0.02)
        goods = market.goods("sequence")
        gate_BNL, price = soft_market(goods, market.temperature(0.3))
        spend = goods.tariff.total_flops_BN(gate_BNL).sum(1)
        assert (spend <= goods.supply_M).all()
        assert price.isfinite().all()
