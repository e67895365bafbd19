"""DistilBERT: BERT without token types and pooler."""

from __future__ import annotations

from agent_economy.adapters.base import Adapter


class DistilBertAdapter(Adapter):
    """Gates before ``attention.out_lin`` and ``ffn.lin2``."""

    name = "distilbert"
    layers = "transformer.layer"
    attention_output = "attention.out_lin"
    ffn_output = "ffn.lin2"
    decoder = False
    attention = "attention"
    projections = ("attention.q_lin", "attention.k_lin", "attention.v_lin")
    ffn_inputs = ("ffn.lin1",)
    attention_dropout = "attention_dropout"
