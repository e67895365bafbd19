"""The valuation study on a tiny random BERT over real text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from models import write_tiny
from transformers import BertModel, LlamaConfig, LlamaForCausalLM

from agent_economy.costs.tariff import Tariff
from agent_economy.errors import EconomyError
from agent_economy.runs.reader import Run
from agent_economy.runs.runner import execute
from agent_economy.testing.markets import make_tariff
from agent_economy.testing.mechanism_contract import flops_spent
from simulations.valuation import SCENARIO
from simulations.valuation import shadow_price as prices
from simulations.valuation.allocations import FAMILIES, halves
from simulations.valuation.cell import closed_value_B, spent_B
from simulations.valuation.config import ValuationConfig
from simulations.valuation.session import Session
from simulations.valuation.unions import _without


@pytest.fixture(scope="module")
def study(tiny_folder: str) -> ValuationConfig:
    return ValuationConfig.model_validate(
        {
            "model": tiny_folder,
            "rows": 4,
            "batch_size": 2,
            "max_tokens": 16,
            "calibration_texts": 4,
            "block_size": 32,
            "policies": ["fisher", "constant"],
            "budgets": [0.8, 0.4],
            "price_budgets": [0.7, 0.4],
            "unions": [2, 3],
            "seeds": [0],
        }
    )


@pytest.fixture(scope="module")
def run(study: ValuationConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(execute(SCENARIO, study, tmp_path_factory.mktemp("runs") / "one", False))


@pytest.fixture(scope="module")
def session(study: ValuationConfig) -> Session:
    return Session(study, lambda *words, **fields: None)


def tariff(group: int) -> Tariff:
    generator = np.random.default_rng(3)
    return make_tariff(generator, [6, 4, 6], columns=1, units=3, group=group, blocks=4)


# --- random allocations ----------------------------------------------------------------------


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_random_allocations_spend_their_supply(family: str, group: int, fraction: float) -> None:
    price_list = tariff(group)
    supply_B = (price_list.dense_flops_BL.sum(1) * fraction).long()
    gates = FAMILIES[family](price_list, supply_B, torch.Generator().manual_seed(1))
    assert not gates[~price_list.mask_BL].any()
    told = {"tariff": price_list, "mask_BL": price_list.mask_BL}
    market: Any = type("Market", (), {**told, "context_B1": price_list.length_B[:, None]})
    own_BL, fee_B = flops_spent(market, gates.long())
    spent = torch.from_numpy(own_BL.sum(1) + fee_B)
    assert torch.equal(spent, spent_B(price_list, gates))
    assert (spent <= supply_B).all()
    # No more is left over than the dearest thing that could have been bought.
    whole_B = price_list.served_flops_BN.amax(1) + price_list.setup_flops_BU.amax(1) * group
    dearest_B = whole_B if family == "random_agents" else price_list.token_flops_BNL.amax((1, 2))
    if family == "random_agents" or fraction > 0.1:
        assert (supply_B - spent <= dearest_B * (group + 1)).all()


def test_whole_agents_serve_everything_or_nothing() -> None:
    price_list = tariff(2)
    supply_B = (price_list.dense_flops_BL.sum(1) * 0.6).long()
    gates = FAMILIES["random_agents"](price_list, supply_B, torch.Generator().manual_seed(2))
    served_BN = gates.sum(1)
    length_B1 = price_list.length_B[:, None]
    assert ((served_BN == 0) | (served_BN == length_B1)).all()
    assert (served_BN[:, 0:6:2] == served_BN[:, 1:6:2]).all()  # a unit's agents together


def test_halves_share_the_closings_out() -> None:
    gate_BLN = torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(0)) < 0.5
    (one,), (other,) = halves([gate_BLN], torch.Generator().manual_seed(1))
    assert torch.equal(one & other, gate_BLN)
    assert (one | other).all()
    assert not torch.equal(one, gate_BLN) and not torch.equal(other, gate_BLN)
    by_agent = (one == gate_BLN).all(1) | one.all(1)
    assert by_agent.all()


# --- allocations -----------------------------------------------------------------------------


def test_measured_is_what_the_economy_itself_lost(run: Run, session: Session) -> None:
    """Losses by replaying gates against the output of the economy that made them."""
    table = run.table("allocations_measured")
    for budget in (0.8, 0.4):
        economy = session.economy(budget, 0)
        economy.set_policy(session.policy("fisher", 0))
        for dense in session.dense(0):
            with torch.no_grad():
                output = economy(**dense.batch)
            loss_B = session.utility.row_loss(output, dense.batch, dense.reference)
            found = table.query("policy == 'fisher' and family == 'market'")
            found = found[found.budget_fraction == budget]
            found = found[found.row.between(dense.first_row, dense.first_row + 1)]
            assert found.measured_change.tolist() == pytest.approx(loss_B.tolist(), abs=1e-6)
            receipt = output.receipt
            fraction = (receipt.spend_flops - receipt.market_flops) / receipt.dense_flops
            assert found.flops_fraction.mean() == pytest.approx(fraction, rel=1e-6)


def test_equal_bids_predict_the_number_of_closed_pairs(run: Run) -> None:
    table = run.table("allocations_measured").query("policy == 'constant'")
    pairs = table.tokens * (4 + 3) * 2
    assert (table.predicted_credits - table.closed_share * pairs).abs().max() < 1e-4
    own = table.query("family == 'market'")
    assert (own.predicted_credits - own.declared_credits).abs().max() < 1e-4


def test_predicted_value_is_added_up_one_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    bids = [torch.rand(2, 3, 4, generator=generator) for _ in range(2)]
    gates = [torch.rand(2, 3, 4, generator=generator) < 0.5 for _ in range(2)]
    mask_BL = torch.tensor([[True, True, True], [True, True, False]])
    expected = [
        sum(
            float(bid[row, token, n])
            for bid, gate in zip(bids, gates, strict=True)
            for token in range(3)
            for n in range(4)
            if mask_BL[row, token] and not gate[row, token, n]
        )
        for row in range(2)
    ]
    assert closed_value_B(bids, gates, mask_BL).tolist() == pytest.approx(expected)


def test_families_are_the_same_for_all_policies_and_keep_to_supply(run: Run) -> None:
    table = run.table("allocations_measured")
    random = table[table.family != "market"]
    by_policy = [part.reset_index(drop=True) for _, part in random.groupby("policy", sort=False)]
    for column in ("measured_change", "parts_change", "flops_fraction"):
        assert by_policy[0][column].equals(by_policy[1][column])
    assert (table.flops_fraction <= table.budget_fraction + 1e-9).all()
    market = table[table.family == "market"].groupby("budget_fraction").flops_fraction.mean()
    tokens = table[table.family == "random_tokens"].groupby("budget_fraction").flops_fraction.mean()
    assert (abs(tokens - market) < 0.05).all()


def test_every_policy_judges_every_market(run: Run) -> None:
    judged, own = run.table("allocations_judged"), run.table("allocations_measured")
    assert len(judged) == 2 * 2 * 2 * 4  # makers, judges, budgets, rows
    own = own[own.family == "market"]
    keys = ["policy", "budget_fraction", "row"]
    mine = judged[judged.judge == judged.policy].merge(own, on=keys, suffixes=("", "_own"))
    assert len(mine) == len(own)
    assert (mine.predicted_credits - mine.predicted_credits_own).abs().max() < 1e-9
    assert (mine.measured_change == mine.measured_change_own).all()
    # Equal bids count pairs, whoever closed them.
    counted = judged[(judged.policy == "fisher") & (judged.judge == "constant")]
    counted = counted.merge(own[own.policy == "fisher"], on=keys[1:], suffixes=("", "_own"))
    pairs = counted.closed_share * counted.tokens * (4 + 3) * 2
    assert (counted.predicted_credits - pairs).abs().max() < 1e-4


# --- prices and unions -----------------------------------------------------------------------


def test_the_price_is_the_slope_of_optimal_welfare(run: Run) -> None:
    checks = run.table("price_checks").groupby(["policy", "layer", "budget_fraction"])
    means = checks[["price", "finite_difference"]].mean()
    assert (means.price > 0).all()
    assert (means.finite_difference / means.price - 1).abs().max() < 0.01


def test_a_price_that_is_no_slope_stops_the_study() -> None:
    rows = [{"layer": 0, "budget_fraction": 0.5, "price": 2.0, "finite_difference": 2.01}]
    prices._refuse(pd.DataFrame(rows), "taylor")
    rows.append({"layer": 1, "budget_fraction": 0.5, "price": 2.0, "finite_difference": 2.1})
    with pytest.raises(EconomyError, match=r"taylor bids in layer 1 at 0\.5 supply is 5\.0% off"):
        prices._refuse(pd.DataFrame(rows), "taylor")


def test_steps_between_budgets_add_up_to_the_whole_way(run: Run, session: Session) -> None:
    table = run.table("shadow_prices").query("policy == 'fisher'")
    dense = session.dense(0)[0]
    bids = session.bids(session.policy("fisher", 0), dense)
    cleared = [prices.clear(bid, dense.tariff, 0.4) for bid in bids]
    for layer in (0, 1, prices.ALL_LAYERS):
        scarce = [0, 1] if layer == prices.ALL_LAYERS else [layer]
        gates = prices._gates(dense, cleared, scarce)
        part = table[(table.layer == layer) & (table.row < 2)].groupby("row")
        expected = session.change_B(dense, gates)
        assert part.loss_change.sum().tolist() == pytest.approx(expected.tolist(), abs=1e-9)
        full_B = dense.tariff.dense_flops_BL.sum(1)
        saved_B = sum(full_B - cleared[each].spent_B for each in scarce) / 1e9
        assert part.saved_gflops.sum().tolist() == pytest.approx(saved_B.tolist())


def test_closed_agents_are_as_good_as_gone(run: Run, session: Session) -> None:
    """Unions against a model whose output weights of those agents are zero."""
    unions = run.table("unions")
    assert set(unions.kind) == {"heads", "blocks", "heads_and_blocks", "heads_of_one_layer"}
    closed = [(0, 1), (1, 2), (1, 5)]  # two heads of 8 dimensions, the second block of 32 neurons
    dense = session.dense(0)[0]
    change_B = session.change_B(dense, _without(session, dense, closed))
    sites = session.adapter.sites
    weights = [
        (sites[0].attention_output.weight, slice(8, 16)),
        (sites[1].attention_output.weight, slice(16, 24)),
        (sites[1].ffn_output.weight, slice(32, 64)),
    ]
    kept = [(weight, columns, weight[:, columns].clone()) for weight, columns in weights]
    with torch.no_grad():
        for weight, columns in weights:
            weight[:, columns] = 0
        output = session.model(**dense.batch)
        for weight, columns, value in kept:
            weight[:, columns] = value
    loss_B = session.utility.row_loss(output, dense.batch, dense.reference)
    assert change_B.tolist() == pytest.approx(loss_B.tolist(), abs=1e-6)
    assert change_B.min() > 1e-4


# --- the run ---------------------------------------------------------------------------------


def test_same_seed_same_bytes(run: Run, study: ValuationConfig, tmp_path: Path) -> None:
    again = execute(SCENARIO, study, tmp_path / "two", False)
    assert run.tables
    for name in run.tables:
        one, other = run.path / f"{name}.parquet", again / f"{name}.parquet"
        assert one.read_bytes() == other.read_bytes(), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policies": ["tailor"]}, "did you mean 'taylor'"),
        ({"budgets": [0.5, 0.5]}, "repeats a value"),
        ({"mechanism": "uniform_prize"}, "did you mean 'uniform_price'"),
        ({"model": "minilmm"}, "minilm"),
    ],
)
def test_bad_configs_are_one_line(
    study: ValuationConfig, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    config = ValuationConfig.model_validate({**study.model_dump(), **change})
    with pytest.raises(EconomyError) as caught:
        execute(SCENARIO, config, tmp_path / "bad", False)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "bad").exists()


@pytest.fixture(scope="module")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two layers; query heads share keys and values in pairs, costs grow along a row."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    write_tiny(folder, BertModel)  # for the tokenizer; the model is written over
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
    return str(folder)


def test_a_decoder_under_a_causal_mechanism(tiny_llama: str, tmp_path: Path) -> None:
    config = ValuationConfig.model_validate(
        {
            "model": tiny_llama,
            "mechanism": "posted_price",
            "warm_up": 1,
            "rows": 2,
            "batch_size": 2,
            "max_tokens": 12,
            "calibration_texts": 4,
            "block_size": 40,
            "policies": ["taylor"],
            "budgets": [0.7],
            "price_budgets": [0.6],
            "unions": [2],
            "seeds": [0],
        }
    )
    run = Run(execute(SCENARIO, config, tmp_path / "run", False))
    table = run.table("allocations_measured")
    assert set(table.family) == {"market", *FAMILIES}
    assert (table.flops_fraction <= 0.7 + 1e-9).all() and (table.measured_change > 0).all()
    units = run.table("metrics").set_index("metric").unit
    assert set(units["measured_change"]) == {"nats per token"}
    refused = ValuationConfig.model_validate({**config.model_dump(), "mechanism": "uniform_price"})
    with pytest.raises(EconomyError, match="is a decoder; choose a causal one"):
        execute(SCENARIO, refused, tmp_path / "refused", False)
