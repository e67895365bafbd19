"""Compacted models on disk: safetensors and a config, loaded with one line."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from models import (
    AGENTS,
    ARCHITECTURES,
    BLOCK_SIZE,
    DECODERS,
    HEADS,
    LAYERS,
    N_HEADS,
    tiny_batch,
    tiny_model,
)
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)
from transformers.models.auto import configuration_auto

from agent_economy import late
from agent_economy.adapters import adapter_for
from agent_economy.compaction import load_compacted, shrink, write_back
from agent_economy.compaction.config import MODEL_TYPE, CompactedConfig
from agent_economy.errors import EconomyError

AUTO = {"none": AutoModel, "classify": AutoModelForSequenceClassification}


def ragged_plan() -> torch.Tensor:
    plan_YN = torch.rand(LAYERS, AGENTS, generator=torch.Generator().manual_seed(3)) < 0.6
    plan_YN[1, :N_HEADS], plan_YN[2, N_HEADS:] = False, False
    return plan_YN


def ragged(architecture: str, head: Any = "classify", **options: Any) -> PreTrainedModel:
    return shrink(adapter_for(tiny_model(architecture, head), BLOCK_SIZE), ragged_plan(), **options)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("head", HEADS)
@torch.no_grad()
def test_loads_with_one_line_bit_equal(architecture: str, head: Any, tmp_path: Path) -> None:
    lm = AutoModelForCausalLM if architecture in DECODERS else AutoModelForMaskedLM
    small, batch = ragged(architecture, head), tiny_batch()
    small.save_pretrained(tmp_path)
    assert {each.suffix for each in tmp_path.iterdir()} == {".json", ".safetensors"}
    expected = small(**batch)[0]
    for load in (AUTO.get(head, lm).from_pretrained, load_compacted):
        again = load(tmp_path, attn_implementation="eager")
        assert type(again) is type(small)
        assert torch.equal(again(**batch)[0], expected)
        assert again.num_parameters() == small.num_parameters()


@torch.no_grad()
def test_first_token_only_is_kept(tmp_path: Path) -> None:
    small, batch = ragged("bert", first_only=True), tiny_batch()
    small.save_pretrained(tmp_path)
    again = load_compacted(tmp_path, attn_implementation="eager")
    assert torch.equal(again(**batch).logits, small(**batch).logits)
    assert again.bert(**batch).last_hidden_state.shape[1] == 1


def test_the_config_says_what_is_left(tmp_path: Path) -> None:
    ragged("mpnet").save_pretrained(tmp_path)
    config, plan_YN = AutoConfig.from_pretrained(tmp_path), ragged_plan()
    assert config.hidden_size == 32 and config.num_labels == 3
    assert config.compaction["base_model_type"] == "mpnet"
    found_YN = torch.zeros(LAYERS, AGENTS, dtype=torch.bool)
    for layer in range(LAYERS):
        found_YN[layer, config.compaction["heads"][layer]] = True
        found_YN[layer, [N_HEADS + each for each in config.compaction["blocks"][layer]]] = True
    assert torch.equal(found_YN, plan_YN)


@pytest.mark.parametrize("architecture", ["bert", "llama"])
@torch.no_grad()
def test_other_precisions_and_a_loaded_model_written_back(
    architecture: str, tmp_path: Path, masked: Any
) -> None:
    small, batch = ragged(architecture), tiny_batch()
    small.save_pretrained(tmp_path)
    half = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half(**batch).logits.dtype == torch.bfloat16
    torch.testing.assert_close(
        half(**batch).logits.float(), small(**batch).logits, rtol=0.1, atol=0.3
    )
    full = tiny_model(architecture, "classify", seed=1)
    write_back(load_compacted(tmp_path), adapter_for(full, BLOCK_SIZE), ragged_plan())
    found = masked(full, ragged_plan(), batch)
    torch.testing.assert_close(found, small(**batch).logits, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_attention_can_be_chosen_on_loading(tmp_path: Path) -> None:
    small, batch = ragged("bert"), tiny_batch()
    small.save_pretrained(tmp_path)
    eager = load_compacted(tmp_path, attn_implementation="eager")
    assert len(eager(**batch, output_attentions=True).attentions) == LAYERS - 1  # one has no head
    eager.set_attn_implementation("sdpa")
    torch.testing.assert_close(eager(**batch).logits, small(**batch).logits, rtol=1e-5, atol=1e-5)


def test_importing_is_fast_and_enough(tmp_path: Path) -> None:
    """``import agent_economy`` brings neither torch nor transformers, and yet Auto classes know."""
    ragged("bert", "none").save_pretrained(tmp_path)
    script = f"""import sys, agent_economy
assert not {{"torch", "transformers"}} & set(sys.modules)
from transformers import AutoModel
print(type(AutoModel.from_pretrained({str(tmp_path)!r})).__name__)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "CompactedBertModel", done.stderr


def test_transformers_may_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    known = configuration_auto.CONFIG_MAPPING._extra_content
    monkeypatch.delitem(known, MODEL_TYPE)
    late.announce()
    assert known[MODEL_TYPE] is CompactedConfig


@torch.no_grad()
def test_a_copy_is_a_model_of_its_own() -> None:
    small, batch = ragged("bert"), tiny_batch()
    before = small(**batch).logits
    again = copy.deepcopy(small)
    for each in again.parameters():
        each.zero_()
    assert torch.equal(small(**batch).logits, before)


def test_what_is_no_compacted_model(tmp_path: Path) -> None:
    with pytest.raises(EconomyError, match="holds no model"):
        load_compacted(tmp_path)
    tiny_model("bert").save_pretrained(tmp_path)
    with pytest.raises(EconomyError, match=r"not compacted \(it is a 'bert'\)"):
        load_compacted(tmp_path)
    ragged("bert").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    written = json.loads(path.read_text())
    path.write_text(json.dumps({**written, "compaction": {"heads": []}}))
    with pytest.raises(EconomyError, match="does not say what is left"):
        load_compacted(tmp_path)


def test_compacting_twice_is_refused() -> None:
    with pytest.raises(EconomyError, match="agent_economy_compacted"):
        adapter_for(ragged("bert"), BLOCK_SIZE)
