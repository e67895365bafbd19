"""The models that executors are timed on: known shapes with random weights, which take as long."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from agent_economy.adapters import Adapter, adapter_for

BLOCK_SIZE = 128

_BERT_SIZES: dict[str, dict[str, int]] = {
    "minilm": {
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
    },
    # MPNet's shape as a BERT, since MPNet has no SDPA to be compared with.
    "mpnet": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
}
SHAPES = tuple(_BERT_SIZES)


class Batch(NamedTuple):
    """A batch without padding."""

    rows: int
    length: int

    @property
    def name(self) -> str:
        """What tables call it: ``ROWS x LENGTH``."""
        return f"{self.rows} x {self.length}"


def encoder(shape: str, **sizes: int) -> Adapter:
    """An encoder alone, at SDPA, in evaluation mode.

    Args:
        shape: one of ``SHAPES``.
        sizes: of the config, instead of the shape's own (for tests).
    """
    torch.manual_seed(0)
    config = BertConfig(**{**_BERT_SIZES[shape], "max_position_embeddings": 512, **sizes})
    config._attn_implementation = "sdpa"
    return _adapter(BertModel(config, add_pooling_layer=False))


def decoder(**sizes: int) -> Adapter:
    """SmolLM2-135M's shape, at SDPA, in evaluation mode."""
    torch.manual_seed(0)
    smollm2 = {
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "intermediate_size": 1536,
        "vocab_size": 49152,
        "max_position_embeddings": 512,
    }
    config = LlamaConfig(**{**smollm2, **sizes}, tie_word_embeddings=True)
    config._attn_implementation = "sdpa"
    return _adapter(LlamaForCausalLM(config))


def inputs(adapter: Adapter, batch: Batch) -> dict[str, Any]:
    """Random tokens on the model's device."""
    device = next(adapter.model.parameters()).device
    most: int = adapter.model.config.vocab_size
    generator = torch.Generator().manual_seed(1)
    ids_BL = torch.randint(1, most, tuple(batch), generator=generator).to(device)
    return {"input_ids": ids_BL, "attention_mask": torch.ones_like(ids_BL)}


def _adapter(model: PreTrainedModel) -> Adapter:
    return adapter_for(model.eval(), min(BLOCK_SIZE, model.config.intermediate_size))
