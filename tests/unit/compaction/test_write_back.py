"""Weights of a compacted model go home."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from models import AGENTS, ARCHITECTURES, BLOCK_SIZE, DECODERS, LAYERS, N_HEADS, tiny_batch
from models import tiny_model as model_of

from agent_economy.adapters import adapter_for
from agent_economy.adapters.base import projection_weight
from agent_economy.compaction import shrink, write_back
from agent_economy.errors import EconomyError


def plan(seed: int) -> torch.Tensor:
    return torch.rand(LAYERS, AGENTS, generator=torch.Generator().manual_seed(seed)) < 0.5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("first_only", [False, True])
@torch.no_grad()
def test_round_trip(architecture: str, first_only: bool, masked: Any) -> None:
    """Whatever becomes of the small model's weights, the masked full model becomes too."""
    if first_only and architecture in DECODERS:
        pytest.skip("a decoder's last token is read")
    model, batch = model_of(architecture, "classify"), tiny_batch()
    adapter = adapter_for(model, BLOCK_SIZE)
    for seed in range(3):
        plan_YN = plan(seed)
        if seed == 2:
            plan_YN[0, :N_HEADS], plan_YN[1, N_HEADS:] = False, False
        small = shrink(adapter, plan_YN, first_only=first_only)
        for each in small.parameters():
            each.add_(0.2 * torch.randn_like(each))
        before = masked(model, plan_YN, batch)
        write_back(small, adapter, plan_YN)
        found = masked(model, plan_YN, batch)
        assert not torch.allclose(found, before, atol=0.01)
        torch.testing.assert_close(found, small(**batch)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_closed_agents_stay_as_they_were(architecture: str) -> None:
    """Weights of the agents outside the plan, and nothing else, keep their values."""
    model = model_of(architecture)
    adapter, plan_YN = adapter_for(model, BLOCK_SIZE), plan(0)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    small = shrink(adapter, plan_YN)
    for each in small.parameters():
        each.add_(1)
    write_back(small, adapter, plan_YN)
    shape = adapter.shape
    heads_W = plan_YN[0, :N_HEADS].repeat_interleave(shape.head_dim)
    neurons_F = plan_YN[0, N_HEADS:].repeat_interleave(torch.tensor(shape.block_sizes))
    layer = adapter.sites[0].layer
    prefix = next(name for name, each in model.named_modules() if each is layer)

    def change_OI(path: str) -> torch.Tensor:
        was, now = before[f"{prefix}.{path}.weight"], layer.get_submodule(path)
        return projection_weight(now) - (was if isinstance(now, torch.nn.Linear) else was.T)

    def is_one_where(open_W: torch.Tensor, change: torch.Tensor) -> None:
        torch.testing.assert_close(change, open_W.float().expand_as(change))

    is_one_where(heads_W, change_OI(adapter.attention_output))
    is_one_where(neurons_F, change_OI(adapter.ffn_output))
    for path in adapter.ffn_inputs:
        is_one_where(neurons_F, change_OI(path).T)
    is_one_where(heads_W, change_OI(adapter.projections[0])[: len(heads_W)].T)
    embeddings = model.get_input_embeddings().weight
    name = next(n for n, each in model.named_parameters() if each is embeddings)
    torch.testing.assert_close(embeddings, before[name] + 1)


@torch.no_grad()
def test_another_plan_is_refused() -> None:
    model = model_of("bert")
    adapter, plan_YN = adapter_for(model, BLOCK_SIZE), plan(0)
    small = shrink(adapter, plan_YN)
    other = plan_YN.clone()
    other[0, 0] = ~other[0, 0]
    with pytest.raises(EconomyError, match="write back with the plan"):
        write_back(small, adapter, other)
