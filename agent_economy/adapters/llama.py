"""Llama: pre-norm decoder with grouped-query attention and a gated FFN."""

from __future__ import annotations

from agent_economy.adapters.base import Adapter


class LlamaAdapter(Adapter):
    """Gates before ``self_attn.o_proj`` and ``mlp.down_proj``."""

    name = "llama"
    layers = "layers"
    attention_output = "self_attn.o_proj"
    ffn_output = "mlp.down_proj"
    gated_ffn = True
    decoder = True
    attention = "self_attn"
    projections = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    ffn_inputs = ("mlp.gate_proj", "mlp.up_proj")
    attention_dropout = "attention_dropout"
