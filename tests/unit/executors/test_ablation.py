"""Losses under whole allocations: against the model itself, and what random ones look like."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from models import AGENTS, ARCHITECTURES, BLOCK_SIZE, LAYERS, PAD, tiny_batch, tiny_model

from agent_economy.adapters import adapter_for
from agent_economy.costs.tariff import layer_tariff
from agent_economy.errors import EconomyError
from agent_economy.executors.ablation import measure_ablations, row_losses
from agent_economy.executors.masked import MaskedExecutor
from agent_economy.executors.trace import trace
from agent_economy.tasks.utility import EmbeddingFidelity, LabelledScore, NextTokenFidelity
from agent_economy.testing.adapter_contract import Gates, hooks, without_agent

BATCH = tiny_batch((6, 3, 5))
REAL_BL = BATCH["attention_mask"].bool()


def squares(output: Any, batch: dict[str, Any]) -> torch.Tensor:
    """A loss per row that every output matters to."""
    return (output[0].square().sum(-1) * batch["attention_mask"]).sum(-1)


def ones() -> list[torch.Tensor]:
    return [torch.ones(*REAL_BL.shape, AGENTS) for _ in range(LAYERS)]


# --- losses under given gates -------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_dense_is_the_plain_model(architecture: str) -> None:
    model = tiny_model(architecture)
    adapter = adapter_for(model, BLOCK_SIZE)
    with torch.no_grad():
        plain_B = squares(model(**BATCH), BATCH)
    assert torch.equal(row_losses(adapter, BATCH, squares, None), plain_B)
    assert torch.equal(row_losses(adapter, BATCH, squares, ones()), plain_B)


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_a_closed_agent_is_a_zeroed_slice_of_the_weights(architecture: str) -> None:
    model = tiny_model(architecture)
    adapter = adapter_for(model, BLOCK_SIZE)
    for layer, agent in ((0, 1), (1, AGENTS - 1), (2, 4)):
        gates = ones()
        gates[layer][..., agent] = 0.0
        with without_agent(adapter, layer, agent), torch.no_grad():
            oracle_B = squares(model(**BATCH), BATCH)
        found_B = row_losses(adapter, BATCH, squares, gates)
        torch.testing.assert_close(found_B, oracle_B, rtol=1e-5, atol=1e-5)


def test_gates_of_all_layers_at_once_are_the_masked_executors() -> None:
    adapter = adapter_for(tiny_model("bert"), BLOCK_SIZE)
    generator = torch.Generator().manual_seed(1)
    gates = [torch.rand(*REAL_BL.shape, AGENTS, generator=generator) for _ in range(LAYERS)]
    with torch.no_grad():
        output, _ = MaskedExecutor(adapter).run(BATCH, Gates(dict(enumerate(gates))))
    assert torch.equal(row_losses(adapter, BATCH, squares, gates), squares(output, BATCH))


def test_rows_do_not_touch_each_other() -> None:
    adapter = adapter_for(tiny_model("bert"), BLOCK_SIZE)
    gates = ones()
    gates[0][1] = 0.0
    moved_B = row_losses(adapter, BATCH, squares, gates) != row_losses(
        adapter, BATCH, squares, None
    )
    assert moved_B.tolist() == [False, True, False]


def test_no_gradient_is_kept_and_no_hook_stays() -> None:
    model = tiny_model("bert")
    adapter = adapter_for(model, BLOCK_SIZE)
    gates = [gate.requires_grad_() for gate in ones()]
    assert not row_losses(adapter, BATCH, squares, gates).requires_grad

    def fail(*_: Any) -> None:
        raise RuntimeError("mid-forward")

    handle = adapter.sites[-1].layer.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="mid-forward"):
        row_losses(adapter, BATCH, squares, ones())
    handle.remove()
    assert not hooks(model)


def test_one_gate_tensor_per_layer() -> None:
    adapter = adapter_for(tiny_model("bert"), BLOCK_SIZE)
    with pytest.raises(EconomyError, match="2 gate tensors for a model of 3 layers"):
        row_losses(adapter, BATCH, squares, ones()[:2])


# --- random allocations -------------------------------------------------------------------------


def test_changes_are_the_measured_losses_of_the_gates_tried() -> None:
    adapter = adapter_for(tiny_model("bert"), BLOCK_SIZE)
    utility, other = EmbeddingFidelity(), tiny_batch((4, 4, 2), seed=3)
    with torch.no_grad():
        references = [utility.reference(adapter.model(**b), b) for b in (BATCH, other)]
    found = measure_ablations(adapter, [BATCH, other], utility, (0.1, 0.5), draws=5, seed=2)
    assert len(found) == 10
    for index, each in enumerate(found):
        batch, reference = (BATCH, other)[index // 5], references[index // 5]

        def loss(output: Any, b: Any, reference: torch.Tensor = reference) -> torch.Tensor:
            return utility.row_loss(output, b, reference)

        assert torch.equal(each.mask_BL, batch["attention_mask"].bool())
        expected_B = row_losses(adapter, batch, loss, each.gates)
        torch.testing.assert_close(each.change_B, expected_B, rtol=1e-6, atol=1e-12)
        assert (each.change_B >= 0).all()
    assert float(torch.stack([each.change_B.mean() for each in found]).mean()) > 1e-4


def test_labelled_changes_subtract_the_dense_loss() -> None:
    adapter = adapter_for(tiny_model("bert", "classify"), BLOCK_SIZE)
    batch = BATCH | {"labels": torch.tensor([0, 2, 1])}
    utility = LabelledScore("accuracy", regression=False)
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    with torch.no_grad():
        dense = adapter.model(**inputs)
    (each,) = measure_ablations(adapter, [batch], utility, (0.5,), draws=1)
    gated_B = row_losses(adapter, batch, lambda o, b: utility.row_loss(o, b, None), each.gates)
    dense_B = torch.nn.functional.cross_entropy(dense.logits, batch["labels"], reduction="none")
    torch.testing.assert_close(each.change_B, gated_B - dense_B.double())


def test_next_token_changes_on_a_decoder() -> None:
    adapter = adapter_for(tiny_model("gpt2", "lm"), BLOCK_SIZE)
    found = measure_ablations(adapter, [BATCH], NextTokenFidelity(), (0.3, 0.6), draws=4)
    change_XB = torch.stack([each.change_B for each in found])
    assert (change_XB >= 0).all(), "a divergence"
    assert float(change_XB.mean()) > 1e-3


def test_hidden_states_are_the_dense_ones() -> None:
    adapter = adapter_for(tiny_model("bert"), BLOCK_SIZE)
    with torch.no_grad():
        states = adapter.model(**BATCH, output_hidden_states=True).hidden_states
    found = measure_ablations(adapter, [BATCH], EmbeddingFidelity(), draws=2)
    assert found[0].hidden is found[1].hidden
    for own, expected in zip(found[0].hidden, states, strict=False):
        assert torch.equal(own, expected)


def test_closed_shares_are_those_asked_for() -> None:
    """Every kind of allocation, at every fraction, closes that share of real pairs on average."""
    adapter = adapter_for(tiny_model("bert"), BLOCK_SIZE)
    fractions = (0.05, 0.3, 0.6)
    batch = tiny_batch((30, 22, 30), seed=1)
    mask_BL1 = batch["attention_mask"].bool()[..., None]
    found = measure_ablations(adapter, [batch], EmbeddingFidelity(), fractions, draws=240, seed=0)
    shares = torch.zeros(4, 3)
    for draw, each in enumerate(found):
        assert all(gate[~mask_BL1.expand_as(gate)].all() for gate in each.gates), "padding is open"
        closed = [(~gate & mask_BL1).sum((1, 2)) / mask_BL1.sum((1, 2)) for gate in each.gates]
        share_B = torch.stack(closed).mean(0) / AGENTS
        for row in range(3):
            shares[draw % 4, (row + draw // 4) % 3] += share_B[row] / 60
    expected = torch.tensor(fractions).expand(4, 3)
    torch.testing.assert_close(shares, expected, rtol=0.12, atol=0.01)


def test_kinds_of_allocation() -> None:
    adapter = adapter_for(tiny_model("bert"), BLOCK_SIZE)
    batch = tiny_batch((30, 30), seed=1)
    found = measure_ablations(adapter, [batch], EmbeddingFidelity(), (0.5,), draws=4, seed=0)
    scattered, agents, uneven, market = (each.gates[0].float() for each in found)
    assert (agents == agents[:, :1]).all(), "whole agents"
    assert not (scattered == scattered[:, :1]).all()
    assert uneven.mean(1).std() > 2 * scattered.mean(1).std(), "agents differ"
    assert not (market == market[:, :1]).all(), "per token"
    assert float(market.mean()) == pytest.approx(0.5, abs=0.01), "a quantile, not a chance"


def test_market_like_allocations_close_what_adds_little_per_flop() -> None:
    """Over many draws the closed pairs have the lower density."""
    adapter = adapter_for(tiny_model("bert"), BLOCK_SIZE)
    batch = tiny_batch((20, 20), seed=1)
    found = measure_ablations(adapter, [batch], EmbeddingFidelity(), (0.3,), draws=80, seed=0)
    (norms, *_) = trace(adapter, [batch], lambda o, b, g: o[0].sum())
    flops_N = layer_tariff(adapter.shape, batch["attention_mask"].bool()).token_flops_BNL[0, :, 0]
    density_TN = norms.norm_TN / flops_N
    open_TN = torch.stack([each.gates[0].flatten(0, 1) for each in found[3::4]]).float().mean(0)
    ranks = torch.stack((density_TN.flatten(), open_TN.flatten())).argsort(1).argsort(1).float()
    assert float(torch.corrcoef(ranks)[0, 1]) > 0.7


def test_a_given_value_makes_a_fifth_kind() -> None:
    """Agent 2 is worth nothing: a market with such bids closes it nearly always."""
    adapter = adapter_for(tiny_model("bert"), BLOCK_SIZE)
    batch = tiny_batch((20, 20), seed=1)
    flops_N = layer_tariff(adapter.shape, batch["attention_mask"].bool()).token_flops_BNL[0, :, 0]

    def value(layer: int, hidden_BLD: torch.Tensor) -> torch.Tensor:
        value_N = flops_N * (1.0 + 1e9 * (torch.arange(AGENTS) != 2 + layer))
        return value_N.expand(*hidden_BLD.shape[:2], -1)

    found = measure_ablations(adapter, [batch], EmbeddingFidelity(), (0.3,), draws=25, value=value)
    for layer in range(LAYERS):
        market = torch.stack([each.gates[layer].float() for each in found[4::5]]).mean((0, 1, 2))
        assert market.argmin() == 2 + layer
        assert float(market[2 + layer]) < 0.05


def test_draws_repeat_under_their_seed_alone() -> None:
    adapter = adapter_for(tiny_model("bert"), BLOCK_SIZE)
    torch.manual_seed(1)
    one = measure_ablations(adapter, [BATCH], EmbeddingFidelity(), draws=6, seed=7)
    torch.manual_seed(2)
    again = measure_ablations(adapter, [BATCH], EmbeddingFidelity(), draws=6, seed=7)
    other = measure_ablations(adapter, [BATCH], EmbeddingFidelity(), draws=6, seed=8)
    for a, b in zip(one, again, strict=True):
        assert torch.equal(a.change_B, b.change_B)
        assert all(torch.equal(x, y) for x, y in zip(a.gates, b.gates, strict=True))
    assert any(not torch.equal(a.change_B, b.change_B) for a, b in zip(one, other, strict=True))


def test_padding_changes_nothing() -> None:
    adapter = adapter_for(tiny_model("bert"), BLOCK_SIZE)
    changed = {**BATCH, "input_ids": torch.where(REAL_BL, BATCH["input_ids"], PAD + 5)}
    one = measure_ablations(adapter, [BATCH], EmbeddingFidelity(), draws=6)
    other = measure_ablations(adapter, [changed], EmbeddingFidelity(), draws=6)
    for a, b in zip(one, other, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a.gates, b.gates, strict=True))
        torch.testing.assert_close(a.change_B, b.change_B, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(
    ("batches", "fractions", "draws", "message"),
    [
        ([], (0.5,), 1, "at least one batch"),
        ([BATCH], (0.5,), 0, "cannot try 0 allocations"),
        ([BATCH], (), 1, r"closed fractions \[\]"),
        ([BATCH], (1.0,), 1, "between 0 and 1"),
    ],
)
def test_bad_input(batches: list[Any], fractions: Any, draws: int, message: str) -> None:
    adapter = adapter_for(tiny_model("bert"), BLOCK_SIZE)
    with pytest.raises(EconomyError, match=message):
        measure_ablations(adapter, batches, EmbeddingFidelity(), fractions, draws)
