"""Scenarios are found through entry points, by name."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest
from counting import Counting

from agent_economy.errors import EconomyError
from agent_economy.runs import scenario as module
from agent_economy.runs.scenario import GROUP, all_scenarios, find_scenario, scenario_names


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    points = [EntryPoint("counting", "counting:Counting", GROUP)]
    monkeypatch.setattr(module, "entry_points", lambda group: points if group == GROUP else [])
    return points


def test_names_and_members() -> None:
    assert scenario_names() == ["counting"]
    assert isinstance(find_scenario("counting"), Counting)
    assert [scenario.summary for scenario in all_scenarios()] == [Counting.summary]


def test_a_slip_gets_the_nearest_name() -> None:
    with pytest.raises(EconomyError, match="unknown scenario 'countng'; did you mean 'counting'"):
        find_scenario("countng")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_module:X", "does not load: No module named"),
        ("counting:Nope", "does not load: .*Nope"),
        ("counting:Config", "is not a Scenario"),
    ],
)
def test_a_broken_package_is_named(installed: list[Any], value: str, message: str) -> None:
    installed.append(EntryPoint("broken", value, GROUP))
    with pytest.raises(EconomyError, match=message):
        find_scenario("broken")
