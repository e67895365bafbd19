"""Tiny random models of every architecture that has an adapter, with and without task heads.

Sizes are awkward on purpose: the last neuron block is smaller, Llama shares key/value heads.
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertTokenizerFast,
    PreTrainedModel,
)

# Matrices this small gain nothing from threads, and lose much where test processes share cores.
torch.set_num_threads(1)

Head = Literal["none", "classify", "lm"]

ARCHITECTURES = ("bert", "roberta", "distilbert", "mpnet", "gpt2", "llama")
DECODERS = ("gpt2", "llama")
HEADS: tuple[Head, ...] = ("none", "classify", "lm")

LAYERS, HIDDEN, N_HEADS, FFN, VOCAB = 3, 32, 4, 40, 61
#: leaves a last block of 8 neurons
BLOCK_SIZE = 16
#: heads, then the blocks of 16, 16 and 8 neurons
AGENTS = N_HEADS + 3
PAD = 1

_COMMON = {"vocab_size": VOCAB, "pad_token_id": PAD, "num_labels": 3}
_BERT_LIKE = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": N_HEADS,
    "intermediate_size": FFN,
    "max_position_embeddings": 40,
}
_SIZES: dict[str, dict[str, Any]] = {
    "bert": _BERT_LIKE,
    "roberta": _BERT_LIKE,
    "mpnet": _BERT_LIKE,
    "distilbert": {
        "dim": HIDDEN,
        "n_layers": LAYERS,
        "n_heads": N_HEADS,
        "hidden_dim": FFN,
        "max_position_embeddings": 40,
    },
    "gpt2": {
        "n_embd": HIDDEN,
        "n_layer": LAYERS,
        "n_head": N_HEADS,
        "n_inner": FFN,
        "n_positions": 40,
        "bos_token_id": 0,
        "eos_token_id": 0,
    },
    "llama": {**_BERT_LIKE, "num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 0},
}


def tiny_model(
    architecture: str, head: Head = "none", *, attention: str = "eager", seed: int = 0
) -> PreTrainedModel:
    """A random model in evaluation mode whose every weight, biases included, matters."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(architecture, **_COMMON, **_SIZES[architecture])
    auto = {
        "none": AutoModel,
        "classify": AutoModelForSequenceClassification,
        "lm": AutoModelForCausalLM if architecture in DECODERS else AutoModelForMaskedLM,
    }[head]
    model = auto.from_config(config, attn_implementation=attention).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.15 * torch.randn_like(weight))
    return model


def tiny_batch(lengths: tuple[int, ...] = (11, 7, 4), seed: int = 0) -> dict[str, Tensor]:
    """Random tokens, padded on the right."""
    generator = torch.Generator().manual_seed(seed)
    mask_BL = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    ids_BL = torch.randint(2, VOCAB, mask_BL.shape, generator=generator)
    return {
        "input_ids": torch.where(mask_BL, ids_BL, PAD),
        "attention_mask": mask_BL.long(),
    }


def write_tiny(folder: Path, model: type[PreTrainedModel], **extra: int) -> str:
    """A folder with a random BERT of that class, and a tokenizer that knows letters."""
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
