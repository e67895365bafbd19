"""Shares against independent solvers, and their rounding against counted frequencies."""

from __future__ import annotations

import cvxpy
import entmax
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agent_economy.costs.tariff import Tariff
from agent_economy.errors import EconomyError
from agent_economy.mechanisms.divisible import DivisibleMechanism
from agent_economy.mechanisms.fisher_market import FisherMarket
from agent_economy.mechanisms.proportional_share import ProportionalShare, water_fill
from agent_economy.mechanisms.sparse_softmax import SparseSoftmax
from agent_economy.testing.markets import Market, supply

GFLOP = 10**9
TIGHT = {"solver": cvxpy.CLARABEL} | dict.fromkeys(
    ("tol_gap_abs", "tol_gap_rel", "tol_feas", "tol_ktratio"), 1e-10
)


def market(
    seed: int, *, tokens: int = 4, agents: int = 3, fraction: float = 0.5, same_cost: bool = False
) -> Market:
    """One row without fees, slack wallets; agents of one or of several costs."""
    generator = np.random.default_rng(seed)
    low, high = (100, 101) if same_cost else (50, 400)
    flops = torch.from_numpy(generator.integers(low, high, (1, agents, 1))) * (GFLOP // 100)
    mask_BL = torch.ones(1, tokens, dtype=torch.bool)
    tariff = Tariff(flops, torch.zeros(0, dtype=torch.long), mask_BL)
    bid_BLN = torch.from_numpy(generator.lognormal(0, 1, (1, tokens, agents)))
    everyone = torch.ones(agents, dtype=torch.bool)
    slack = torch.full((1, agents), 1e30, dtype=torch.float64)
    return Market(bid_BLN, tariff, supply(tariff, [fraction]), everyone, slack)


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.7, 0.95])
@pytest.mark.parametrize("seed", range(5))
def test_the_fisher_market_is_the_eisenberg_gale_program(seed: int, fraction: float) -> None:
    made = market(seed, fraction=fraction)
    clearing, _ = made.relax(FisherMarket(), 1.0)
    value_LN = made.bid_BLN[0].numpy()
    gflops_N = made.tariff.double_BNL[0, :, 0].numpy() / GFLOP
    share_LN = cvxpy.Variable(value_LN.shape)
    utility_N = cvxpy.sum(cvxpy.multiply(value_LN, share_LN), axis=0)
    spend = cvxpy.sum(share_LN @ gflops_N)
    budget = spend <= float(made.supply_flops_BL.sum()) / GFLOP
    goal = cvxpy.Maximize(value_LN.sum(0) @ cvxpy.log(utility_N))
    cvxpy.Problem(goal, [budget, share_LN >= 0, share_LN <= 1]).solve(**TIGHT)
    ours_N = (clearing.allocation_BLN[0].numpy() * value_LN).sum(0)
    np.testing.assert_allclose(ours_N, utility_N.value, rtol=1e-4)
    np.testing.assert_allclose(float(clearing.price), budget.dual_value, rtol=1e-4)


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.7, 0.95])
@pytest.mark.parametrize("seed", range(5))
def test_proportional_shares_are_proportionally_fair(seed: int, fraction: float) -> None:
    """Each (agent, token) a buyer of its own: the same program with a log for every item."""
    made = market(seed, fraction=fraction)
    clearing, _ = made.relax(ProportionalShare(), 1.0)
    bid = made.bid_BLN[0].numpy().ravel()
    gflops = np.tile(made.tariff.double_BNL[0, :, 0].numpy() / GFLOP, made.bid_BLN.shape[1])
    share = cvxpy.Variable(len(bid))
    budget = share @ gflops <= float(made.supply_flops_BL.sum()) / GFLOP
    goal = cvxpy.Maximize(bid @ cvxpy.log(share))
    cvxpy.Problem(goal, [budget, share <= 1]).solve(**TIGHT)
    np.testing.assert_allclose(clearing.allocation_BLN.numpy().ravel(), share.value, rtol=1e-3)
    np.testing.assert_allclose(float(clearing.price), budget.dual_value, rtol=1e-4)


@given(seed=st.integers(0, 10**6), fraction=st.floats(0.01, 0.99))
def test_the_water_filled_price_sells_out(seed: int, fraction: float) -> None:
    generator = np.random.default_rng(seed)
    density = torch.from_numpy(generator.lognormal(0, 3, (4, 9)) * (generator.random((4, 9)) > 0.2))
    flops = torch.from_numpy(generator.integers(1, 100, (4, 9)).astype(float))
    left = fraction * flops.sum(-1, keepdim=True)
    price = water_fill(density, flops, left)
    bought = (flops * (density / price).clamp(max=1) * (density > 0)).nan_to_num().sum(-1)
    wanted = (flops * (density > 0)).sum(-1)
    torch.testing.assert_close(torch.where(price[:, 0] > 0, bought, left[:, 0]), left[:, 0])
    assert (wanted[price[:, 0] == 0] <= left[:, 0][price[:, 0] == 0]).all()


@pytest.mark.parametrize("alpha", [1.2, 1.5, 2.0])
def test_the_sparse_softmax_is_the_packages_entmax(alpha: float) -> None:
    made = market(3, tokens=6, agents=8, same_cost=True, fraction=1 / 8)
    heat = 2.0
    clearing, _ = made.relax(SparseSoftmax("token", alpha=alpha), heat)
    score = made.goods("token").density_BNL[0].T / heat
    expected = entmax.entmax_bisect(score, alpha=alpha, dim=-1, n_iter=100)
    torch.testing.assert_close(clearing.allocation_BLN[0], expected, rtol=1e-6, atol=1e-8)
    assert (expected == 0).any()


def test_supply_for_two_is_spread_with_a_cap() -> None:
    """Where a cap binds the package knows no answer; the projection itself does (cvxpy)."""
    made = market(1, tokens=1, agents=6, same_cost=True, fraction=2.5 / 6)
    clearing, _ = made.relax(SparseSoftmax("token", alpha=2.0), 0.5)
    score = made.goods("token").density_BNL[0, :, 0].numpy() / 0.5
    share = cvxpy.Variable(6)
    budget = cvxpy.sum(share) == 2.5
    goal = cvxpy.Minimize(cvxpy.sum_squares(share - score))
    cvxpy.Problem(goal, [budget, share >= 0, share <= 1]).solve(**TIGHT)
    ours = clearing.allocation_BLN.flatten().numpy()
    np.testing.assert_allclose(ours, share.value, atol=1e-5)
    assert (ours == 1).any()


@pytest.mark.parametrize("options", [{"alpha": 1.0}, {"alpha": 2.5}, {"spread": 0.0}])
def test_a_sparse_softmax_out_of_range_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(EconomyError, match="out of range"):
        SparseSoftmax(**options)


@pytest.mark.parametrize("member", [ProportionalShare, FisherMarket, SparseSoftmax])
def test_lots_serve_about_the_share(member: type[DivisibleMechanism]) -> None:
    """Over many seeds an item is served about as often as its share says (Rosén 1997)."""
    made = market(5, tokens=12, agents=10, same_cost=True, fraction=0.4)
    mechanism = member("sequence")
    share = made.relax(mechanism, float(mechanism.spread if member is SparseSoftmax else 1.0))[0]
    draws = torch.stack(
        [
            made.clear(mechanism, made.state(mechanism, seed))[0].allocation_BLN
            for seed in range(400)
        ]
    )
    frequency, share_BLN = draws.mean(0), share.allocation_BLN
    assert (frequency[share_BLN == 0] == 0).all()
    sure = share_BLN == 1
    # One whole item may be short of supply at the end of the line.
    assert (frequency[sure] > 0.99).all()
    # 400 draws: a standard error of at most 0.025; prefix filling rounds down by one item in 48.
    assert (frequency - share_BLN).abs().max() < 0.12
    assert (frequency - share_BLN).abs().mean() < 0.03


def test_an_agent_with_a_constant_share_is_served_evenly_along_the_row() -> None:
    agents, tokens = 8, 64
    made = market(0, tokens=tokens, agents=agents, same_cost=True, fraction=0.5)
    made = made.bidding(torch.ones_like(made.bid_BLN))
    gates_LN = made.clear(ProportionalShare("token"))[0].allocation_BLN[0]
    assert gates_LN.sum(0).sub(tokens / 2).abs().max() <= 2
    # No run of tokens goes without: of eight tokens in a row three to five are served.
    windows = gates_LN.T.unfold(1, 8, 1).sum(-1)
    assert windows.min() >= 3 and windows.max() <= 5
