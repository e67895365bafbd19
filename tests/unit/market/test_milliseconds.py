"""Markets that clear milliseconds: budgets hold on the table's clock, FLOPs are told beside."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from models import AGENTS, BLOCK_SIZE, HIDDEN, LAYERS, N_HEADS, tiny_batch, tiny_model

from agent_economy import Economy, EconomyError
from agent_economy.config import LatencyConfig
from agent_economy.costs.rates import PS_PER_MS
from agent_economy.executors.decoding import decode_greedily
from agent_economy.latencies import latency_config, tariff_of
from agent_economy.receipt import Receipt

#: a machine on which heads are slow and neurons fast, unlike in FLOPs
SLOW_HEADS: dict[Any, tuple[float, float, float]] = {
    "head": (0.04, 2e-3, 1e-4),
    "keys": (0.02, 1e-3, 0.0),
    "block": (0.01, 1e-4, 0.0),
    "rest": (0.03, 4e-5, 0.0),
    "clearing": (0.0, 1e-7, 0.0),
}
TOKENS = 24


def latency(**lines: tuple[float, float, float]) -> LatencyConfig:
    known = {**SLOW_HEADS, **lines}
    return LatencyConfig(lines=known, device="cpu", threads=2, date="2026-11-23", rows=2, length=12)


def squared(output: Any, batch: dict[str, Any], generator: torch.Generator) -> torch.Tensor:
    first: torch.Tensor = output[0]
    return first.square().sum()


def founded(architecture: str = "bert", head: Any = "none", **changes: Any) -> Economy:
    settings = {"latency": latency(), "block_size": BLOCK_SIZE, "budget_fraction": 0.5, **changes}
    economy = Economy.from_model(tiny_model(architecture, head), **settings)
    economy.calibrate([tiny_batch(seed=3)], squared)
    return economy


def ms_by_hand(receipt: Receipt, *, causal: bool, units: int) -> float:
    """What was served, token by token, from the lines alone; the market apart."""
    total = 0.0
    call = {kind: line[0] / TOKENS for kind, line in SLOW_HEADS.items()}
    for layer in range(LAYERS):
        served_BLN = receipt.allocation_BLN(layer) > 0
        for row in range(len(served_BLN)):
            length = int(receipt.mask_BL[row].sum())
            for token in range(length):
                context = token + 1 if causal else length
                for agent in served_BLN[row, token].nonzero().flatten().tolist():
                    if agent < N_HEADS:
                        own = call["head"] + SLOW_HEADS["head"][1]
                        total += own + SLOW_HEADS["head"][2] * context
                    else:
                        share = (16, 16, 8)[agent - N_HEADS] / 16
                        total += (call["block"] + SLOW_HEADS["block"][1]) * share
            heads_H = served_BLN[row, :, :N_HEADS].any(0)
            used = int(heads_H.unflatten(0, (units, -1)).any(-1).sum())
            total += used * length * (call["keys"] + SLOW_HEADS["keys"][1])
    return total


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("budget", [0.8, 0.5, 0.2])
@torch.no_grad()
def test_budgets_hold_in_milliseconds(architecture: str, budget: float) -> None:
    causal = architecture != "bert"
    mechanism = "posted_price" if causal else "uniform_price"
    with torch.enable_grad():
        economy = founded(architecture, budget_fraction=budget, mechanism={"name": mechanism})
    batch = tiny_batch()
    receipt = economy(**batch).receipt
    units = economy.adapter.shape.kv_heads
    tokens = int(batch["attention_mask"].sum())
    market_ms = sum(receipt.market_charge_Y) * tokens / PS_PER_MS
    by_hand = ms_by_hand(receipt, causal=causal, units=units)
    assert receipt.in_ms
    assert receipt.spend_ms == pytest.approx(by_hand + market_ms, rel=1e-5)
    assert 0 < receipt.spend_ms <= receipt.supply_ms <= budget * receipt.dense_ms
    assert receipt.charged_fraction == pytest.approx(receipt.spend_ms / receipt.dense_ms)
    # FLOPs are FLOPs as before
    in_flops = replace(economy.adapter.shape, rates=None)
    assert receipt._in_flops[0].token_flops_BNL[0, N_HEADS, 0] == (
        2 * in_flops.ffn_matrices * HIDDEN * 16
    )
    assert receipt.spend_flops <= receipt.dense_flops
    assert receipt.flops_fraction != pytest.approx(receipt.charged_fraction, abs=1e-3)
    with pytest.raises(EconomyError, match=r"read receipt\.supply_ms"):
        _ = receipt.supply_flops


@torch.no_grad()
def test_a_row_is_charged_the_same_beside_any_other_rows() -> None:
    with torch.enable_grad():
        economy = founded()
    batch = tiny_batch()
    whole = economy(**batch).receipt
    row = {key: value[1:2] for key, value in batch.items()}
    with economy.trying():
        alone = economy(**row).receipt
    length = int(row["attention_mask"].sum())
    for layer in range(LAYERS):
        served_BLN = alone.allocation_BLN(layer)[:, :length]
        assert torch.equal(served_BLN, whole.allocation_BLN(layer)[1:2, :length])
    assert torch.equal(alone.supplies[0], whole.supplies[0][1:2])


@torch.no_grad()
def test_full_supply_is_everybody_and_closed_is_the_model() -> None:
    with torch.enable_grad():
        economy = founded(budget_fraction=1.0)
    batch = tiny_batch()
    with economy.closed() as model:
        expected = model(**batch)[0]
    output = economy(**batch)
    assert torch.equal(output[0], expected)
    assert output.receipt.spend_ms == output.receipt.dense_ms
    assert output.receipt.flops_fraction == 1.0


def plan_of(heads: int, blocks: int) -> torch.Tensor:
    plan_YN = torch.zeros(LAYERS, AGENTS, dtype=torch.bool)
    plan_YN[:, :heads] = True
    plan_YN[:, N_HEADS : N_HEADS + blocks] = True
    return plan_YN


@torch.no_grad()
def test_what_fits_in_flops_may_not_fit_on_the_clock_and_the_other_way_round() -> None:
    """Two heads of four are little FLOPs and long time here; two blocks of three the reverse."""
    with torch.enable_grad():
        economy = founded()
    batch, broke = tiny_batch(), "spend exceeds supply"

    def share(plan_YN: torch.Tensor) -> tuple[float, float]:
        economy.market.plan_YN, economy.market.budget_fraction = plan_YN, 1.0
        receipt = economy(**batch).receipt
        return receipt.flops_fraction, receipt.charged_fraction

    def fits(plan_YN: torch.Tensor, budget: float) -> bool:
        economy.market.plan_YN, economy.market.budget_fraction = plan_YN, budget
        try:
            economy(**batch)
        except EconomyError as error:
            assert broke in str(error)
            return False
        return True

    heads, blocks = plan_of(3, 0), plan_of(0, 3)
    flops_heads, ms_heads = share(heads)
    flops_blocks, ms_blocks = share(blocks)
    assert flops_heads < 0.6 < ms_heads and ms_blocks < 0.3 < flops_blocks
    between_heads, between_blocks = (flops_heads + ms_heads) / 2, (ms_blocks + flops_blocks) / 2
    assert not fits(heads, between_heads) and fits(blocks, between_blocks)
    economy.set_latency(None)
    assert fits(heads, between_heads) and not fits(blocks, between_blocks)


@torch.no_grad()
def test_a_price_per_gflop_is_one_per_millisecond() -> None:
    """Where every unit is a fixed number of picoseconds, prices scale and nothing else changes."""
    model = tiny_model("bert")
    shape_flops = Economy.from_model(model, block_size=BLOCK_SIZE).adapter.shape
    per_flop = 2e-6  # milliseconds
    projections = 4 * HIDDEN * shape_flops.head_dim
    alike = latency(
        head=(0.0, projections * per_flop, 4 * shape_flops.head_dim * per_flop),
        keys=(0.0, projections * per_flop, 0.0),
        block=(0.0, 4 * HIDDEN * 16 * per_flop, 0.0),
        clearing=(0.0, 40 * per_flop, 0.0),
    )
    receipts = []
    for latencies in (None, alike):
        with torch.enable_grad():
            economy = founded(latency=latencies)
        receipts.append(economy(**tiny_batch()).receipt)
    flops, clock = receipts
    for layer in range(LAYERS):
        assert torch.equal(flops.allocation_BLN(layer), clock.allocation_BLN(layer))
    assert clock.spend_ms == pytest.approx(flops.spend_flops * per_flop)
    scaled = flops.price_YBL / (per_flop * 1e9)  # a GFLOP takes so many milliseconds
    torch.testing.assert_close(clock.price_YBL, scaled)
    assert clock.spend_flops == flops.spend_flops


def test_a_budget_in_milliseconds() -> None:
    economy = founded(budget_ms=1.5)
    tariff, shape = tariff_of(latency()), economy.adapter.shape
    rest = LAYERS * (0.03 + 4e-5 * TOKENS)
    dense = tariff.dense_ms(shape, LAYERS, 2, 12)
    assert economy.market.budget_fraction == pytest.approx((1.5 - rest) / (dense - rest))
    batch = {"input_ids": torch.randint(2, 60, (2, 12))}
    with torch.no_grad():
        receipt = economy(**batch).receipt
    assert receipt.spend_ms + rest <= 1.5 < dense
    assert receipt.supply_ms + rest == pytest.approx(1.5, rel=1e-5)
    with pytest.raises(EconomyError, match="less than what 3 layers take without any agent"):
        founded(budget_ms=0.01)
    with pytest.raises(EconomyError, match="needs latencies"):
        founded(latency=None, budget_ms=1.5)
    with pytest.raises(EconomyError, match="no latencies of keys"):
        bad = {k: v for k, v in SLOW_HEADS.items() if k != "keys"}
        founded(latency={**latency().model_dump(), "lines": bad})


@torch.no_grad()
def test_saved_and_loaded(tmp_path: Path) -> None:
    with torch.enable_grad():
        economy = founded(budget_ms=1.5)
    economy.save_pretrained(tmp_path / "e")
    again = Economy.from_pretrained(tmp_path / "e")
    assert again.config.latency == economy.config.latency
    assert again.adapter.shape == economy.adapter.shape
    one, two = economy(**tiny_batch()).receipt, again(**tiny_batch()).receipt
    assert one.charged == two.charged and one.spend_ms == two.spend_ms > 0
    rules = json.loads((tmp_path / "e" / "economy.json").read_text())
    assert rules["config"]["latency"]["lines"]["head"] == list(SLOW_HEADS["head"])


@torch.no_grad()
def test_a_decoder_decodes_under_a_budget_in_milliseconds() -> None:
    with torch.enable_grad():
        economy = founded("gpt2", "lm", mechanism={"name": "posted_price"}, budget_fraction=0.7)
    ids_BL = torch.randint(2, 60, (2, 6), generator=torch.Generator().manual_seed(0))
    receipts = []

    def step(batch: dict[str, Any]) -> Any:
        output = economy(**batch)
        receipts.append(output.receipt)
        return output

    decode_greedily(step, ids_BL, 4)
    assert all(each.spend_ms <= each.supply_ms for each in receipts)
    by_hand = ms_by_hand(receipts[-1], causal=True, units=N_HEADS)
    tokens = int(receipts[-1].mask_BL.sum())
    market = sum(receipts[-1].market_charge_Y) * tokens / PS_PER_MS
    assert receipts[-1].spend_ms == pytest.approx(by_hand + market, rel=1e-5)


def test_no_table_and_no_such_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_ECONOMY_CACHE", str(tmp_path))
    shape = Economy.from_model(tiny_model("bert"), block_size=BLOCK_SIZE).adapter.shape
    with pytest.raises(EconomyError, match="measure some with `agent-economy bench latency`"):
        latency_config(shape, rows=1, length=8)
