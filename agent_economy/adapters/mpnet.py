"""MPNet: BERT's shape with relative positions and an attention of its own."""

from __future__ import annotations

from agent_economy.adapters.base import Adapter


class MPNetAdapter(Adapter):
    """Gates before ``attention.attn.o`` and ``output.dense``."""

    name = "mpnet"
    layers = "encoder.layer"
    attention_output = "attention.attn.o"
    ffn_output = "output.dense"
    decoder = False
    attention = "attention.attn"
    projections = ("attention.attn.q", "attention.attn.k", "attention.attn.v")
    ffn_inputs = ("intermediate.dense",)
