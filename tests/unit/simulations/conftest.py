"""A tiny BERT in a folder, with a tokenizer that knows letters."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast, PreTrainedModel

from simulations.scarcity.config import ScarcityConfig


def write_tiny(folder: Path, model: type[PreTrainedModel], **extra: int) -> str:
    """A random model of that class and its tokenizer."""
    letters = list(string.ascii_lowercase + string.digits + string.punctuation)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters)]
    (folder / "vocab.txt").write_text("\n".join(words), "utf-8")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        **extra,
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=80,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    model(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny(tmp_path_factory.mktemp("tiny-bert"), BertModel)


@pytest.fixture(scope="session")
def tiny_study(tiny_folder: str) -> ScarcityConfig:
    return ScarcityConfig.model_validate(
        {
            "model": tiny_folder,
            "steps": 2,
            "batch_size": 3,
            "max_tokens": 24,
            "calibration_texts": 6,
            "block_size": 32,
            "budgets": [1.0, 0.5],
            "seeds": [0],
            "showcase": "a short sentence",
            "markets": [
                {"mechanism": "uniform_price", "policies": ["taylor", "random"]},
                {"mechanism": "uniform_price", "scope": "token"},
                {"mechanism": "posted_price"},
                {"mechanism": "uniform"},
            ],
        }
    )
