"""The page's Mesa model: stepped, steered and read, without a page."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from models import write_tiny
from transformers import BertModel, LlamaConfig, LlamaForCausalLM

from agent_economy.dashboard.live import LiveEconomy
from agent_economy.dashboard.setting import Setting
from agent_economy.dashboard.workshop import Workshop
from agent_economy.errors import EconomyError


def test_a_step_moves_credits_prices_and_steps(workshop: Workshop) -> None:
    live = LiveEconomy(workshop)
    before = live.wallet_YN
    for _ in range(3):
        live.step()
    assert live.steps == 3 and live.history("step") == [1, 2, 3]
    assert len(live.history("price_Y")) == 3 and live.history("price_Y")[0].shape == (2,)
    assert (live.history("price_Y")[-1] > 0).all()
    assert not np.array_equal(before, live.wallet_YN)
    live.economy.ledger.check()
    assert 0 < live.served_YN.mean() < 1
    assert live.history("gini")[-1] == pytest.approx(live.gini)


def test_the_sentence_is_served_as_a_forward_of_its_own_would_be(workshop: Workshop) -> None:
    live = LiveEconomy(workshop)
    live.step()
    batch = workshop.encode(live.sentence)
    with torch.no_grad():
        output = live.economy(**batch)  # the same market, but for real
    for layer in range(2):
        served = output.receipt.allocation_BLN(layer)[0].numpy()
        assert np.array_equal(live.reading.bought_YLN[layer], served)
    assert live.reading.flops_fraction == output.receipt.flops_fraction
    assert live.reading.paid_YLN.sum() == pytest.approx(
        float(live.economy.population.payment_A.sum()), rel=1e-5
    )


def test_reading_costs_nobody_anything(workshop: Workshop) -> None:
    live = LiveEconomy(workshop)
    live.step()
    before = live.wallet_YN
    state = {key: value.clone() for key, value in live.economy.economy_state().items()}
    live.read("another sentence, quite unlike it")
    assert np.array_equal(before, live.wallet_YN)
    after = live.economy.economy_state()
    assert after.keys() == state.keys()
    assert all(torch.equal(state[key], after[key]) for key in state)
    assert live.reading.tokens != LiveEconomy(workshop).reading.tokens


def test_at_full_supply_nothing_is_lost_and_less_supply_loses(workshop: Workshop) -> None:
    live = LiveEconomy(workshop, supply=1.0)
    assert live.reading.bought_share == 1.0
    assert live.reading.comparison is not None
    assert live.reading.comparison.value == pytest.approx(1.0, abs=1e-6)
    rows = live.reading.comparison.rows
    assert rows and all(row[0] == row[2] for row in rows)  # the same neighbours
    live.change(supply=0.2)
    assert live.reading.flops_fraction <= 0.2
    assert live.reading.comparison.value < 1 - 1e-4


def test_the_cosine_is_that_of_pooled_outputs(workshop: Workshop) -> None:
    live = LiveEconomy(workshop, supply=0.3)
    batch = workshop.encode(live.sentence)
    with torch.no_grad():
        dense = workshop.model(**batch).last_hidden_state[0].mean(0)
        scarce = live.economy(**batch).last_hidden_state[0].mean(0)
    expected = float(torch.cosine_similarity(dense, scarce, dim=0))
    assert live.reading.comparison is not None
    assert live.reading.comparison.value == pytest.approx(expected, abs=1e-6)


def test_terms_change_while_it_runs(workshop: Workshop) -> None:
    live = LiveEconomy(workshop, income="flat")
    live.step()
    income = live.economy.population.income_A
    assert np.allclose(income, 1.0)  # a basic income of one credit
    wallets = live.wallet_YN
    live.change(income="revenue", mechanism="greedy_density", policy="random", supply=0.4)
    assert np.array_equal(wallets, live.wallet_YN)  # nothing was paid for the change
    live.step()
    assert np.allclose(income, income.mean()) and not np.allclose(income, 1.0)
    assert float(income.sum()) == pytest.approx(float(live.economy.population.payment_A.sum()))
    assert live.economy.config.mechanism.name == "greedy_density"
    assert [policy.name for policy in live.economy.policies] == ["random"]
    live.economy.ledger.check()


def test_wages_follow_contributions_whatever_rule_came_first(workshop: Workshop) -> None:
    live = LiveEconomy(workshop, income="flat")
    live.change(income="contribution")
    live.step()
    population = live.economy.population
    paid, worth = population.income_A, population.contribution_A
    assert float(worth.sum()) > 0
    assert torch.allclose(paid / paid.sum(), worth / worth.sum())


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"mechanism": "uniform_prise"}, "did you mean 'uniform_price'"),
        ({"policy": "tailor"}, "did you mean 'taylor'"),
        ({"income": "flatt"}, "did you mean 'flat'"),
        ({"supply": 1.5}, "supply"),
    ],
)
def test_bad_terms_change_nothing(
    workshop: Workshop, terms: dict[str, object], message: str
) -> None:
    live = LiveEconomy(workshop)
    before = live.terms
    with pytest.raises(EconomyError, match=message):
        live.change(**{"policy": "random", "mechanism": "vcg", **terms})
    assert live.terms == before
    assert live.economy.config.mechanism.name == before.mechanism
    assert [policy.name for policy in live.economy.policies] == [before.policy]
    with pytest.raises(EconomyError, match="nothing to read"):
        live.read("  ")


def test_everything_on_offer_runs(workshop: Workshop) -> None:
    live = LiveEconomy(workshop)
    assert {"uniform_price", "vcg", "posted_price", "uniform"} <= set(workshop.mechanisms)
    assert {"taylor", "probe", "bandit"} <= set(workshop.policies)
    for mechanism in workshop.mechanisms:
        live.change(mechanism=mechanism)
        live.step()
    live.change(mechanism="uniform_price")
    for policy in workshop.policies:
        live.change(policy=policy)
        live.step()
    for income in workshop.incomes:
        live.change(income=income)
        live.step()
    live.economy.ledger.check()


def test_two_visitors_do_not_meet_in_the_model(workshop: Workshop) -> None:
    """Gates are hooks on shared modules: steps in two threads must not see each other's."""
    alone = [LiveEconomy(workshop, supply=supply) for supply in (0.3, 0.9)]
    for live in alone:
        for _ in range(4):
            live.step()
    together = [LiveEconomy(workshop, supply=supply) for supply in (0.3, 0.9)]
    threads = [
        threading.Thread(target=lambda live=live: [live.step() for _ in range(4)])
        for live in together
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one.wallet_YN, other.wallet_YN)
        assert one.history("value") == other.history("value")
    assert alone[0].history("value") != alone[1].history("value")  # or nobody could be mixed up


def test_a_language_model_offers_causal_markets_and_says_the_next_token(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("page-llama")
    write_tiny(folder, BertModel)  # for the tokenizer
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=160,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=80,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    setting = {"model": str(folder), "block_size": 32, "calibration_texts": 4, "pool_texts": 4}
    causal = {**setting, "mechanism": {"name": "posted_price"}}
    live = LiveEconomy(Workshop(Setting.model_validate(causal)))
    live.step()
    assert "uniform_price" not in live.workshop.mechanisms
    with pytest.raises(EconomyError, match="looks at later tokens"):
        live.change(mechanism="vcg")
    comparison = live.reading.comparison
    assert comparison is not None and comparison.unit.startswith("KL")
    with torch.no_grad():
        logits = live.workshop.model(**live.workshop.encode(live.sentence)).logits[0, -1]
    best = live.workshop.loaded.tokenizer.decode([int(logits.argmax())])
    assert comparison.rows[0][0] == best
    assert comparison.value > 0
    live.change(supply=1.0)
    assert live.reading.comparison is not None
    assert live.reading.comparison.value == pytest.approx(0.0, abs=1e-6)


def test_a_fresh_economy_starts_with_the_wallets_of_the_setting(workshop: Workshop) -> None:
    live = LiveEconomy(workshop)
    assert (live.wallet_YN == 400.0).all()
    assert len(live.agents) == live.wallet_YN.size  # every head and block is a Mesa agent
