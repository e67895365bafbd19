"""Routed and compacted decoding with a cache does what masked decoding does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from models import AGENTS, BLOCK_SIZE, DECODERS, LAYERS, N_HEADS, tiny_model
from torch import Tensor

from agent_economy import Economy
from agent_economy.adapters import adapter_for
from agent_economy.compaction import shrink
from agent_economy.errors import EconomyError
from agent_economy.executors.decoding import decode_greedily
from agent_economy.executors.masked import MaskedExecutor
from agent_economy.executors.routed import RoutedExecutor
from agent_economy.testing.adapter_contract import Gates

IDS_BL = torch.randint(2, 60, (2, 9), generator=torch.Generator().manual_seed(4))
CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}


class Course(Gates):
    """Gates of a whole sequence, given out token by token."""

    def open(self, mask_BL: Tensor, past: int = 0) -> None:
        self.past, self.total = past, mask_BL.shape[1]

    def trade(self, layer: int, hidden_BLD: Tensor) -> Tensor | None:
        return self.gates[layer][:, self.past : self.total]


def squared(output: Any, batch: dict[str, Any], generator: torch.Generator) -> Tensor:
    return output.logits.square().sum()


def by_token(executor: Any, market: Any, prefill: int, mask_BL: Tensor) -> Tensor:
    """Logits of all tokens."""
    cache, logits = None, []
    for start, stop in [(0, prefill), *((t, t + 1) for t in range(prefill, IDS_BL.shape[1]))]:
        batch = {
            "input_ids": IDS_BL[:, start:stop],
            "attention_mask": mask_BL[:, :stop],
            "use_cache": True,
        }
        if cache is not None:
            batch["past_key_values"] = cache
        output, _ = executor.run(batch, market)
        cache = output.past_key_values
        logits.append(output.logits)
    return torch.cat(logits, 1)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("prefill", [1, 4, 8])
@pytest.mark.parametrize("architecture", DECODERS)
@torch.no_grad()
def test_heads_that_open_late_find_their_keys(architecture: str, prefill: int, seed: int) -> None:
    """Against one masked pass over the whole sequence; some prompts are padded on the left."""
    adapter = adapter_for(tiny_model(architecture, "lm"), BLOCK_SIZE)
    generator = torch.Generator().manual_seed(seed)
    rows, length = IDS_BL.shape
    share_YN = torch.rand(LAYERS, AGENTS, generator=generator) * 0.6
    share_YN[seed % LAYERS, :N_HEADS] = 0.0
    gates = {}
    for layer in range(LAYERS):
        draw = torch.rand(rows, length, AGENTS, generator=generator)
        gates[layer] = (draw < share_YN[layer]).float()
        gates[layer][:, : length // 2, 1] = 0.0  # opens late, if at all
    mask_BL = torch.ones(rows, length, dtype=torch.long)
    if seed % 2:
        mask_BL[1, : prefill // 2] = 0
    routed, market = RoutedExecutor(adapter, path="routed"), Course(gates)
    batch = {"input_ids": IDS_BL, "attention_mask": mask_BL}
    expected = MaskedExecutor(adapter).run(batch, market)[0].logits
    found = by_token(routed, market, prefill, mask_BL)
    assert routed.note is None
    real_BL = mask_BL.bool()
    torch.testing.assert_close(found[real_BL], expected[real_BL], **CLOSE)


@torch.no_grad()
def test_what_is_left_of_a_difference_is_rounding() -> None:
    """In float64 nine more digits agree. (Llama normalises in float32 whatever it is given.)"""
    adapter = adapter_for(tiny_model("gpt2", "lm").double(), BLOCK_SIZE)
    generator = torch.Generator().manual_seed(0)
    size = (*IDS_BL.shape, AGENTS)
    gates = {y: (torch.rand(size, generator=generator) < 0.4).double() for y in range(LAYERS)}
    mask_BL, market = torch.ones_like(IDS_BL), Course(gates)
    whole = {"input_ids": IDS_BL, "attention_mask": mask_BL}
    expected = MaskedExecutor(adapter).run(whole, market)[0].logits
    found = by_token(RoutedExecutor(adapter, path="routed"), market, 4, mask_BL)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("architecture", DECODERS)
@torch.no_grad()
def test_an_economy_decodes_routed_as_masked(architecture: str) -> None:
    with torch.enable_grad():
        made = Economy.from_model(
            tiny_model(architecture, "lm"),
            mechanism={"name": "posted_price", "scope": "sequence"},
            block_size=BLOCK_SIZE,
            budget_fraction=0.7,
        )
        made.calibrate([{"input_ids": IDS_BL.flip(1)}], squared)
    routed = RoutedExecutor(made.adapter, path="routed")
    receipts = []

    def step(executor: Any) -> Any:
        def run(batch: dict[str, Any]) -> Any:
            output, receipt = executor.run(batch, made.market)
            receipts.append(receipt.spend_flops)
            return output

        return run

    with made.trying():
        expected = decode_greedily(step(made.executor), IDS_BL, 6)
    with made.trying():
        found = decode_greedily(step(routed), IDS_BL, 6)
    assert found.shape == (2, 15) and torch.equal(found, expected)
    assert receipts[:6] == receipts[6:] and receipts[0] < receipts[5]


@pytest.mark.parametrize("architecture", DECODERS)
@torch.no_grad()
def test_a_compacted_model_decodes_as_its_plan_masked(architecture: str) -> None:
    adapter = adapter_for(tiny_model(architecture, "lm"), BLOCK_SIZE)
    plan_YN = torch.rand(LAYERS, AGENTS, generator=torch.Generator().manual_seed(1)) < 0.5
    plan_YN[0, :N_HEADS] = False  # the layer by which a cache tells its length
    market = Course({y: plan_YN[y].float().expand(2, 20, -1) for y in range(LAYERS)})
    masked = MaskedExecutor(adapter)
    expected = decode_greedily(lambda batch: masked.run(batch, market)[0], IDS_BL, 6)
    small = shrink(adapter, plan_YN)
    found = decode_greedily(lambda batch: small(**batch), IDS_BL, 6)
    assert torch.equal(found, expected)
    torch.testing.assert_close(
        small(input_ids=found).logits,
        masked.run({"input_ids": found}, market)[0].logits,
        **CLOSE,
    )


def test_what_cannot_decode_is_refused_in_one_line() -> None:
    model = tiny_model("gpt2")
    with pytest.raises(EconomyError, match="at least one token to follow"):
        decode_greedily(lambda batch: model(**batch), IDS_BL, 0)
    with pytest.raises(EconomyError, match="AutoModelForCausalLM"):
        decode_greedily(lambda batch: model(**batch), IDS_BL, 2)
