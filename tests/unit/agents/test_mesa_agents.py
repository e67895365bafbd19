"""Mesa's idioms on agents that are views onto tensors."""

from __future__ import annotations

import mesa
import pytest
import torch

from agent_economy.agents.ledger import Ledger
from agent_economy.agents.mesa_agents import HeadAgent, NeuronBlockAgent, create_agents
from agent_economy.agents.population import AgentKind, Population
from agent_economy.errors import EconomyError
from agent_economy.policies.constant import ConstantPolicy
from agent_economy.policies.random import RandomPolicy


class Toy(mesa.Model):
    """Three layers of two heads and three blocks, with 10 credits each."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.population = Population(3, 2, 3)
        self.ledger = Ledger(self.population, 10.0)
        self.ledger.open()
        self.created = create_agents(self, self.population, self.ledger)
        self.datacollector = mesa.DataCollector(
            model_reporters={"credits": lambda model: model.agents.agg("wallet", sum)},
            agent_reporters={"wallet": "wallet"},
        )

    def step(self) -> None:
        self.ledger.pay(torch.ones(15))
        self.datacollector.collect(self)


@pytest.fixture
def model() -> Toy:
    return Toy()


def test_one_agent_per_row_in_order(model: Toy) -> None:
    assert [agent.row for agent in model.agents] == list(range(15))
    assert list(model.created) == list(model.agents)
    assert [agent.name for agent in model.agents] == model.population.names()
    assert model.agents.get("layer") == model.population.layer_A.tolist()
    assert model.agents.get("index") == model.population.index_A.tolist()
    assert model.agents.get("kind") == model.population.kind_A.tolist()


def test_agents_by_type(model: Toy) -> None:
    heads, blocks = model.agents_by_type[HeadAgent], model.agents_by_type[NeuronBlockAgent]
    assert (len(heads), len(blocks)) == (6, 9)
    assert set(heads.get("kind")) == {AgentKind.HEAD}
    assert set(blocks.get("kind")) == {AgentKind.BLOCK}


def test_mute_a_layer(model: Toy) -> None:
    model.agents.select(lambda agent: agent.layer == 2).set("muted", True)
    assert model.population.muted_A.tolist() == [False] * 10 + [True] * 5
    assert model.agents.select(lambda agent: agent.muted).get("layer") == [2] * 5


def test_tax_the_heads(model: Toy) -> None:
    model.agents_by_type[HeadAgent].set("tax_rate", 0.3)
    model.ledger.tax()
    assert model.ledger.wallet_A[:5].tolist() == [7.0, 7.0, 10.0, 10.0, 10.0]


def test_replace_policies(model: Toy) -> None:
    truthful, bold = ConstantPolicy(), RandomPolicy()
    model.agents.set("policy", truthful)
    model.agents.select(agent_type=NeuronBlockAgent).set("policy", bold)
    groups = [(who, agents.tolist()) for who, agents in model.population.policy_groups(1)]
    assert groups == [(truthful, [0, 1]), (bold, [2, 3, 4])]
    model.agents.set("policy", truthful)
    assert model.population.policies == [truthful]
    assert all(agent.policy is truthful for agent in model.agents)


def test_group_and_aggregate(model: Toy) -> None:
    assert model.agents.agg("wallet", sum) == 150.0
    model.agents[7].wallet = 25.0
    assert model.agents.groupby("layer").agg("wallet", max) == {0: 10.0, 1: 25.0, 2: 10.0}


def test_views_share_memory(model: Toy) -> None:
    agent = model.agents[7]
    model.population.served_A[7] = 12.0
    model.population.contribution_A[7] = 0.5
    model.population.bankrupt_A[7] = True
    model.ledger.pay(torch.arange(15.0) / 10)
    model.ledger.pay_income(torch.arange(15.0) / 100)
    assert (agent.served, agent.contribution, agent.bankrupt) == (12.0, 0.5, True)
    assert agent.payment == pytest.approx(0.7)
    assert agent.income == pytest.approx(0.07)
    assert agent.wallet == pytest.approx(10.0 - 0.7 + 0.07)
    agent.bankrupt = False
    assert not model.population.bankrupt_A.any()


def test_setting_a_wallet_conserves_credits(model: Toy) -> None:
    first, second = model.agents[0], model.agents[1]
    first.wallet = 3.0
    assert (first.wallet, model.ledger.treasury.item()) == (3.0, 7.0)
    second.wallet = 20.0  # 7 from the treasury, 3 minted
    assert (second.wallet, model.ledger.issued.item()) == (20.0, 153.0)
    model.ledger.check()
    model.ledger.close_step()
    journal = model.ledger.journal().iloc[0]
    assert (journal["confiscation"], journal["grant"], journal["mint"]) == (7.0, 10.0, 153.0)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("wallet", -1.0), ("wallet", float("nan")), ("tax_rate", 1.5), ("tax_rate", -0.1)],
)
def test_bad_values(model: Toy, attribute: str, value: float) -> None:
    with pytest.raises(EconomyError, match=rf"{attribute[:3]}.* is {value}; give"):
        model.agents.set(attribute, value)
    assert model.agents.agg("wallet", sum) == 150.0


def test_what_only_a_step_may_write_is_read_only(model: Toy) -> None:
    for attribute in ("payment", "income", "served", "contribution"):
        with pytest.raises(AttributeError):
            model.agents.set(attribute, 1.0)


def test_data_collector(model: Toy) -> None:
    for _ in range(3):
        model.step()
    assert model.datacollector.get_model_vars_dataframe()["credits"].tolist() == [135, 120, 105]
    wallets = model.datacollector.get_agent_vars_dataframe()["wallet"]
    assert wallets.xs(3, level="Step").tolist() == [7.0] * 15


def test_removing_a_mesa_agent_leaves_the_row(model: Toy) -> None:
    model.agents[0].remove()
    assert len(model.agents) == 14
    assert model.ledger.wallet_A[0] == 10.0


def test_shuffles_follow_the_seed() -> None:
    orders = [Toy(seed).agents.shuffle().get("row") for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_what_cannot_bid_is_no_policy(model: Toy) -> None:
    with pytest.raises(EconomyError, match="no policy"):
        model.agents.set("policy", "fisher")
