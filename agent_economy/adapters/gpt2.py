"""GPT-2: pre-norm decoder whose projections are ``Conv1D``."""

from __future__ import annotations

from agent_economy.adapters.base import Adapter


class GPT2Adapter(Adapter):
    """Gates before ``attn.c_proj`` and ``mlp.c_proj``."""

    name = "gpt2"
    layers = "h"
    attention_output = "attn.c_proj"
    ffn_output = "mlp.c_proj"
    decoder = True
    attention = "attn"
    projections = ("attn.c_attn",)
    ffn_inputs = ("mlp.c_fc",)
    attention_dropout = "attn_pdrop"
    output_dropout = "resid_pdrop"
