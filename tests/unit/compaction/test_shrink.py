"""A compacted model computes what the masked reference computes, and nothing more."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import (
    AGENTS,
    ARCHITECTURES,
    BLOCK_SIZE,
    DECODERS,
    HEADS,
    HIDDEN,
    LAYERS,
    N_HEADS,
    tiny_batch,
    tiny_model,
)
from torch import Tensor, nn
from transformers import PreTrainedModel

from agent_economy.adapters import adapter_for
from agent_economy.compaction import shrink
from agent_economy.costs.tariff import layer_tariff
from agent_economy.errors import EconomyError
from agent_economy.testing.adapter_contract import count_flops, hooks

_CLOSE: dict[str, float] = {"rtol": 1e-5, "atol": 1e-5}
ENCODERS = tuple(each for each in ARCHITECTURES if each not in DECODERS)
#: MPNet computes its own attention and offers no choice
KINDS = [
    (architecture, attention)
    for architecture in ARCHITECTURES
    for attention in ("eager", "sdpa")
    if (architecture, attention) != ("mpnet", "sdpa")
]


def small_of(model: PreTrainedModel, plan_YN: Tensor, **options: Any) -> PreTrainedModel:
    return shrink(adapter_for(model, BLOCK_SIZE), plan_YN, **options)


def random_plan(seed: int, share: float = 0.5) -> Tensor:
    return torch.rand(LAYERS, AGENTS, generator=torch.Generator().manual_seed(seed)) < share


def real(output: Any, batch: dict[str, Tensor]) -> Tensor:
    """The first output; what stands at padding is nobody's business."""
    first: Tensor = output if isinstance(output, Tensor) else output[0]
    mask_BL = batch["attention_mask"].bool()
    return first[mask_BL] if first.shape[:2] == mask_BL.shape else first


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, tuple[int, ...]]:
    """A plan in which layers, all heads or all blocks may be missing, and a ragged batch."""
    plan = draw(
        st.lists(
            st.one_of(
                st.lists(st.booleans(), min_size=AGENTS, max_size=AGENTS),
                st.booleans().map(lambda heads: [heads] * N_HEADS + [not heads] * 3),
                st.booleans().map(lambda everybody: [everybody] * AGENTS),
            ),
            min_size=LAYERS,
            max_size=LAYERS,
        )
    )
    lengths = draw(st.lists(st.integers(1, 14), min_size=1, max_size=4))
    return torch.tensor(plan), tuple(lengths)


_MODELS = {
    name: tiny_model(name, attention="eager" if name == "mpnet" else "sdpa")
    for name in ("bert", "mpnet", "gpt2", "llama")
}


@pytest.mark.parametrize("architecture", _MODELS)
@given(case=cases())
@torch.no_grad()
def test_equals_the_masked_reference(architecture: str, masked: Any, case: Any) -> None:
    plan_YN, lengths = case
    model, batch = _MODELS[architecture], tiny_batch(lengths)
    found = small_of(model, plan_YN)(**batch)
    expected = masked(model, plan_YN, batch)
    torch.testing.assert_close(real(found, batch), real(expected, batch), **_CLOSE)


@pytest.mark.parametrize("architecture,attention", KINDS)
@pytest.mark.parametrize("head", HEADS)
@torch.no_grad()
def test_every_architecture_head_and_attention(
    architecture: str, attention: str, head: Any, masked: Any
) -> None:
    model, batch = tiny_model(architecture, head, attention=attention), tiny_batch()
    dense = real(model(**batch), batch)
    for seed in range(2):
        plan_YN = random_plan(seed)
        plan_YN[seed, :N_HEADS] = False
        found = real(small_of(model, plan_YN)(**batch), batch)
        assert not torch.allclose(found, dense, atol=0.01)
        torch.testing.assert_close(found, real(masked(model, plan_YN, batch), batch), **_CLOSE)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_a_full_plan_is_the_dense_model(architecture: str) -> None:
    model, batch = tiny_model(architecture, "lm"), tiny_batch()
    small = small_of(model, torch.ones(LAYERS, AGENTS, dtype=torch.bool))
    torch.testing.assert_close(real(small(**batch), batch), real(model(**batch), batch), **_CLOSE)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_only_the_flops_of_the_plan_run(architecture: str) -> None:
    """The tariff is the oracle: heads that stay, their key/value heads, neurons that stay."""
    model, batch = tiny_model(architecture, attention="eager"), tiny_batch()
    adapter, plan_YN = adapter_for(model, BLOCK_SIZE), random_plan(3)
    plan_YN[1, :N_HEADS] = False
    plan_YN[2, N_HEADS:] = False
    plan_YN[0, :N_HEADS] = torch.tensor([True, True, False, False])
    small = shrink(adapter, plan_YN)
    tariff = layer_tariff(adapter.shape, batch["attention_mask"].bool(), computed=True)
    per_agent_N = tariff.served_flops_BN.sum(0)
    closed = (per_agent_N * ~plan_YN).sum()
    heads_YUg = plan_YN[:, :N_HEADS].unflatten(1, (adapter.shape.kv_heads, -1))
    closed += (tariff.setup_flops_BU.sum(0) * ~heads_YUg.any(-1)).sum()
    shown = {"output_attentions": True} if architecture == "mpnet" else {}  # SDPA is not counted
    saved = count_flops(lambda: model(**batch)) - count_flops(lambda: small(**batch, **shown))
    assert saved == pytest.approx(int(closed), rel=1e-3)


@pytest.mark.parametrize("architecture", ENCODERS)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_first_token_only(architecture: str, attention: str, masked: Any) -> None:
    attention = "eager" if architecture == "mpnet" else attention
    model, batch = tiny_model(architecture, "classify", attention=attention), tiny_batch()
    for seed in range(5):
        plan_YN = random_plan(seed)
        if seed >= 3:  # no heads, then no neurons in the last layer
            plan_YN[-1, slice(N_HEADS) if seed == 3 else slice(N_HEADS, None)] = False
        small = small_of(model, plan_YN, first_only=True)
        torch.testing.assert_close(small(**batch).logits, masked(model, plan_YN, batch), **_CLOSE)
    plan_YN = random_plan(0)
    small, whole = (small_of(model, plan_YN, first_only=first) for first in (True, False))
    assert count_flops(lambda: small(**batch)) < count_flops(lambda: whole(**batch))


@pytest.mark.parametrize("architecture", DECODERS)
def test_a_decoder_is_read_at_its_last_token(architecture: str) -> None:
    with pytest.raises(EconomyError, match="decoder, whose last token"):
        small_of(tiny_model(architecture, "classify"), random_plan(0), first_only=True)


@pytest.mark.parametrize("architecture", DECODERS)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_generates_with_a_cache(architecture: str, attention: str) -> None:
    """The same tokens as without, though the first layer, whose length counts, has no head."""
    model = tiny_model(architecture, "lm", attention=attention)
    plan_YN = random_plan(1)
    plan_YN[0, :N_HEADS] = False
    small = small_of(model, plan_YN)
    ids_BL = tiny_batch((6, 6))["input_ids"]
    options: dict[str, Any] = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
    for beams in (1, 2):
        cached = small.generate(ids_BL, use_cache=True, num_beams=beams, **options)
        plain = small.generate(ids_BL, use_cache=False, num_beams=beams, **options)
        assert cached.shape == (2, 14)
        assert torch.equal(cached, plain)
    cache = small(ids_BL, use_cache=True).past_key_values
    together = small(torch.cat((ids_BL, ids_BL[:, :1]), 1)).logits[:, -1]
    stepped = small(ids_BL[:, :1], past_key_values=cache).logits[:, -1]
    torch.testing.assert_close(stepped, together, **_CLOSE)


@torch.no_grad()
def test_a_cache_holds_each_key_value_head_once() -> None:
    """Llama's heads 0 and 1 share key/value head 0; 3 reads head 1, 2 has left."""
    model = tiny_model("llama", "lm")
    plan_YN = torch.ones(LAYERS, AGENTS, dtype=torch.bool)
    plan_YN[0, 2] = False
    plan_YN[1, 2:N_HEADS] = False
    cache = small_of(model, plan_YN)(**tiny_batch(), use_cache=True).past_key_values
    assert [layer.keys.shape[1] for layer in cache.layers] == [2, 1, 2]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_copy_is_plain_trainable_and_apart(architecture: str) -> None:
    model = tiny_model(architecture, "classify")
    before = {name: each.clone() for name, each in model.state_dict().items()}
    model(**tiny_batch(), output_hidden_states=True)  # transformers leaves its own hooks there
    model.base_model.get_input_embeddings().weight.requires_grad_(False)
    small = small_of(model, random_plan(2))
    assert not hooks(small)
    small.train()
    small(**tiny_batch(), labels=torch.tensor([0, 1, 2])).loss.backward()
    for name, each in small.named_parameters():
        if each.requires_grad:
            assert each.grad is not None or "pooler" in name, name
            each.data.add_(1)
    assert not small.base_model.get_input_embeddings().weight.requires_grad
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())


@pytest.mark.parametrize("architecture", ENCODERS)
def test_gradients_are_those_of_the_masked_model(architecture: str) -> None:
    """Of every weight outside the agents, and of what the agents that stay own."""
    model, batch = tiny_model(architecture, "classify"), tiny_batch()
    plan_YN, adapter = random_plan(4), adapter_for(model, BLOCK_SIZE)
    small = shrink(adapter, plan_YN)
    labels = torch.tensor([0, 1, 2])
    small(**batch, labels=labels).loss.backward()
    columns_W = plan_YN[0, :N_HEADS].repeat_interleave(adapter.shape.head_dim)
    neurons_F = plan_YN[0, N_HEADS:].repeat_interleave(torch.tensor(adapter.shape.block_sizes))
    with torch.no_grad():  # what a closed agent writes is zero: so are its weights
        for plan_N, sites in zip(plan_YN, adapter.sites, strict=True):
            sizes = torch.tensor(adapter.shape.block_sizes)
            sites.attention_output.weight[:, ~plan_N[:N_HEADS].repeat_interleave(8)] = 0
            sites.ffn_output.weight[:, ~plan_N[N_HEADS:].repeat_interleave(sizes)] = 0
    model(**batch, labels=labels).loss.backward()
    given = dict(small.named_parameters())
    compared = 0
    for name, each in model.named_parameters():
        if name in given and given[name].shape == each.shape and each.grad is not None:
            torch.testing.assert_close(given[name].grad, each.grad, rtol=1e-4, atol=1e-5)
            compared += 1
    assert compared > 10
    layer = next(each for each in small.modules() if each.__class__.__name__ == "CompactAttention")
    full_Q = adapter.sites[0].layer.get_submodule(adapter.projections[0]).weight.grad[columns_W]
    torch.testing.assert_close(
        layer.projection.weight.grad[: len(full_Q)], full_Q, rtol=1e-4, atol=1e-5
    )
    assert neurons_F.any()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_hidden_states_and_attentions_are_recorded(architecture: str) -> None:
    model, batch = tiny_model(architecture, "classify", attention="eager"), tiny_batch()
    plan_YN = torch.ones(LAYERS, AGENTS, dtype=torch.bool)
    plan_YN[1, 1] = False
    output = small_of(model, plan_YN)(**batch, output_hidden_states=True, output_attentions=True)
    assert [each.shape for each in output.hidden_states] == [(3, 11, HIDDEN)] * (LAYERS + 1)
    assert [each.shape[1] for each in output.attentions] == [4, 3, 4]
    rows = output.attentions[1].sum(-1)[batch["attention_mask"].bool()[:, None].expand(-1, 3, -1)]
    torch.testing.assert_close(rows, torch.ones_like(rows))


def test_keeps_dtype_mode_and_requires_no_more_memory() -> None:
    model = tiny_model("bert", "classify").to(torch.bfloat16).train()
    small = small_of(model, random_plan(5))
    assert {each.dtype for each in small.parameters()} == {torch.bfloat16}
    assert small.training and all(each.training for each in small.modules())
    assert small.num_parameters() < model.num_parameters()
    assert all(type(each) is not nn.Linear or each.weight.numel() for each in small.modules())


@pytest.mark.parametrize(
    "plan_YN",
    [
        torch.ones(LAYERS, AGENTS),
        torch.ones(LAYERS, AGENTS + 1, dtype=torch.bool),
        torch.ones(LAYERS - 1, AGENTS, dtype=torch.bool),
    ],
)
def test_a_plan_for_another_model(plan_YN: Tensor) -> None:
    with pytest.raises(EconomyError, match=r"bool tensor of shape \(3, 7\)"):
        small_of(tiny_model("bert"), plan_YN)


def test_an_adapter_that_does_not_say_where_weights_are_sliced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_model("bert")
    adapter = adapter_for(model, BLOCK_SIZE)
    monkeypatch.setattr(type(adapter), "projections", ())
    with pytest.raises(EconomyError, match=r"does not say where.*docs/adapters.md"):
        shrink(adapter, random_plan(0))


def test_an_attention_with_weights_of_its_own() -> None:
    model = tiny_model("llama")
    model.layers[0].self_attn.q_norm = nn.LayerNorm(8)
    with pytest.raises(EconomyError, match=r"weight 'q_norm\.weight'"):
        small_of(model, random_plan(0))
