"""A tiny random encoder and tiny tasks that it can learn, in folders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    LlamaConfig,
    LlamaForCausalLM,
)

torch.set_num_threads(1)

GRADES = ("zero", "one", "two", "three", "four", "five")
WORDS = (*GRADES, "good", "bad", "the", "a", "film", "story", "was", "is", "very", "and")


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two layers, with dropout, so that a resumed training must draw what a whole one draws."""
    folder = tmp_path_factory.mktemp("encoder")
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocab), "utf-8")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=24,
    )
    BertModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SST-2: the word good or bad; STS-B: the grade is written in the second sentence; CoLA: is."""
    folder = tmp_path_factory.mktemp("data")
    for task in ("sst2", "stsb", "cola", "mnli"):
        (folder / task).mkdir()
    for part, count in (("train", 90), ("dev", 36)):
        lines = [
            f"{i % 2}\t{('the film was', 'a very very')[i // 2 % 2]} {['bad', 'good'][i % 2]}"
            for i in range(count)
        ]
        (folder / "sst2" / f"{part}.tsv").write_text("\n".join(["label\tsentence", *lines]) + "\n")
        lines = [
            f"g\tf\ty\t{i}\t{i % 6}.000\ta story{' and' * (i % 5)}\tis {GRADES[i % 6]}"
            for i in range(count)
        ]
        (folder / "stsb" / f"sts-{part}.csv").write_text("\n".join(lines) + "\n")
    for part in ("train", "val", "in_domain_dev"):
        lines = [f"s\t{i % 2}\t\tthe film {('was', 'is')[i % 2]} good" for i in range(30)]
        (folder / "cola" / f"{part}.tsv").write_text("\n".join(lines) + "\n")
    labels = ("entailment", "neutral", "contradiction")
    lines = [
        f'"For the statement, ""{GRADES[i % 6]}"", does the hypothesis ""{GRADES[i % 3]}"" '
        f'represent entailment, contradiction, or neutrality?",{labels[i % 3]},mnli'
        for i in range(30)
    ]
    train = "\n".join(["Question,Answer,Origin", *lines]) + "\n"
    (folder / "mnli" / "mnli_train_10k.csv").write_text(train)
    lines = [
        f'{{"premise": "{GRADES[i % 6]}", "hypothesis": "{GRADES[i % 3]}", '
        f'"label": "{labels[i % 3]}"}}'
        for i in range(12)
    ]
    (folder / "mnli" / "dev_matched_a.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def decoder(tmp_path_factory: pytest.TempPathFactory, data: Path) -> str:
    """Two layers with shared keys and values, and some WikiText for it beside the other tasks."""
    folder = tmp_path_factory.mktemp("decoder")
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocab), "utf-8")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocab),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    (data / "wikitext-2").mkdir(exist_ok=True)
    for part, count in (("train", 40), ("valid", 12)):
        lines = [
            f" the film was {GRADES[i % 6]} and the story is very {('bad', 'good')[i % 2]} . " * 5
            for i in range(count)
        ]
        text = " = a film = \n" + "\n".join(lines) + "\n"
        (data / "wikitext-2" / f"wiki.{part}.tokens").write_text(text, "utf-8")
    return str(folder)
