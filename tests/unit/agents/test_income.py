"""Each income rule by hand, and what holds for all of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_economy.agents.income import INCOME_RULES, IncomeRule
from agent_economy.errors import EconomyError

ACTIVE = torch.tensor([True, True, False, True])
CONTRIBUTION = torch.tensor([1.0, 0.0, 5.0, 3.0], dtype=torch.float64)
REVENUE = torch.tensor(12.0, dtype=torch.float64)


def income(name: str, contribution: torch.Tensor = CONTRIBUTION, **options: float) -> list[float]:
    rule = INCOME_RULES.get(name)(**options)
    return rule.income(REVENUE, contribution, ACTIVE).tolist()


def test_rules_are_found_by_name() -> None:
    assert {"contribution", "flat", "revenue"} <= set(INCOME_RULES.members())
    with pytest.raises(EconomyError, match=r"unknown income rule 'flatt'; did you mean 'flat'\?"):
        INCOME_RULES.get("flatt")


def test_flat() -> None:
    assert income("flat", credits=2.5) == [2.5, 2.5, 0.0, 2.5]


def test_revenue() -> None:
    assert income("revenue", fraction=0.5) == pytest.approx([2.0, 2.0, 0.0, 2.0])


def test_contribution() -> None:
    assert income("contribution", fraction=0.5) == pytest.approx([1.5, 0.0, 0.0, 4.5])


def test_contribution_ignores_losses() -> None:
    losses = torch.tensor([1.0, -9.0, 0.0, 3.0])
    assert income("contribution", losses) == pytest.approx([3.0, 0.0, 0.0, 9.0])


def test_contribution_without_any_is_equal() -> None:
    assert income("contribution", torch.zeros(4)) == pytest.approx([4.0, 4.0, 0.0, 4.0])


def test_contribution_may_be_tiny() -> None:
    tiny = torch.tensor([5e-324, 0.0, 0.0, 5e-324], dtype=torch.float64)
    assert income("contribution", tiny) == pytest.approx([6.0, 0.0, 0.0, 6.0])


@pytest.mark.parametrize("name", ["flat", "revenue", "contribution"])
def test_nobody_active_gets_nothing(name: str) -> None:
    rule = INCOME_RULES.get(name)()
    due_A = rule.income(REVENUE, CONTRIBUTION, torch.zeros(4, dtype=torch.bool))
    assert due_A.tolist() == [0.0] * 4


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("flat", {"credits": -1.0}),
        ("flat", {"credits": float("nan")}),
        ("revenue", {"fraction": 1.5}),
        ("contribution", {"fraction": -0.5}),
    ],
)
def test_bad_options(name: str, options: dict[str, float]) -> None:
    with pytest.raises(EconomyError, match="income"):
        INCOME_RULES.get(name)(**options)


RULES = st.one_of(
    st.builds(INCOME_RULES.get("flat"), credits=st.floats(0, 10)),
    st.builds(INCOME_RULES.get("revenue"), fraction=st.floats(0, 1)),
    st.builds(INCOME_RULES.get("contribution"), fraction=st.floats(0, 1)),
)


@settings(deadline=None)
@given(rule=RULES, seed=st.integers(0, 2**16), agents=st.integers(1, 12))
def test_equivariant_to_permutation_and_never_negative(
    rule: IncomeRule, seed: int, agents: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    contribution = torch.rand(agents, generator=generator).double()
    active = torch.rand(agents, generator=generator) < 0.7
    order = torch.randperm(agents, generator=generator)
    due = rule.income(REVENUE, contribution, active)
    permuted = rule.income(REVENUE, contribution[order], active[order])
    torch.testing.assert_close(permuted, due[order])
    assert due.dtype == torch.float64 and bool((due >= 0).all())
    assert due[~active].sum() == 0
    if hasattr(rule, "fraction"):
        pot = rule.fraction * 12.0 if active.any() else 0.0
        assert due.sum().item() == pytest.approx(pot)
