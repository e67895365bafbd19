"""Patience, exit, bailout and doing nothing."""

from __future__ import annotations

import pytest
import torch

from agent_economy.agents.bankruptcy import BANKRUPTCY_RULES
from agent_economy.agents.ledger import Ledger
from agent_economy.agents.population import Population
from agent_economy.errors import EconomyError


@pytest.fixture
def ledger() -> Ledger:
    """Four agents with 1, 2, 3 and 4 credits and 2 in reserve."""
    wallets = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    ledger = Ledger(Population(2, 1, 1), wallets, money_supply=12.0)
    ledger.open()
    return ledger


def apply(name: str, ledger: Ledger, steps: int, patience: int = 2) -> None:
    rule = BANKRUPTCY_RULES.get(name)(threshold_credits=2.5, patience=patience)
    for _ in range(steps):
        rule.apply(ledger)
        ledger.close_step()
    ledger.check()


def test_exit_waits_for_its_patience_then_takes_the_wallet(ledger: Ledger) -> None:
    apply("exit", ledger, steps=1)
    assert ledger.wallet_A.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert ledger.population.poor_steps_A.tolist() == [1, 1, 0, 0]
    apply("exit", ledger, steps=1)
    assert ledger.population.bankrupt_A.tolist() == [True, True, False, False]
    assert ledger.population.active_A.tolist() == [False, False, True, True]
    assert ledger.wallet_A.tolist() == [0.0, 0.0, 3.0, 4.0]
    assert ledger.treasury == 5.0
    assert ledger.journal()["exit"].tolist() == [0.0, 3.0]


def test_exit_is_for_good_until_readmitted(ledger: Ledger) -> None:
    apply("exit", ledger, steps=2)
    ledger.grant(torch.full((4,), 5.0))
    apply("exit", ledger, steps=1)
    assert ledger.population.bankrupt_A.tolist() == [True, True, False, False]
    ledger.population.set_bankrupt(0, False)
    apply("exit", ledger, steps=3)
    assert ledger.population.bankrupt_A.tolist() == [False, True, False, False]


def test_one_good_step_restores_patience(ledger: Ledger) -> None:
    apply("exit", ledger, steps=1)
    ledger.grant(torch.tensor([2.0, 0.0, 0.0, 0.0]))
    apply("exit", ledger, steps=1)
    ledger.confiscate(torch.tensor([2.0, 0.0, 0.0, 0.0]))
    apply("exit", ledger, steps=1)
    assert ledger.population.poor_steps_A[0] == 1
    assert ledger.population.bankrupt_A.tolist() == [False, True, False, False]


def test_bailout_lifts_to_the_threshold(ledger: Ledger) -> None:
    apply("bailout", ledger, steps=2)
    assert ledger.wallet_A.tolist() == [2.5, 2.5, 3.0, 4.0]
    assert ledger.treasury == 0.0
    assert ledger.population.poor_steps_A.tolist() == [0, 0, 0, 0]
    assert not ledger.population.bankrupt_A.any()
    assert ledger.journal()["bailout"].tolist() == [0.0, 2.0]


def test_bailout_is_bounded_by_the_treasury(ledger: Ledger) -> None:
    ledger.burn(1.0)
    apply("bailout", ledger, steps=2)
    torch.testing.assert_close(
        ledger.wallet_A, torch.tensor([1.75, 2.25, 3.0, 4.0], dtype=torch.float64)
    )
    assert ledger.population.poor_steps_A.tolist() == [0, 0, 0, 0]


def test_none_only_counts(ledger: Ledger) -> None:
    apply("none", ledger, steps=5)
    assert ledger.wallet_A.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert ledger.population.poor_steps_A.tolist() == [5, 5, 0, 0]
    assert ledger.population.active_A.all()


def test_muted_agents_do_not_age(ledger: Ledger) -> None:
    ledger.population.mute(0)
    apply("exit", ledger, steps=4)
    assert ledger.population.bankrupt_A.tolist() == [False, True, False, False]


def test_a_step_does_not_touch_the_version(ledger: Ledger) -> None:
    version = ledger.population.version
    apply("exit", ledger, steps=3)
    assert ledger.population.version == version


@pytest.mark.parametrize(
    "options", [{"threshold_credits": -1.0}, {"threshold_credits": float("nan")}, {"patience": 0}]
)
def test_bad_options(options: dict[str, float]) -> None:
    with pytest.raises(EconomyError, match="bankruptcy"):
        BANKRUPTCY_RULES.get("exit")(**options)


def test_rules_are_found_by_name() -> None:
    assert {"bailout", "exit", "none"} <= set(BANKRUPTCY_RULES.members())
