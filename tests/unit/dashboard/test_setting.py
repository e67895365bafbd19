"""A study's config, read as one live economy."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from agent_economy.dashboard.setting import Setting, setting_tree
from agent_economy.dashboard.stage import stage_for
from agent_economy.errors import EconomyError
from agent_economy.mechanisms import MECHANISMS
from agent_economy.policies import POLICIES
from agent_economy.runs.scenario import find_scenario, scenario_names


@pytest.mark.parametrize("name", scenario_names())
def test_every_scenario_of_ours_gives_a_live_economy_of_its_own_model(name: str) -> None:
    setting = stage_for(name, None, []).setting
    toml = tomllib.loads(find_scenario(name).default_toml().read_text("utf-8"))
    assert setting is not None
    assert setting.model == toml["model"]
    assert setting.seed == toml["seeds"][0]
    assert setting.mechanism.name in MECHANISMS.members()
    assert setting.policy in POLICIES.members()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            # as endowments writes it
            {
                "supply": 0.3,
                "mean_credits": 300.0,
                "incomes": [{"name": "flat", "options": {"credits": 20.0}}, {"name": "revenue"}],
                "mechanism": {"name": "vcg", "scope": "sequence", "timing": "forward"},
            },
            {
                "supply": 0.3,
                "mechanism.name": "vcg",
                "mechanism.timing": "forward",
                "wallet.endowment_credits": 300.0,
                "wallet.income.name": "flat",
                "wallet.income.options": {"credits": 20.0},
            },
        ),
        (
            # as price_shock writes it
            {"arms": [{"name": "thin", "mechanism": "vcg", "wallet": {"endowment_credits": 5.0}}]},
            {"mechanism.name": "vcg", "wallet.endowment_credits": 5.0},
        ),
        (
            # as scarcity writes it
            {
                "budgets": [1.0, 0.8, 0.45, 0.1],
                "markets": [
                    {"mechanism": "posted_price", "scope": "token", "policies": ["fisher"]}
                ],
                "showcase": "hello",
                "seeds": [7, 8],
            },
            {
                "supply": 0.45,
                "mechanism.name": "posted_price",
                "mechanism.scope": "token",
                "policy": "fisher",
                "sentence": "hello",
                "seed": 7,
            },
        ),
        (
            # as shading writes it: these markets are no mechanisms
            {"markets": ["synthetic", "layer"], "mechanisms": ["first_price"], "policy": "random"},
            {"mechanism.name": "first_price", "policy": "random"},
        ),
        ({}, {"supply": 0.5, "mechanism.name": "uniform_price", "policy": "taylor"}),
    ],
)
def test_the_first_of_what_a_study_varies(config: dict[str, Any], expected: dict[str, Any]) -> None:
    setting = Setting.model_validate(setting_tree({"model": "minilm", **config}))
    found = setting.model_dump()
    for key, value in expected.items():
        here: Any = found
        for part in key.split("."):
            here = here[part]
        assert here == value, key


def test_a_config_without_a_model_gives_none() -> None:
    with pytest.raises(EconomyError, match="names no model"):
        setting_tree({"task": "stsb"})


def test_values_set_by_hand_win_and_leave_their_neighbours() -> None:
    stage = stage_for("endowments", None, ["supply=0.9", "wallet.endowment_credits=7.5"])
    assert stage.setting is not None
    assert stage.setting.supply == 0.9
    assert stage.setting.wallet.endowment_credits == 7.5
    assert stage.setting.wallet.income.name == "revenue"  # the study's own
