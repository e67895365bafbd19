"""What never trades leaves, the rest is routed inside what is left: as masked on the whole one."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import AGENTS, ARCHITECTURES, BLOCK_SIZE, LAYERS, N_HEADS, tiny_batch, tiny_model
from torch import Tensor

from agent_economy import Economy
from agent_economy.adapters import adapter_for
from agent_economy.compaction import shrink
from agent_economy.compaction.adapter import absent_agents, adapter_of, whole_model
from agent_economy.errors import EconomyError
from agent_economy.executors.decoding import decode_greedily
from agent_economy.executors.masked import MaskedExecutor
from agent_economy.executors.routed import RoutedExecutor
from agent_economy.testing.adapter_contract import Gates

MAIN = ("bert", "mpnet", "gpt2", "llama")
CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}


@cache
def whole(architecture: str, head: Any = "none") -> MaskedExecutor:
    return MaskedExecutor(adapter_for(tiny_model(architecture, head), BLOCK_SIZE))


def drawn_plan(seed: int) -> Tensor:
    """Some agents of each layer; by the seed's bits none at all, no head or no block somewhere."""
    generator = torch.Generator().manual_seed(seed)
    plan_YN = torch.rand(LAYERS, AGENTS, generator=generator) < 0.6
    if seed & 1:
        plan_YN[seed % LAYERS] = False
    if seed & 2:
        plan_YN[(seed + 1) % LAYERS, :N_HEADS] = False
    if seed & 4:
        plan_YN[(seed + 2) % LAYERS, N_HEADS:] = False
    return plan_YN


def gates_within(plan_YN: Tensor, mask_BL: Tensor, seed: int, share: float) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(seed + 1)
    size = (*mask_BL.shape, AGENTS)
    return {
        layer: (torch.rand(size, generator=generator) < share) * plan_N * mask_BL[..., None].float()
        for layer, plan_N in enumerate(plan_YN)
    }


@pytest.mark.parametrize("architecture", MAIN)
@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**16),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    share=st.sampled_from((0.0, 0.3, 0.7, 1.0)),
)
@torch.no_grad()
def test_routed_inside_equals_masked_outside(
    architecture: str, seed: int, lengths: list[int], share: float
) -> None:
    masked, plan_YN, batch = whole(architecture), drawn_plan(seed), tiny_batch(tuple(lengths), seed)
    gates = gates_within(plan_YN, batch["attention_mask"], seed, share)
    expected = masked.run(batch, Gates(gates))[0][0]
    adapter = adapter_of(shrink(masked.adapter, plan_YN).eval(), BLOCK_SIZE)
    assert adapter.shape == masked.adapter.shape
    assert torch.equal(absent_agents(adapter), ~plan_YN)
    routed = RoutedExecutor(adapter, path="routed")
    real_BL = batch["attention_mask"].bool()
    scale = expected[real_BL].abs().max().clamp(min=1)
    for executor in (routed, MaskedExecutor(adapter)):
        found = executor.run(batch, Gates(gates))[0][0]
        torch.testing.assert_close(found[real_BL] / scale, expected[real_BL] / scale, **CLOSE)
    assert routed.note is None


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_everybody_who_is_left_serves_without_gates(architecture: str) -> None:
    masked, plan_YN, batch = whole(architecture), drawn_plan(6), tiny_batch()
    small = shrink(masked.adapter, plan_YN).eval()
    routed = RoutedExecutor(adapter_of(small, BLOCK_SIZE), path="routed")
    real_BL = batch["attention_mask"].bool()
    found, expected = routed.run(batch, Gates({}))[0][0], small(**batch)[0]
    torch.testing.assert_close(found[real_BL], expected[real_BL], **CLOSE)


@torch.no_grad()
def test_who_left_cannot_serve_and_is_muted() -> None:
    masked, batch = whole("bert"), tiny_batch()
    plan_YN = torch.ones(LAYERS, AGENTS, dtype=torch.bool)
    plan_YN[1, 2] = False
    small = shrink(masked.adapter, plan_YN).eval()
    routed = RoutedExecutor(adapter_of(small, BLOCK_SIZE), path="routed")
    gates = gates_within(torch.ones_like(plan_YN), batch["attention_mask"], 0, 0.5)
    with pytest.raises(EconomyError, match="agent 2 of a layer left this model"):
        routed.run(batch, Gates(gates))
    with pytest.raises(EconomyError, match="in blocks of 16 neurons, not of 8"):
        adapter_of(small, 8)
    with pytest.raises(EconomyError, match="is not measured"):
        Economy.from_model(small, block_size=BLOCK_SIZE)
    flat = {"income": {"name": "flat"}}
    economy = Economy.from_model(
        small, block_size=BLOCK_SIZE, policy={"name": "random"}, wallet=flat
    )
    assert economy.population.muted_A.nonzero().tolist() == [[AGENTS + 2]]
    receipt = economy(**batch).receipt
    assert 0 < receipt.flops_fraction < 1 and receipt.spend_flops < receipt.dense_flops
    assert type(whole_model(small)) is type(masked.adapter.model)
    with pytest.raises(EconomyError, match="compacted already"):
        shrink(economy.adapter, plan_YN)
    with pytest.raises(EconomyError, match="cannot be measured; calibrate the economy"):
        economy.calibrate([batch], lambda output, batch, generator: output[0].sum())


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@torch.no_grad()
def test_decodes_routed_inside_as_masked_outside(architecture: str) -> None:
    flat = {"income": {"name": "flat"}}
    settings_ = {
        "mechanism": {"name": "posted_price"}, "policy": {"name": "random"}, "wallet": flat,
        "block_size": BLOCK_SIZE, "budget_fraction": 0.6,
    }  # fmt: skip
    plan_YN, ids_BL = drawn_plan(8), torch.randint(2, 60, (2, 7))
    made = Economy.from_model(tiny_model(architecture, "lm"), **settings_)
    made.population.mute(~plan_YN.flatten())
    small = shrink(made.adapter, plan_YN).eval()
    inside = Economy.from_model(small, **settings_)
    routed = RoutedExecutor(inside.adapter, path="routed")
    expected = decode_greedily(lambda batch: made(**batch), ids_BL, 6)
    found = decode_greedily(lambda batch: routed.run(batch, inside.market)[0], ids_BL, 6)
    assert torch.equal(found, expected) and routed.note is None
    assert torch.equal(inside.ledger.wallet_A, made.ledger.wallet_A)


@torch.no_grad()
def test_saved_and_loaded(tmp_path: Path) -> None:
    masked, plan_YN, batch = whole("bert", "classify"), drawn_plan(3), tiny_batch()
    small = shrink(masked.adapter, plan_YN).eval()
    economy = Economy.from_model(
        small,
        block_size=BLOCK_SIZE,
        budget_fraction=0.3,
        policy={"name": "random"},
        wallet={"income": {"name": "flat"}},
    )
    economy.save_pretrained(tmp_path / "e")
    again = Economy.from_pretrained(tmp_path / "e")
    assert torch.equal(again.population.muted_A, economy.population.muted_A)
    one, two = economy(**batch), again(**batch)
    assert torch.equal(one.logits, two.logits)
    assert one.receipt.spend_flops == two.receipt.spend_flops > 0
