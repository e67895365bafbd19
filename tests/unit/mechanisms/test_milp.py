"""Hard clearing with set-up costs against the exact mixed-integer program, by HiGHS."""

from collections.abc import Callable

import pytest
from oracles import exact_welfare, random_market

from agent_economy.mechanisms.base import Mechanism
from agent_economy.mechanisms.greedy_density import GreedyDensity
from agent_economy.mechanisms.uniform_price import UniformPrice
from agent_economy.testing import Market

INSTANCES = 200


@pytest.fixture(scope="module")
def instances() -> list[tuple[Market, float]]:
    markets = [
        random_market(seed, group=1 + seed % 2, least_units=2, least_tokens=4)
        for seed in range(INSTANCES)
    ]
    return [(market, exact_welfare(market.goods("sequence"))) for market in markets]


def welfare(mechanism: Mechanism, market: Market) -> float:
    return market.clear(mechanism)[0].welfare.item()


@pytest.mark.parametrize("make", [UniformPrice, GreedyDensity])
def test_welfare_is_near_the_exact_one(
    make: Callable[[], Mechanism],
    instances: list[tuple[Market, float]],
    record_property: Callable[[str, object], None],
) -> None:
    ratios = [welfare(make(), market) / best for market, best in instances if best > 0]
    mean, worst = sum(ratios) / len(ratios), min(ratios)
    record_property("mean_welfare_ratio", mean)
    record_property("worst_welfare_ratio", worst)
    print(f"{make().name}: {mean:.4f} of exact welfare on average, {worst:.4f} at worst")
    assert max(ratios) <= 1 + 1e-9
    assert mean >= 0.95


def test_going_on_past_what_does_not_fit_never_loses(
    instances: list[tuple[Market, float]],
) -> None:
    for market, _ in instances:
        assert welfare(GreedyDensity(), market) >= welfare(UniformPrice(), market) - 1e-9
