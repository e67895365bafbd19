"""Rows, names, activity, policies and the saved state of a population."""

from __future__ import annotations

import pytest
import torch

from agent_economy.agents.population import NO_POLICY, AgentKind, Population
from agent_economy.errors import EconomyError


@pytest.fixture
def population() -> Population:
    return Population(layers=3, heads=2, blocks=3)


def test_rows_are_layer_major_with_heads_first(population: Population) -> None:
    assert len(population) == population.size == 15
    assert population.layer_A.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert population.index_A.tolist() == [0, 1, 0, 1, 2] * 3
    head, block = AgentKind.HEAD, AgentKind.BLOCK
    assert population.kind_A.tolist() == [head, head, block, block, block] * 3
    assert population.layer_A[population.rows(1)].unique().tolist() == [1]
    for name in ("layer_A", "index_A", "kind_A", "policy_A"):
        assert getattr(population, name).dtype == torch.int64
    for name in ("tax_rate_A", "payment_A", "income_A", "served_A", "contribution_A"):
        assert getattr(population, name).dtype == torch.float64


def test_names(population: Population) -> None:
    assert Population(3, 12, 4).name(2 * 16 + 7) == "L2 head 7"
    assert population.names()[:6] == [
        "L0 head 0",
        "L0 head 1",
        "L0 block 0",
        "L0 block 1",
        "L0 block 2",
        "L1 head 0",
    ]


@pytest.mark.parametrize("shape", [(0, 2, 2), (2, 0, 0), (2, -1, 3)])
def test_no_agents_is_an_error(shape: tuple[int, int, int]) -> None:
    with pytest.raises(EconomyError, match="no agents"):
        Population(*shape)


def test_by_layer_shares_memory(population: Population) -> None:
    population.by_layer(population.served_A)[2, 1] = 4.0
    assert population.served_A[11] == 4.0


@pytest.mark.parametrize(
    "rows", [3, slice(3, 4), [3], torch.tensor([3]), torch.arange(15) == 3], ids=repr
)
def test_every_kind_of_selection(population: Population, rows: object) -> None:
    population.mute(rows)  # type: ignore[arg-type]
    population.set_tax_rate(rows, 0.25)  # type: ignore[arg-type]
    assert population.muted_A.nonzero().tolist() == [[3]]
    assert population.tax_rate_A.tolist() == [0.0] * 3 + [0.25] + [0.0] * 11


def test_active_is_neither_muted_nor_bankrupt(population: Population) -> None:
    population.mute([0, 1])
    population.set_bankrupt([1, 2])
    assert population.active_A.tolist() == [False] * 3 + [True] * 12
    population.mute(0, False)
    population.set_bankrupt(2, False)
    assert population.active_A.tolist() == [True, False] + [True] * 13


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_tax_rate_outside_its_range(population: Population, rate: float) -> None:
    with pytest.raises(EconomyError, match="tax rate"):
        population.set_tax_rate(0, rate)
    assert population.version == 0


def test_every_change_bumps_the_version(population: Population) -> None:
    changes = [
        lambda: population.mute(0),
        lambda: population.set_bankrupt(0),
        lambda: population.set_tax_rate(0, 0.1),
        lambda: population.assign_policy(0, "a"),
        lambda: population.load_state_dict(population.state_dict()),
    ]
    for expected, change in enumerate(changes, start=1):
        change()
        assert population.version == expected
    population.record(torch.ones(15), torch.ones(15))
    assert population.version == expected  # a step is not a change


class TestPolicies:
    def test_interned_by_identity_not_equality(self, population: Population) -> None:
        first, twin = [1], [1]
        population.assign_policy([0, 2], first)
        population.assign_policy([1], twin)
        population.assign_policy([3], first)
        assert len(population.policies) == 2
        assert population.policy_A[:5].tolist() == [0, 1, 0, 0, NO_POLICY]
        assert population.policy(3) is first and population.policy(4) is None

    def test_unused_policies_are_dropped_and_ids_close_up(self, population: Population) -> None:
        a, b, c = object(), object(), object()
        population.assign_policy(slice(None), a)
        population.assign_policy([1, 6], b)
        population.assign_policy([2], c)
        population.assign_policy(slice(0, 2), c)
        population.assign_policy(6, a)
        assert population.policies == [a, c]
        assert population.policy_A[:4].tolist() == [1, 1, 1, 0]
        population.assign_policy(slice(None), None)
        assert population.policies == []
        assert population.policy_A.unique().tolist() == [NO_POLICY]

    def test_a_policy_given_to_nobody_is_not_kept(self, population: Population) -> None:
        population.assign_policy([], "nobody")
        assert population.policies == []

    def test_groups(self, population: Population) -> None:
        a, b = object(), object()
        population.assign_policy(slice(None), a)
        population.assign_policy([6, 8], b)
        population.assign_policy(9, None)
        population.mute(5)
        [(policy, agents)] = population.policy_groups(0)
        assert policy is a and agents.tolist() == [0, 1, 2, 3, 4]
        groups = [(policy, agents.tolist()) for policy, agents in population.policy_groups(1)]
        assert groups == [(a, [0, 2]), (b, [1, 3])]  # muted row 5 stays: mask its bid
        assert agents.dtype == torch.int64

    def test_groups_are_cached_until_the_version_changes(self, population: Population) -> None:
        assert population.policy_groups(0) == []
        population.assign_policy(slice(None), "a")
        before = population.policy_groups(0)
        population.record(torch.ones(15), torch.ones(15))
        assert population.policy_groups(0) is before
        population.assign_policy(2, "b")
        after = population.policy_groups(0)
        assert after is not before
        assert [policy for policy, _ in after] == ["a", "b"]


class TestState:
    def test_round_trip_keeps_views(self, population: Population) -> None:
        population.assign_policy(slice(0, 4), "a")
        population.assign_policy(2, "b")
        population.mute([1, 7])
        population.set_bankrupt(3)
        population.set_tax_rate(5, 0.5)
        population.record(torch.arange(15.0), torch.arange(15.0) / 2)
        state = population.state_dict()

        other = Population(3, 2, 3)
        other.assign_policy(0, "a")
        other.assign_policy(1, "b")
        view = other.served_A[4:5]
        other.load_state_dict(state)
        for name, saved in state.items():
            assert torch.equal(getattr(other, name), saved), name
        assert view.item() == 4.0
        assert other.policy(2) == "b"

    def test_a_copy(self, population: Population) -> None:
        state = population.state_dict()
        population.mute(0)
        assert not state["muted_A"].any()

    def test_what_does_not_fit_changes_nothing(self, population: Population) -> None:
        population.assign_policy(0, "a")
        state = population.state_dict()
        version = population.version
        with pytest.raises(EconomyError, match=r"shape \(15,\), expected \(14,\)"):
            Population(2, 2, 5).load_state_dict(state)
        with pytest.raises(EconomyError, match="muted_A is missing"):
            population.load_state_dict({"policy_A": state["policy_A"]})
        with pytest.raises(EconomyError, match="uses 2 policies, 1 are assigned"):
            population.load_state_dict(state | {"policy_A": state["policy_A"] + 1})
        assert population.version == version
