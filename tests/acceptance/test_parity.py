"""Every packaged pretrained model: closed market and full supply change not a bit."""

from __future__ import annotations

import pytest
import torch

from agent_economy import Economy
from agent_economy.errors import EconomyError
from agent_economy.tasks.text import sample_texts
from agent_economy.zoo import load


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("minilm", marks=pytest.mark.minilm),
        pytest.param("mpnet", marks=pytest.mark.slow),
        pytest.param("smollm2", marks=pytest.mark.slow),
    ],
)
@torch.no_grad()
def test_bit_equal(name: str) -> None:
    try:
        loaded = load(name)
    except EconomyError as error:
        pytest.skip(str(error))
    mechanism = {"name": "posted_price" if name == "smollm2" else "uniform_price"}
    texts = sample_texts("python-docs", 4, seed=0)
    batch = dict(
        loaded.tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
    )
    batch = {key: batch[key] for key in ("input_ids", "attention_mask")}
    bare = loaded.model(**batch)[0]
    economy = Economy.from_model(loaded.model, mechanism=mechanism)
    served = economy(**batch)
    assert torch.equal(served[0], bare)
    assert served.receipt.flops_fraction == 1.0
    economy.set_policy(_constant())
    economy.market.budget_fraction = 0.5
    scarce = economy(**batch)
    assert not torch.equal(scarce[0], bare)
    assert 0 < scarce.receipt.flops_fraction <= 0.5
    with economy.closed():
        assert torch.equal(economy(**batch)[0], bare)


def _constant() -> object:
    from agent_economy.config import Named
    from agent_economy.members import build_policy

    return build_policy(Named(name="constant"), 0)
