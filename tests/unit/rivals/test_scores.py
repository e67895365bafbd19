"""Magnitude and head importance: their scores, one agent at a time, and the plans they lead to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from models import AGENTS, BLOCK_SIZE, HIDDEN, LAYERS, N_HEADS, tiny_batch, tiny_model
from torch import Tensor

from agent_economy.adapters import adapter_for
from agent_economy.errors import EconomyError
from agent_economy.executors.trace import trace
from agent_economy.rivals import Allowance, Evidence
from agent_economy.rivals.knapsack import best_plan
from agent_economy.rivals.magnitude_mask import MagnitudeMask, squared_norms
from agent_economy.rivals.michel_mask import MichelMask
from agent_economy.rivals.taylor_mask import TaylorMask
from agent_economy.tasks.utility import LabelledScore

HEAD_DIM = HIDDEN // N_HEADS
BLOCKS = [slice(0, 16), slice(16, 32), slice(32, 40)]


def allowance(evidence: Evidence, budget: float) -> Allowance:
    return Allowance.of(evidence.adapter.shape, LAYERS, budget, 11)


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    adapter = adapter_for(tiny_model("bert", "classify"), BLOCK_SIZE)
    utility = LabelledScore("accuracy", regression=False)
    labels = torch.tensor([0, 2, 1])
    batches: list[dict[str, Any]] = [
        tiny_batch(lengths, seed) | {"labels": labels}
        for seed, lengths in enumerate([(11, 7, 4), (9, 3, 1)])
    ]
    return Evidence(adapter, batches, trace(adapter, batches, utility.loss, probes=1), utility)


def owned(architecture: str, layer: int, agent: int) -> list[Tensor]:
    """All weights that an agent owns, by the names that transformers gives them."""
    model = tiny_model(architecture)
    weights = dict(model.named_parameters())
    head = slice(agent * HEAD_DIM, (agent + 1) * HEAD_DIM)
    if architecture == "gpt2":
        name = f"h.{layer}."
        if agent >= N_HEADS:
            block = BLOCKS[agent - N_HEADS]
            into, out = weights[name + "mlp.c_fc.weight"], weights[name + "mlp.c_proj.weight"]
            return [into[:, block], out[block]]
        whole = weights[name + "attn.c_attn.weight"]
        parts = [whole[:, i * HIDDEN : (i + 1) * HIDDEN][:, head] for i in range(3)]
        return [*parts, weights[name + "attn.c_proj.weight"][head]]
    name = f"encoder.layer.{layer}."
    if agent >= N_HEADS:
        block = BLOCKS[agent - N_HEADS]
        into = weights[name + "intermediate.dense.weight"]
        return [into[block], weights[name + "output.dense.weight"][:, block]]
    parts = [
        weights[f"{name}attention.self.{each}.weight"][head] for each in ("query", "key", "value")
    ]
    return [*parts, weights[name + "attention.output.dense.weight"][:, head]]


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_magnitudes_are_those_of_the_weights_an_agent_owns(architecture: str) -> None:
    score_YN = squared_norms(adapter_for(tiny_model(architecture), BLOCK_SIZE))
    assert score_YN.shape == (LAYERS, AGENTS)
    for layer, agent in ((0, 0), (1, 3), (2, 4), (2, 6)):
        expected = sum(
            float(w.detach().double().square().sum()) for w in owned(architecture, layer, agent)
        )
        assert float(score_YN[layer, agent]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "architecture", ["bert", "mpnet", "gpt2", "llama", "distilbert", "roberta"]
)
def test_magnitudes_add_up_to_the_layers_matrices(architecture: str) -> None:
    adapter = adapter_for(tiny_model(architecture), BLOCK_SIZE)
    score_YN = squared_norms(adapter)
    for layer, sites in enumerate(adapter.sites):
        whole = sum(
            float(weight.detach().double().square().sum())
            for weight in sites.layer.parameters()
            if weight.ndim == 2
        )
        assert float(score_YN[layer].sum()) == pytest.approx(whole, rel=1e-9)


def test_the_magnitude_mask_keeps_the_most_weight(evidence: Evidence) -> None:
    within = allowance(evidence, 0.4)
    plan_YN = MagnitudeMask().choose(evidence, within)
    assert within.holds(plan_YN)
    score_YN = squared_norms(evidence.adapter)
    best = float((score_YN * plan_YN).sum())
    # Making weights of one closed block large brings it in.
    layer, agent = (~plan_YN[:, N_HEADS : N_HEADS + 2]).nonzero()[0].tolist()
    louder = adapter_for(tiny_model("bert", "classify"), BLOCK_SIZE)
    with torch.no_grad():
        louder.sites[layer].ffn_output.weight[:, BLOCKS[agent]] *= 10
    other = Evidence(louder, evidence.batches, evidence.trace, evidence.utility)
    changed_YN = MagnitudeMask().choose(other, within)
    assert changed_YN[layer, N_HEADS + agent] and within.holds(changed_YN)
    assert float((score_YN * changed_YN).sum()) <= best


def test_an_adapter_must_say_where_agents_read(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(evidence.adapter), "projections", ())
    with pytest.raises(EconomyError, match="does not say where agents read"):
        MagnitudeMask().choose(evidence, allowance(evidence, 0.5))


def test_head_importance_is_normalised_layer_by_layer(evidence: Evidence) -> None:
    raw_YN = evidence.gradient_XYN.abs().mean(0)
    score_YN = raw_YN.clone()
    for layer in range(LAYERS):
        score_YN[layer, :N_HEADS] /= raw_YN[layer, :N_HEADS].square().sum().sqrt()
        score_YN[layer, N_HEADS:] /= raw_YN[layer, N_HEADS:].square().sum().sqrt()
    differs = False
    for budget in (0.8, 0.6, 0.4, 0.25):
        within = allowance(evidence, budget)
        plan_YN = MichelMask().choose(evidence, within)
        assert within.holds(plan_YN)
        assert torch.equal(plan_YN, best_plan(score_YN, within))
        differs |= not torch.equal(plan_YN, TaylorMask().choose(evidence, within))
        # Heads of a layer are taken in the order of their raw scores, too.
        for layer in range(LAYERS):
            open_H, raw_H = plan_YN[layer, :N_HEADS], raw_YN[layer, :N_HEADS]
            if open_H.any() and not open_H.all():
                assert raw_H[open_H].min() >= raw_H[~open_H].max()
    assert differs
    # Scaling one layer's derivatives changes nothing, as it does for the plain first-order mask.
    scaled = [layer._replace(gradient_STN=layer.gradient_STN * 50) for layer in evidence.trace[:1]]
    louder = Evidence(
        evidence.adapter, evidence.batches, scaled + evidence.trace[1:], evidence.utility
    )
    within = allowance(evidence, 0.4)
    assert torch.equal(MichelMask().choose(louder, within), MichelMask().choose(evidence, within))
