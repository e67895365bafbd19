"""Prefill equals token-by-token decoding with a cache, for every causal market."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from models import BLOCK_SIZE, DECODERS, LAYERS, tiny_model
from torch import Tensor

from agent_economy import Economy
from agent_economy.config import MechanismConfig
from agent_economy.errors import EconomyError
from agent_economy.members import causal_markets

IDS_BL = torch.randint(2, 60, (2, 9), generator=torch.Generator().manual_seed(4))


def squared(output: Any, batch: dict[str, Any], generator: torch.Generator) -> Tensor:
    return output.logits.square().sum()


def economy(
    architecture: str, mechanism: str, scope: str, timing: str = "spot", **changes: Any
) -> Economy:
    made = Economy.from_model(
        tiny_model(architecture, "lm"),
        mechanism={"name": mechanism, "scope": scope, "timing": timing},
        block_size=BLOCK_SIZE,
        budget_fraction=0.7,
        **changes,
    )
    made.calibrate([{"input_ids": IDS_BL.flip(1)}], squared)
    with torch.no_grad():
        for shift in (1, 2):  # prices and standings are learned
            made(input_ids=(IDS_BL + shift) % 59)
    return made


def decode(made: Economy, ids_BL: Tensor, prefill: int) -> tuple[Tensor, list[Tensor], Any]:
    """Logits of every token, the gates of each layer, and the last receipt."""
    output = made(input_ids=ids_BL[:, :prefill], use_cache=True)
    logits = [output.logits]
    for token in range(prefill, ids_BL.shape[1]):
        step = ids_BL[:, token : token + 1]
        output = made(input_ids=step, past_key_values=output.past_key_values, use_cache=True)
        logits.append(output.logits)
    gates = [output.receipt.allocation_BLN(layer) for layer in range(LAYERS)]
    return torch.cat(logits, 1), gates, output.receipt


@pytest.mark.parametrize("timing", ["spot", "forward"])
@pytest.mark.parametrize(("mechanism", "scope"), causal_markets())
@pytest.mark.parametrize("architecture", DECODERS)
@torch.no_grad()
def test_prefill_equals_decoding(
    architecture: str, mechanism: str, scope: str, timing: str
) -> None:
    with torch.enable_grad():
        made = economy(architecture, mechanism, scope, timing)
    with made.trying():
        whole = made(input_ids=IDS_BL)
    scarce = 0
    for prefill in (1, 4):
        with made.trying():
            logits, gates, receipt = decode(made, IDS_BL, prefill)
        torch.testing.assert_close(logits, whole.logits, rtol=1e-5, atol=1e-5)
        for layer in range(LAYERS):
            served = whole.receipt.allocation_BLN(layer)
            assert torch.equal(gates[layer], served)
            scarce += int((served == 0).sum())
        assert receipt.spend_flops == whole.receipt.spend_flops
        made.ledger.check()
    assert scarce > 0


@torch.no_grad()
def test_decoding_charges_what_prefill_charges() -> None:
    """Credits, too: nobody earns, so wallets show what was paid."""
    income = {"income": {"name": "flat", "options": {"credits": 0.0}}}
    with torch.enable_grad():
        made = economy("llama", "posted_price", "sequence", wallet=income)
    with made.trying():
        made(input_ids=IDS_BL)
        at_once = made.ledger.wallet_A.clone()
        served = made.population.served_A.clone()
    with made.trying():
        decode(made, IDS_BL, 2)
        by_token = made.ledger.wallet_A.clone()
    torch.testing.assert_close(by_token, at_once)
    assert served.sum() > 0


@torch.no_grad()
def test_contributions_are_measured_on_the_same_tokens() -> None:
    with torch.enable_grad():
        made = economy("gpt2", "posted_price", "sequence")
    with made.trying():
        made(input_ids=IDS_BL)
        whole_A = made.population.contribution_A.clone()
    with made.trying():
        output = made(input_ids=IDS_BL[:, :3], use_cache=True)
        total_A = made.population.contribution_A.clone()
        for token in range(3, IDS_BL.shape[1]):
            step = IDS_BL[:, token : token + 1]
            output = made(input_ids=step, past_key_values=output.past_key_values, use_cache=True)
            total_A += made.population.contribution_A
    torch.testing.assert_close(total_A, whole_A, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_who_is_muted_on_the_way_stays_in_for_the_sequence() -> None:
    with torch.enable_grad():
        made = economy("gpt2", "posted_price", "sequence")
    output = made(input_ids=IDS_BL[:, :5], use_cache=True)
    before = output.receipt.allocation_BLN(0)
    made.population.mute(slice(0, 3))
    output = made(input_ids=IDS_BL[:, 5:6], past_key_values=output.past_key_values, use_cache=True)
    assert torch.equal(output.receipt.allocation_BLN(0)[:, :5], before)
    assert not made(input_ids=IDS_BL).receipt.allocation_BLN(0)[..., :3].any()


@torch.no_grad()
def test_trying_in_the_middle_of_a_sequence_leaves_it_where_it_was() -> None:
    with torch.enable_grad():
        made = economy("gpt2", "posted_price", "sequence")
    output = made(input_ids=IDS_BL[:, :5], use_cache=True)
    with made.trying():
        made(input_ids=IDS_BL)
    made(input_ids=IDS_BL[:, 5:6], past_key_values=output.past_key_values)
    made.load_economy_state(made.economy_state())
    with pytest.raises(EconomyError, match="not filled by this economy"):
        made(input_ids=IDS_BL[:, 6:7], past_key_values=output.past_key_values)


@pytest.mark.parametrize("name", ["paced", "bandit"])
@torch.no_grad()
def test_policies_that_learn_from_success_do_not_decode(name: str) -> None:
    with torch.enable_grad():
        made = economy("gpt2", "posted_price", "sequence", policy={"name": name})
    output = made(input_ids=IDS_BL[:, :5], use_cache=True)
    with pytest.raises(EconomyError, match="policies that learn"):
        made(input_ids=IDS_BL[:, 5:6], past_key_values=output.past_key_values)


def test_readouts_of_one_timing_are_not_read_at_another() -> None:
    made = economy("gpt2", "posted_price", "sequence")
    with pytest.raises(EconomyError, match="calibrated for timing 'spot'"):
        made.set_mechanism(MechanismConfig(name="posted_price", timing="forward"))


@torch.no_grad()
def test_random_bids_are_drawn_alike() -> None:
    with torch.enable_grad():
        made = economy("gpt2", "posted_price", "sequence", policy={"name": "random"})
    with made.trying():
        whole = made(input_ids=IDS_BL).logits
    with made.trying():
        logits, _, _ = decode(made, IDS_BL, 3)
    torch.testing.assert_close(logits, whole, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_what_cannot_go_on_is_refused_in_one_line() -> None:
    with torch.enable_grad():
        made = economy("gpt2", "posted_price", "sequence")
    output = made(input_ids=IDS_BL, use_cache=True)
    one = IDS_BL[:, :1]
    with pytest.raises(EconomyError, match="mask has shape"):
        made(
            input_ids=one,
            past_key_values=output.past_key_values,
            attention_mask=torch.ones(2, 1),
        )
    made.market.budget_fraction = 0.5
    with pytest.raises(EconomyError, match="changed within a sequence"):
        made(input_ids=one, past_key_values=output.past_key_values)
    made.market.budget_fraction = 0.7
    made(input_ids=IDS_BL[:, :5])
    with pytest.raises(EconomyError, match="ended at 2 rows of 5"):
        made(input_ids=one, past_key_values=output.past_key_values)


@torch.no_grad()
def test_a_traced_market_does_not_decode() -> None:
    with torch.enable_grad():
        made = economy("gpt2", "posted_price", "sequence", "trace")
    output = made(input_ids=IDS_BL, use_cache=True)
    with pytest.raises(EconomyError, match="traced market cannot go on"):
        made(input_ids=IDS_BL[:, :1], past_key_values=output.past_key_values)
