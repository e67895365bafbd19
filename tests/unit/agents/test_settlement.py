"""Whole steps: conservation under random shocks, no device reads, permutation of agents."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_economy.agents.bankruptcy import BANKRUPTCY_RULES
from agent_economy.agents.income import INCOME_RULES
from agent_economy.agents.ledger import Ledger
from agent_economy.agents.population import Population
from agent_economy.agents.settlement import Settlement

INCOME = st.sampled_from(["flat", "revenue", "contribution"])
BANKRUPTCY = st.sampled_from(["exit", "bailout", "none"])


def settlement(
    population: Population, income: str, bankruptcy: str, endowment: float | torch.Tensor = 10.0
) -> Settlement:
    ledger = Ledger(population, endowment)
    ledger.open()
    rule = BANKRUPTCY_RULES.get(bankruptcy)(threshold_credits=2.0, patience=3)
    return Settlement(ledger, INCOME_RULES.get(income)(), rule)


def stress(regimes: list[Settlement], steps: int, seed: int) -> None:
    """Random steps and shocks under changing rules, audited after every step.

    At the end the wallets are compared with the money that the journal saw come and go.
    """
    ledger, population = regimes[0].ledger, regimes[0].ledger.population
    random = torch.Generator().manual_seed(seed)

    def draw() -> torch.Tensor:
        return torch.rand(population.size, dtype=torch.float64, generator=random)

    def chance(probability: float) -> bool:
        return float(torch.rand((), generator=random)) < probability

    minted = burnt = 0.0
    for step in range(steps):
        # A third of agents bids all it has: wallets touch zero all the time.
        appetite_A = torch.where(draw() < 1 / 3, 1.0, draw())
        regime = regimes[step // 100 % len(regimes)]
        regime.settle(ledger.limit_A(4) * 4 * appetite_A, draw() * 9, draw() - 0.2)
        if chance(0.1):
            ledger.grant(draw() * 5 * (draw() < 0.2))
        if chance(0.1):
            ledger.confiscate(draw() * 20 * (draw() < 0.2))
        if chance(0.1):
            ledger.mint(float(draw()[0]) * 50)
        if chance(0.1):
            ledger.burn(float(draw()[0]) * 50)
        if chance(0.05):
            row = int(draw()[0] * population.size)
            population.set_tax_rate(row, float(draw()[0]))
            population.mute(row, chance(0.5))
            population.set_bankrupt(row, False)
        if step % 500 == 499:
            frame = ledger.journal(drain=True)
            minted += frame["mint"].sum()
            burnt += frame["burn"].sum()
        ledger.check()
    ledger.close_step()
    frame = ledger.journal()
    outside = minted - burnt + frame["mint"].sum() - frame["burn"].sum()
    held = float(ledger.wallet_A.sum() + ledger.treasury)
    assert held == pytest.approx(outside, rel=1e-6)
    assert float(ledger.issued) == pytest.approx(outside, rel=1e-6)


def test_credits_are_conserved_over_ten_thousand_steps() -> None:
    population = Population(3, 4, 4)
    regimes = [
        settlement(population, income, bankruptcy)
        for income in ("contribution", "revenue", "flat")
        for bankruptcy in ("bailout", "exit", "none")
    ]
    ledger = regimes[0].ledger
    stress([replace(regime, ledger=ledger) for regime in regimes], steps=10_000, seed=0)


@settings(max_examples=25, deadline=None)
@given(
    income=INCOME,
    bankruptcy=BANKRUPTCY,
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(1, 3), st.integers(0, 4), st.integers(1, 4)),
    endowment=st.sampled_from([0.0, 1e-9, 10.0, 1e12]),
)
def test_credits_are_conserved_whatever_the_economy(
    income: str, bankruptcy: str, seed: int, shape: tuple[int, int, int], endowment: float
) -> None:
    stress([settlement(Population(*shape), income, bankruptcy, endowment)], steps=50, seed=seed)


@given(income=INCOME, bankruptcy=BANKRUPTCY, seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_agents_may_be_permuted(income: str, bankruptcy: str, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    wallets, taxes = torch.rand(2, 12, dtype=torch.float64, generator=random) * 5
    muted = torch.rand(12, generator=random) < 0.2
    order = torch.randperm(12, generator=random)
    economies = []
    for rows in (torch.arange(12), order):
        population = Population(2, 3, 3)
        population.tax_rate_A.copy_(taxes[rows] / 10)
        population.muted_A.copy_(muted[rows])
        economies.append(settlement(population, income, bankruptcy, wallets[rows]))
    for _ in range(8):
        share, served, contribution = torch.rand(3, 12, dtype=torch.float64, generator=random)
        for rows, economy in zip((torch.arange(12), order), economies, strict=True):
            payment_A = share[rows] * economy.ledger.limit_A(1)
            economy.settle(payment_A, served[rows], contribution[rows])
    straight, permuted = (economy.ledger for economy in economies)
    torch.testing.assert_close(permuted.wallet_A, straight.wallet_A[order])
    assert torch.equal(permuted.population.active_A, straight.population.active_A[order])


@pytest.mark.parametrize("income", ["flat", "revenue", "contribution"])
@pytest.mark.parametrize("bankruptcy", ["exit", "bailout", "none"])
def test_a_step_never_reads_the_device(income: str, bankruptcy: str) -> None:
    # A meta tensor has no values: .item(), .tolist() or a boolean index would raise.
    population = Population(2, 3, 3, device="meta")
    economy = settlement(population, income, bankruptcy)
    ledger = economy.ledger
    amount_A = torch.empty(12, dtype=torch.float32, device="meta")
    ledger.limit_YBN(4, torch.float32)
    economy.settle(amount_A, amount_A, amount_A)
    for shock in (ledger.grant, ledger.confiscate, ledger.tax):
        shock(amount_A)
    for shock in (ledger.mint, ledger.burn):
        shock(1.0)
        shock(amount_A.sum())
    with pytest.raises(RuntimeError, match="meta"):  # while an audit does read it
        ledger.check()


def test_a_step_by_hand() -> None:
    population = Population(2, 1, 1)
    population.set_tax_rate(3, 0.5)
    economy = settlement(population, "contribution", "none")
    economy.settle(
        payment_A=torch.tensor([4.0, 2.0, 0.0, 0.0]),
        served_A=torch.tensor([8.0, 2.0, 0.0, 0.0]),
        contribution_A=torch.tensor([3.0, 1.0, 0.0, 0.0]),
    )
    # Revenue is 6 in payments and 5 in tax, paid back three to one.
    assert economy.ledger.wallet_A.tolist() == pytest.approx([14.25, 10.75, 10.0, 5.0])
    assert population.served_A.tolist() == [8.0, 2.0, 0.0, 0.0]
    assert population.income_A.tolist() == pytest.approx([8.25, 2.75, 0.0, 0.0])
    assert economy.ledger.journal()["tax"].tolist() == [5.0]
