"""What adapters refuse, and what they read off particular architectures."""

from __future__ import annotations

import pytest
from models import AGENTS, ARCHITECTURES, BLOCK_SIZE, DECODERS, LAYERS, tiny_model
from transformers import BertConfig, BertLMHeadModel, T5Config, T5EncoderModel

from agent_economy.adapters import adapter_for
from agent_economy.economy import Economy
from agent_economy.errors import EconomyError
from agent_economy.mechanisms import MECHANISMS


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_shape(architecture: str) -> None:
    adapter = adapter_for(tiny_model(architecture), BLOCK_SIZE)
    shape = adapter.shape
    assert len(adapter.sites) == LAYERS
    assert shape.agents == AGENTS
    assert shape.block_sizes == (16, 16, 8)
    assert (shape.hidden, shape.heads, shape.head_dim, shape.ffn) == (32, 4, 8, 40)
    assert shape.kv_heads == (2 if architecture == "llama" else 4)
    assert shape.ffn_matrices == (3 if architecture == "llama" else 2)
    assert shape.causal == (architecture in DECODERS)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_economy_has_one_row_per_agent(architecture: str) -> None:
    model = tiny_model(architecture)
    causal = architecture in DECODERS
    economy = Economy.from_model(
        model,
        block_size=BLOCK_SIZE,
        mechanism={"name": "posted_price" if causal else "uniform_price"},
    )
    names = economy.population.names()
    assert len(names) == LAYERS * AGENTS
    assert names[:5] == ["L0 head 0", "L0 head 1", "L0 head 2", "L0 head 3", "L0 block 0"]
    assert names[-1] == "L2 block 2"


def test_a_bert_decoder_is_causal() -> None:
    config = BertConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=40,
        vocab_size=61,
        is_decoder=True,
    )
    assert adapter_for(BertLMHeadModel(config), BLOCK_SIZE).shape.causal


def test_an_unknown_architecture_names_the_nearest_and_the_guide() -> None:
    model = tiny_model("bert")
    model.config.model_type = "bort"
    with pytest.raises(EconomyError) as error:
        Economy.from_model(model)
    message = str(error.value)
    assert "unknown architecture 'bort'; did you mean 'bert'?" in message
    assert "docs/adapters.md" in message
    assert "\n" not in message


def test_an_architecture_like_no_other_lists_what_is_known() -> None:
    sizes = {"d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    with pytest.raises(EconomyError, match=r"architecture 't5'; known: bert, .*adapters\.md"):
        Economy.from_model(T5EncoderModel(T5Config(vocab_size=61, **sizes)))


@pytest.mark.parametrize("architecture", DECODERS)
def test_a_decoder_takes_causal_mechanisms_only(architecture: str) -> None:
    model = tiny_model(architecture)
    for name, member in MECHANISMS.members().items():
        for scope in member.scopes:
            changes = {"mechanism": {"name": name, "scope": scope}, "block_size": BLOCK_SIZE}
            if member(scope).guarantees.causal:
                Economy.from_model(model, **changes)
                continue
            with pytest.raises(EconomyError, match=r"later tokens.*decoder.*posted_price"):
                Economy.from_model(model, **changes)


@pytest.mark.parametrize("block_size", [41, 128])
def test_a_block_larger_than_the_ffn(block_size: int) -> None:
    with pytest.raises(EconomyError, match="choose 1 to 40"):
        Economy.from_model(tiny_model("bert"), block_size=block_size)


def test_layers_of_different_width_need_their_own_adapter() -> None:
    model = tiny_model("bert")
    dense = model.encoder.layer[1].output.dense
    model.encoder.layer[1].output.dense = type(dense)(24, 32)
    with pytest.raises(EconomyError, match="different widths"):
        adapter_for(model, BLOCK_SIZE)
