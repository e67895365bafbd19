"""Members are found by name, and unknown names are mended."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint

import pytest

from agent_economy import registry as registry_module
from agent_economy.adapters import ADAPTERS
from agent_economy.agents.bankruptcy import BANKRUPTCY_RULES
from agent_economy.agents.income import INCOME_RULES
from agent_economy.config import Named
from agent_economy.errors import EconomyError
from agent_economy.mechanisms import MECHANISMS
from agent_economy.policies import POLICIES, Policy
from agent_economy.policies.constant import ConstantPolicy
from agent_economy.policies.readout import ReadoutPolicy
from agent_economy.registry import Registry, build


@pytest.mark.parametrize(
    ("registry", "names"),
    [
        (ADAPTERS, {"bert", "roberta", "distilbert", "mpnet", "gpt2", "llama"}),
        (POLICIES, {"taylor", "fisher", "activation_norm", "constant", "random"}),
        (
            MECHANISMS,
            {"uniform_price", "greedy_density", "posted_price", "token_top_k", "uniform"},
        ),
        (INCOME_RULES, {"flat", "revenue", "contribution"}),
        (BANKRUPTCY_RULES, {"none", "exit", "bailout"}),
    ],
)
def test_every_member_is_there(registry: Registry[object], names: set[str]) -> None:
    assert names <= registry.members().keys()
    for name in names:
        assert registry.get(name).name == name  # type: ignore[attr-defined]


def test_abstract_parents_are_no_members() -> None:
    members = POLICIES.members()
    assert issubclass(members["taylor"], ReadoutPolicy)
    assert all("name" in vars(member) for member in members.values())
    assert ReadoutPolicy not in members.values()


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(EconomyError, match=r"unknown policy 'tailor'; did you mean 'taylor'\?"):
        POLICIES.get("tailor")


def test_another_package_adds_a_member(monkeypatch: pytest.MonkeyPatch) -> None:
    def points(group: str) -> list[EntryPoint]:
        here = EntryPoint("thrifty", f"{__name__}:register", group)
        return [here] if group == "agent_economy.policies" else []

    monkeypatch.setattr(registry_module, "entry_points", points)
    monkeypatch.setattr(EntryPoint, "load", lambda self: register())
    fresh: Registry[Policy] = Registry("policy", "agent_economy.policies", Policy)
    assert fresh.get("thrifty_of_the_test")().credits == 0.5  # type: ignore[attr-defined]


def register() -> Callable[[], Policy]:
    class Thrifty(ConstantPolicy):
        name = "thrifty_of_the_test"

        def __init__(self, seed: int = 0) -> None:
            super().__init__(seed, 0.5)

    return Thrifty


def test_build_passes_options() -> None:
    policy = build(POLICIES, Named(name="constant", options={"credits": 3.0}), seed=4)
    assert policy.options == {"seed": 4, "credits": 3.0}


def test_build_names_the_wrong_option() -> None:
    with pytest.raises(EconomyError, match=r"policy 'constant' does not take.*credit_limit"):
        build(POLICIES, Named(name="constant", options={"credit_limit": 3.0}))
