"""A classifier's last layer is served at its first token alone; everything else reads all."""

from __future__ import annotations

import pytest
import torch
from models import (
    AGENTS,
    BLOCK_SIZE,
    DECODERS,
    FFN,
    HIDDEN,
    LAYERS,
    N_HEADS,
    tiny_batch,
    tiny_model,
)

from agent_economy import Economy
from agent_economy.adapters import adapter_for
from agent_economy.executors.reading import reading_of
from agent_economy.executors.trace import trace
from agent_economy.tasks.utility import LabelledScore

LENGTHS = (11, 7, 4)
ENCODERS = ("bert", "roberta", "distilbert", "mpnet")
K = HIDDEN // N_HEADS


def classifier(architecture: str = "bert", **config: object) -> Economy:
    model = tiny_model(architecture, "classify")
    return Economy.from_model(
        model, block_size=BLOCK_SIZE, **{"policy": {"name": "random"}, **config}
    )


@pytest.mark.parametrize("architecture", [*ENCODERS, *DECODERS])
@pytest.mark.parametrize("head", ["none", "classify", "lm"])
def test_only_encoder_classifiers_are_pooled(architecture: str, head: str) -> None:
    model = tiny_model(architecture, head)  # type: ignore[arg-type]
    model.train()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    random_state = torch.get_rng_state()
    pooled = reading_of(adapter_for(model, BLOCK_SIZE)).pooled
    assert pooled == (head == "classify" and architecture in ENCODERS)
    assert model.training and torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("architecture", ["bert", "mpnet"])
@torch.no_grad()
def test_dense_flops_by_hand(architecture: str) -> None:
    receipt = classifier(architecture)(**tiny_batch(LENGTHS)).receipt
    total = 0
    for length in LENGTHS:
        fees = length * 4 * HIDDEN * HIDDEN  # keys and values
        token = 4 * HIDDEN * HIDDEN + 4 * HIDDEN * length + 4 * HIDDEN * FFN
        total += (LAYERS - 1) * (length * token + fees) + token + fees
    assert receipt.dense_flops == receipt.supply_flops == receipt.spend_flops == total
    assert receipt.allocation_BLN(LAYERS - 1)[:, 1:].sum() == 0


@torch.no_grad()
def test_full_supply_is_the_bare_model() -> None:
    economy, batch = classifier(), tiny_batch(LENGTHS)
    with economy.closed() as model:
        bare = model(**batch).logits
    assert torch.equal(economy(**batch).logits, bare)
    # Without what nobody reads the logits are the same too.
    economy.market.plan_YN = torch.ones(LAYERS, AGENTS, dtype=torch.bool)
    output = economy(**batch)
    torch.testing.assert_close(output.logits, bare)
    assert not output.receipt.allocation_BLN(LAYERS - 1)[:, 1:].any()


@pytest.mark.parametrize(
    ("mechanism", "scope", "timing"),
    [
        ("uniform_price", "sequence", "spot"),
        ("uniform_price", "token", "spot"),
        ("posted_price", "sequence", "spot"),
        ("fisher_market", "sequence", "forward"),
        ("uniform", "sequence", "forward"),
        ("uniform_price", "sequence", "trace"),
        ("proportional_share", "token", "forward"),
        ("vcg", "batch", "forward"),
    ],
)
@torch.no_grad()
def test_nobody_trades_or_is_charged_for_what_is_not_read(
    mechanism: str, scope: str, timing: str
) -> None:
    economy = classifier(mechanism={"name": mechanism, "scope": scope, "timing": timing})
    batch = tiny_batch(LENGTHS)
    real_BL, last = batch["attention_mask"].bool(), LAYERS - 1
    served = 0.0
    for budget in (0.8, 0.5, 0.2, 0.05):
        economy.market.budget_fraction = budget
        receipt = economy(**batch).receipt
        assert not receipt.allocation_BLN(last)[:, 1:].any()
        served += float(receipt.allocation_BLN(last)[:, 0].sum())
        assert not economy.market.bids or not economy.market.bids[last][:, 1:].any()
        tokens = int(real_BL.sum())
        *full_Y, pooled = receipt.market_flops_Y
        assert receipt.market_flops == sum(full_Y) * tokens + pooled * len(LENGTHS)
        spend_B = sum(
            receipt.agent_flops_BLN(y).sum((1, 2)) + receipt.setup_flops_BU(y).sum(1)
            for y in range(LAYERS)
        )
        supply_B = sum(each.sum(1) for each in receipt.supplies)
        if scope == "batch":
            spend_B, supply_B = spend_B.sum(), supply_B.sum()
        assert (spend_B <= supply_B).all()
        assert receipt.flops_fraction <= budget
    assert served > 0


def test_calibration_leaves_out_what_is_not_read() -> None:
    model = tiny_model("bert", "classify")
    batch = tiny_batch(LENGTHS) | {"labels": torch.tensor([0, 2, 1])}
    utility = LabelledScore("accuracy", regression=False)
    measured = trace(adapter_for(model, BLOCK_SIZE), [batch], utility.loss, probes=1)
    assert all(layer.served() is layer for layer in measured[:-1])
    last = measured[-1]
    assert last.served().hidden_TD.shape[0] == len(LENGTHS)
    # The gradient agrees about what is read.
    read_T = last.gradient_STN.abs().sum((0, 2)) > 0
    assert read_T.nonzero().flatten().tolist() == [0, 11, 18]
    assert torch.equal(last.read_T, read_T)
