"""The masked executor measures what agents add, and refuses what it cannot gate."""

from __future__ import annotations

import pytest
import torch
from models import AGENTS, ARCHITECTURES, BLOCK_SIZE, tiny_batch, tiny_model

from agent_economy.adapters import adapter_for
from agent_economy.adapters.base import projection_weight
from agent_economy.errors import EconomyError
from agent_economy.executors import masked
from agent_economy.executors.masked import MaskedExecutor, token_mask
from agent_economy.testing.adapter_contract import Gates, agent_slice, hooks, read_inputs


class Meter(Gates):
    def __init__(self, gates: dict[int, torch.Tensor]) -> None:
        super().__init__(gates)
        self.contribution_YN: dict[int, torch.Tensor] = {}

    def served(self, layer: int, contribution_N: torch.Tensor) -> None:
        self.contribution_YN[layer] = contribution_N


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_contributions_estimate_what_agents_add(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every token sampled and a wide sketch the estimate meets the explicit norms."""
    monkeypatch.setattr(masked, "STRIDE", 1)
    monkeypatch.setattr(masked, "_SKETCH", 20_000)
    model, batch = tiny_model(architecture), tiny_batch()
    adapter = adapter_for(model, BLOCK_SIZE)
    real_BL = batch["attention_mask"].bool()
    gate_BLN = torch.rand(*real_BL.shape, AGENTS)
    meter = Meter({1: gate_BLN})
    sites = adapter.sites[1]
    executor = MaskedExecutor(adapter, measure=True)
    with read_inputs((sites.attention_output, sites.ffn_output)) as inputs:
        executor.run(batch, meter)
    for agent in range(AGENTS):
        is_head, own = agent_slice(adapter.shape, agent)
        site = sites.attention_output if is_head else sites.ffn_output
        added_TD = inputs[0 if is_head else 1][real_BL][:, own] @ projection_weight(site)[:, own].T
        assert meter.contribution_YN[1][agent] == pytest.approx(
            float(added_TD.norm(dim=-1).sum()), rel=0.05
        )


def test_contributions_of_padding_do_not_count() -> None:
    model, batch = tiny_model("bert"), tiny_batch((9, 3))
    executor = MaskedExecutor(adapter_for(model, BLOCK_SIZE), measure=True)
    one, other = Meter({}), Meter({})
    changed = dict(batch)
    changed["input_ids"] = torch.where(batch["attention_mask"] > 0, batch["input_ids"], 7)
    with torch.no_grad():
        executor.run(batch, one)
        executor.run(changed, other)
    for layer in range(3):
        assert torch.equal(one.contribution_YN[layer], other.contribution_YN[layer])


def test_a_measured_shut_agent_adds_nothing() -> None:
    model, batch = tiny_model("gpt2"), tiny_batch()
    gate_BLN = torch.ones(3, 11, AGENTS)
    gate_BLN[..., [2, 6]] = 0.0
    meter = Meter({0: gate_BLN})
    with torch.no_grad():
        MaskedExecutor(adapter_for(model, BLOCK_SIZE), measure=True).run(batch, meter)
    assert (meter.contribution_YN[0] == 0).nonzero().flatten().tolist() == [2, 6]


def test_feed_forward_chunking_is_refused() -> None:
    model = tiny_model("bert")
    for layer in model.encoder.layer:
        layer.chunk_size_feed_forward = 1
    executor = MaskedExecutor(adapter_for(model, BLOCK_SIZE))
    gates = Gates({0: torch.ones(3, 11, AGENTS)})
    with pytest.raises(EconomyError, match="chunk_size_feed_forward=0"):
        executor.run(tiny_batch(), gates)
    assert not hooks(model)


def test_token_mask() -> None:
    batch = tiny_batch((3, 2))
    assert token_mask(batch).tolist() == [[True] * 3, [True, True, False]]
    assert token_mask({"input_ids": batch["input_ids"]}).all()
    assert token_mask({"inputs_embeds": torch.zeros(2, 3, 8)}).shape == (2, 3)


# Llama's norms compute in float32 whatever the weights are: a coarser step.
@pytest.mark.parametrize(
    ("architecture", "step", "tolerance"),
    [("bert", 1e-6, 1e-5), ("gpt2", 1e-6, 1e-5), ("llama", 1e-2, 1e-2)],
)
def test_gate_gradients_match_finite_differences(
    architecture: str, step: float, tolerance: float
) -> None:
    model, batch = tiny_model(architecture).double(), tiny_batch((4, 2))
    adapter = adapter_for(model, BLOCK_SIZE)
    executor = MaskedExecutor(adapter)
    gate_BLN = 0.5 + 0.5 * torch.rand(2, 4, AGENTS, dtype=torch.float64)

    def loss(gate_BLN: torch.Tensor) -> torch.Tensor:
        output, _ = executor.run(batch, Gates({1: gate_BLN}))
        return output[0][batch["attention_mask"].bool()].square().sum()

    gate_BLN.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(gate_BLN), gate_BLN)
    for b, token, agent in [(0, 0, 0), (0, 3, 3), (1, 1, 4), (0, 2, AGENTS - 1), (1, 3, 2)]:
        with torch.no_grad():
            shift = torch.zeros_like(gate_BLN)
            shift[b, token, agent] = step
            slope = (loss(gate_BLN + shift) - loss(gate_BLN - shift)) / (2 * step)
        assert float(gradient[b, token, agent]) == pytest.approx(
            float(slope), rel=tolerance, abs=tolerance
        )
