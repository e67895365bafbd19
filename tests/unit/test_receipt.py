"""FLOPs and credits of a receipt, recomputed by loops from the allocation alone."""

from __future__ import annotations

import pytest
import torch
from models import (
    AGENTS,
    ARCHITECTURES,
    BLOCK_SIZE,
    DECODERS,
    FFN,
    HIDDEN,
    LAYERS,
    N_HEADS,
    tiny_batch,
    tiny_model,
)

from agent_economy.costs.tariff import layer_tariff
from agent_economy.economy import Economy
from agent_economy.mechanisms import MECHANISMS
from agent_economy.receipt import Receipt
from agent_economy.testing.adapter_contract import count_flops

K = HIDDEN // N_HEADS
BLOCKS = (16, 16, 8)
MARKETS = [
    (name, scope)
    for name, member in MECHANISMS.members().items()
    for scope in member.scopes
    if member.__module__.startswith("agent_economy.")
]


def founded(
    architecture: str, mechanism: str, scope: str = "sequence", **changes: object
) -> Economy:
    return Economy.from_model(
        tiny_model(architecture),
        block_size=BLOCK_SIZE,
        mechanism={"name": mechanism, "scope": scope},
        policy={"name": "random"},
        **changes,  # type: ignore[arg-type]
    )


def by_hand(architecture: str, receipt: Receipt, layer: int) -> int:
    """Agent FLOPs of one layer, straight from the definition of the tariff."""
    causal, gated = architecture in DECODERS, architecture == "llama"
    group = 2 if architecture == "llama" else 1
    allocation = receipt.allocation_BLN(layer).tolist()
    mask = receipt.mask_BL.tolist()
    total = 0
    for row, real in zip(allocation, mask, strict=True):
        length = sum(real)
        opened = set()
        for token, gates in enumerate(row):
            for agent, gate in enumerate(gates):
                if not gate:
                    continue
                assert real[token], "padding was served"
                if agent < N_HEADS:
                    context = sum(real[: token + 1]) if causal else length
                    # query and output slices, then scores and mixing
                    total += 2 * HIDDEN * K + 2 * K * HIDDEN + 2 * K * context + 2 * K * context
                    opened.add(agent // group)
                else:
                    neurons = BLOCKS[agent - N_HEADS]
                    total += 2 * HIDDEN * neurons * (3 if gated else 2)
        # key and value projections of every context token
        total += len(opened) * length * 2 * (2 * HIDDEN * K)
    return total


@pytest.mark.parametrize(
    ("architecture", "mechanism", "scope"),
    [
        (architecture, mechanism, scope)
        for architecture in ("bert", "gpt2", "llama")
        for mechanism, scope in MARKETS
        if MECHANISMS.get(mechanism)(scope).guarantees.feasible
        and (architecture not in DECODERS or MECHANISMS.get(mechanism)(scope).guarantees.causal)
    ],
)
@torch.no_grad()
def test_flops_by_hand_and_never_over_supply(architecture: str, mechanism: str, scope: str) -> None:
    economy = founded(architecture, mechanism, scope)
    batch = tiny_batch()
    length_B = batch["attention_mask"].sum(1)
    for budget in (0.9, 0.6, 0.3, 0.15, 0.02, 1e-4):
        economy.market.budget_fraction = budget
        for _ in range(2):
            receipt: Receipt = economy(**batch).receipt
            spent = [by_hand(architecture, receipt, layer) for layer in range(LAYERS)]
            market = sum(receipt.market_flops_Y) * int(length_B.sum())
            assert receipt.market_flops == market
            assert receipt.spend_flops == sum(spent) + market
            dense_BL = receipt.tariffs[0].dense_flops_BL
            allowed = int((dense_BL.double() * budget).floor().sum())
            assert receipt.supply_flops == LAYERS * allowed
            for layer in range(LAYERS):
                charged = receipt.market_flops_Y[layer] * int(length_B.sum())
                assert spent[layer] + charged <= allowed
                if scope != "batch":
                    assert_every_row_keeps_its_budget(receipt, layer, budget)
        assert receipt.flops_fraction <= budget
        assert receipt.flops_fraction == receipt.spend_flops / receipt.dense_flops


def assert_every_row_keeps_its_budget(receipt: Receipt, layer: int, budget: float) -> None:
    agents_B = receipt.agent_flops_BLN(layer).sum((1, 2)) + receipt.setup_flops_BU(layer).sum(1)
    market_B = receipt.market_flops_Y[layer] * receipt.mask_BL.sum(1)
    allowed_B = (receipt.tariffs[layer].dense_flops_BL.double() * budget).floor().sum(1)
    assert (agents_B + market_B <= allowed_B).all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_full_supply_spends_exactly_the_dense_flops(architecture: str) -> None:
    economy = founded(architecture, "posted_price")
    receipt = economy(**tiny_batch()).receipt
    assert receipt.clearings == [None] * LAYERS
    assert receipt.spend_flops == receipt.dense_flops == receipt.supply_flops
    assert receipt.spend_flops == sum(by_hand(architecture, receipt, y) for y in range(LAYERS))
    assert receipt.market_flops == 0
    assert receipt.welfare == 0
    assert not receipt.price_YBL.any()


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "mpnet"])
@torch.no_grad()
def test_the_honest_count_is_the_counters_where_nothing_is_padded(architecture: str) -> None:
    economy, batch = founded(architecture, "uniform_price"), tiny_batch((9, 9))
    receipt = economy(**batch).receipt
    counted = count_flops(lambda: economy.model(**batch))
    assert receipt.dense_flops + receipt.fixed_flops == pytest.approx(counted, rel=1e-3)


@torch.no_grad()
def test_padding_is_free() -> None:
    economy = founded("bert", "uniform_price", budget_fraction=0.5)
    batch = tiny_batch((8, 8))
    wider = {key: torch.nn.functional.pad(value, (0, 5), value=0) for key, value in batch.items()}
    with economy.trying():
        one = economy(**batch).receipt
    with economy.trying():
        other = economy(**wider).receipt
    assert one.dense_flops == other.dense_flops
    assert one.supply_flops == other.supply_flops
    assert one.fixed_flops == other.fixed_flops


@pytest.mark.parametrize(
    ("architecture", "head", "per_row", "per_token"),
    [
        ("bert", "none", 2 * 32 * 32, 0),
        ("bert", "classify", 2 * 32 * 32 + 2 * 32 * 3, 0),
        ("bert", "lm", 0, 2 * 32 * 32 + 2 * 32 * 61),
        ("distilbert", "none", 0, 0),
        ("distilbert", "classify", 2 * 32 * 32 + 2 * 32 * 3, 0),
        ("roberta", "classify", 2 * 32 * 32 + 2 * 32 * 3, 0),
        ("gpt2", "lm", 0, 2 * 32 * 61),
        ("gpt2", "classify", 0, 2 * 32 * 3),
        ("llama", "lm", 0, 2 * 32 * 61),
    ],
)
def test_fixed_flops(architecture: str, head: str, per_row: int, per_token: int) -> None:
    model = tiny_model(architecture, head)  # type: ignore[arg-type]
    causal = architecture in DECODERS
    economy = Economy.from_model(
        model,
        block_size=BLOCK_SIZE,
        policy={"name": "constant"},
        mechanism={"name": "posted_price" if causal else "uniform_price"},
    )
    assert economy.market.reading.fixed == (per_row, per_token)
    receipt = economy(**tiny_batch((5, 2))).receipt
    assert receipt.fixed_flops == 2 * per_row + 7 * per_token


@torch.no_grad()
def test_prices_have_one_shape_whatever_the_scope() -> None:
    for mechanism, scope in MARKETS:
        economy = founded("bert", mechanism, scope, budget_fraction=0.4)
        receipt = economy(**tiny_batch()).receipt
        assert receipt.price_YBL.shape == (LAYERS, 3, 11)
        assert (receipt.price_YBL >= 0).all()
        assert receipt.allocation_BLN(0).shape == (3, 11, AGENTS)


def test_dense_flops_of_a_layer_by_hand() -> None:
    """32 wide, 4 heads of 8, 40 neurons; two tokens that see each other."""
    economy = founded("bert", "uniform")
    mask_BL = torch.ones(1, 2, dtype=torch.bool)
    dense_BL = layer_tariff(economy.adapter.shape, mask_BL).dense_flops_BL
    one = 4 * 2 * 32 * 32 + 2 * 2 * 32 * 2 + 2 * 2 * 32 * FFN
    assert dense_BL.tolist() == [[one, one]]
