"""An economy that was saved is the same economy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from models import BLOCK_SIZE, N_HEADS, tiny_batch, tiny_model

from agent_economy.config import MechanismConfig
from agent_economy.economy import Economy
from agent_economy.errors import EconomyError
from agent_economy.policies import Features, Policy
from agent_economy.policies.constant import ConstantPolicy
from agent_economy.policies.random import RandomPolicy
from agent_economy.policies.taylor import TaylorPolicy


def squared(output: object, batch: object, generator: torch.Generator) -> torch.Tensor:
    return output.last_hidden_state.square().sum()  # type: ignore[attr-defined]


def founded(**changes: object) -> Economy:
    settings = {"policy": {"name": "random"}, "budget_fraction": 0.5, "block_size": BLOCK_SIZE}
    return Economy.from_model(tiny_model("bert"), **{**settings, **changes})  # type: ignore[arg-type]


def assert_same_economy(one: Economy, other: Economy) -> None:
    """The same state now, and the same outputs, prices and wallets after two more forwards."""
    for seed in (11, 12):
        mine, theirs = one.economy_state(), other.economy_state()
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
        batch = tiny_batch(seed=seed)
        left, right = one(**batch), other(**batch)
        assert torch.equal(left[0], right[0])
        assert torch.equal(left.receipt.price_YBL, right.receipt.price_YBL)
        assert left.receipt.spend_flops == right.receipt.spend_flops


@torch.no_grad()
def test_everything_that_was_changed_comes_back(tmp_path: Path) -> None:
    economy = founded(policy={"name": "taylor", "options": {"floor": 0.2}})
    with torch.enable_grad():
        economy.calibrate([tiny_batch(seed=5)], squared)
    economy.set_mechanism(MechanismConfig(name="posted_price"))
    economy.population.mute([1, 9])
    economy.population.set_tax_rate(slice(0, 3), 0.1)
    economy.population.assign_policy(economy.population.rows(1), ConstantPolicy(credits=2.5))
    economy.population.assign_policy([4, 15], RandomPolicy(seed=7))
    economy.population.assign_policy(6, None)
    economy.market.budget_fraction = 0.35
    for seed in range(3):
        economy(**tiny_batch(seed=seed))
    economy.save_pretrained(tmp_path)
    again = Economy.from_pretrained(tmp_path)
    assert [type(p).__name__ for p in again.policies] == [
        "TaylorPolicy",
        "ConstantPolicy",
        "RandomPolicy",
    ]
    assert again.policies[0].options == economy.policies[0].options
    assert again.market.mechanism.name == "posted_price"
    assert again.market.budget_fraction == 0.35
    assert_same_economy(economy, again)


@pytest.mark.parametrize("head", ["none", "classify", "lm"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_the_model_comes_back_with_its_head_and_attention(
    tmp_path: Path, head: str, attention: str
) -> None:
    model = tiny_model("bert", head, attention=attention)  # type: ignore[arg-type]
    economy = Economy.from_model(model, block_size=BLOCK_SIZE, policy={"name": "constant"})
    economy.save_pretrained(tmp_path)
    again = Economy.from_pretrained(tmp_path)
    assert type(again.model) is type(model)
    assert again.model.config._attn_implementation == attention
    assert_same_economy(economy, again)


def test_soft_gates_stay_soft(tmp_path: Path) -> None:
    economy = founded()
    economy.market.temperature = 3e4
    economy.save_pretrained(tmp_path)
    again = Economy.from_pretrained(tmp_path)
    with torch.no_grad():
        assert_same_economy(economy, again)
        allocation = again(**tiny_batch()).receipt.allocation_BLN(0)
    assert ((allocation > 0.01) & (allocation < 0.99)).any()


def test_uncalibrated_stays_uncalibrated(tmp_path: Path) -> None:
    founded(policy={"name": "taylor"}).save_pretrained(tmp_path)
    again = Economy.from_pretrained(tmp_path)
    with pytest.raises(EconomyError, match="not calibrated"):
        again(**tiny_batch())


def test_into_a_given_model(tmp_path: Path) -> None:
    economy = founded()
    economy.save_pretrained(tmp_path)
    given = tiny_model("bert", seed=3)
    assert Economy.from_pretrained(tmp_path, given).model is given


def test_refuses_another_models_agents(tmp_path: Path) -> None:
    founded().save_pretrained(tmp_path)
    smaller = tiny_model("bert")
    del smaller.encoder.layer[2]
    with pytest.raises(EconomyError, match=r"has 21 agents, the model 14"):
        Economy.from_pretrained(tmp_path, smaller)


class HomeMade(Policy):
    def bid(self, features: Features) -> torch.Tensor:
        return features.hidden_BLD.new_ones(*features.hidden_BLD.shape[:2], len(features.agents_N))


class Heir(ConstantPolicy):
    """Has its parent's name, but is another policy."""


def test_refuses_a_policy_that_could_not_be_made_again(tmp_path: Path) -> None:
    for policy in (HomeMade(), Heir()):
        economy = founded()
        economy.population.assign_policy(slice(0, N_HEADS), policy)
        with pytest.raises(EconomyError, match="not registered"):
            economy.save_pretrained(tmp_path / "new")
        assert not (tmp_path / "new").exists(), "half-written"


def test_refuses_options_that_are_hidden(tmp_path: Path) -> None:
    economy = founded(policy={"name": "constant"})
    del economy.policies[0].credits
    with pytest.raises(EconomyError, match="attribute of the same name"):
        economy.save_pretrained(tmp_path)


def test_a_folder_without_an_economy(tmp_path: Path) -> None:
    with pytest.raises(EconomyError, match="holds no economy"):
        Economy.from_pretrained(tmp_path)


@pytest.mark.parametrize("text", ["{", "{}", '{"config": {}, "policies": [{"title": 1}]}'])
def test_a_damaged_economy(tmp_path: Path, text: str) -> None:
    founded().save_pretrained(tmp_path)
    (tmp_path / "economy.json").write_text(text)
    with pytest.raises(EconomyError, match="damaged") as error:
        Economy.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)


@torch.no_grad()
def test_trying_is_forgotten() -> None:
    economy = founded(mechanism={"name": "posted_price"})
    for seed in range(2):
        economy(**tiny_batch(seed=seed))
    before = {key: value.clone() for key, value in economy.economy_state().items()}
    policies, config = list(economy.policies), economy.config
    with economy.trying():
        for seed in range(3):
            economy(**tiny_batch(seed=seed))
        assert economy.market.step == 5
        economy.set_policy(ConstantPolicy())
        economy.set_mechanism(MechanismConfig(name="uniform"))
        economy.population.mute(0)
        economy(**tiny_batch())
    after = economy.economy_state()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert economy.policies == policies
    assert economy.config == config
    assert economy.market.mechanism.name == "posted_price"
    economy(**tiny_batch())


def test_trying_before_calibration() -> None:
    economy = founded(policy={"name": "taylor"}, budget_fraction=1.0)
    with torch.no_grad(), economy.trying():
        economy(**tiny_batch())
    assert isinstance(economy.policies[0], TaylorPolicy)
