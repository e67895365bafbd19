"""Half-precision models, caches and odd inputs: counted right, or refused in one line."""

from __future__ import annotations

import pytest
import torch
from models import BLOCK_SIZE, tiny_model
from transformers import DynamicCache

from agent_economy import Economy
from agent_economy.config import Named
from agent_economy.errors import EconomyError

CONSTANT = Named(name="constant")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mechanism", ["uniform_price", "token_top_k"])
@torch.no_grad()
def test_half_precision_counts_whole_flops(dtype: torch.dtype, mechanism: str) -> None:
    model = tiny_model("bert").to(dtype)
    economy = Economy.from_model(
        model,
        policy=CONSTANT,
        budget_fraction=0.5,
        block_size=BLOCK_SIZE,
        mechanism={"name": mechanism},
    )
    ids = torch.randint(5, 50, (1, 30))
    receipt = economy(input_ids=ids, attention_mask=torch.ones_like(ids)).receipt
    counted = sum(float(clearing.spend_flops.sum()) for clearing in receipt.clearings)
    assert counted + receipt.market_flops == receipt.spend_flops
    assert 0.35 < receipt.flops_fraction <= 0.5


@torch.no_grad()
def test_a_prefix_is_served_alike_whatever_follows_when_wallets_bind() -> None:
    economy = Economy.from_model(
        tiny_model("gpt2", "lm"),
        policy=Named(name="constant", options={"credits": 0.1}),
        budget_fraction=0.5,
        block_size=BLOCK_SIZE,
        mechanism={"name": "posted_price"},
        wallet={"endowment_credits": 0.8},
    )
    ids = torch.randint(5, 50, (1, 30))
    with economy.trying():
        economy(input_ids=ids)  # learn a price
    states = economy.market.states
    gates = []
    for length in (12, 30):
        economy.market.states = list(states)
        with economy.trying():
            receipt = economy(input_ids=ids[:, :length]).receipt
        gates.append([receipt.allocation_BLN(layer)[:, :12] for layer in range(2)])
    for short, long in zip(*gates, strict=True):
        assert torch.equal(short, long)


def test_a_cache_that_somebody_else_filled_is_refused() -> None:
    model = tiny_model("gpt2", "lm")
    config = {"name": "posted_price"}
    economy = Economy.from_model(
        model, mechanism=config, policy={"name": "constant"}, block_size=BLOCK_SIZE
    )
    ids = torch.arange(6)[None]
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(input_ids=ids, past_key_values=cache, use_cache=True)
        with pytest.raises(EconomyError, match="not filled by this economy"):
            economy(input_ids=ids[:, -1:], past_key_values=cache)


def test_moving_an_economy_is_refused() -> None:
    economy = Economy.from_model(tiny_model("bert"), policy=CONSTANT, block_size=BLOCK_SIZE)
    with pytest.raises(EconomyError, match="move or convert the model first"):
        economy.to(torch.float64)


@torch.no_grad()
def test_positional_inputs_work_as_the_models_own() -> None:
    model = tiny_model("bert")
    economy = Economy.from_model(model, policy=CONSTANT, block_size=BLOCK_SIZE)
    ids = torch.randint(5, 50, (2, 6))
    assert torch.equal(economy(ids)[0], model(ids)[0])


def test_gates_leave_the_models_own_activations_alone() -> None:
    model = tiny_model("bert")
    economy = Economy.from_model(model, policy=CONSTANT, budget_fraction=0.3, block_size=BLOCK_SIZE)
    seen: list[torch.Tensor] = []
    first = model.base_model.encoder.layer[0].intermediate
    handle = first.register_forward_hook(lambda module, args, output: seen.append(output))
    ids = torch.randint(5, 50, (1, 6))
    with torch.no_grad():
        economy(input_ids=ids)
    handle.remove()
    assert (seen[0] == 0).float().mean() < 0.01
