"""ELECTRA: BERT's layers behind an embedding of its own width."""

from __future__ import annotations

from agent_economy.adapters import Adapter


class ElectraAdapter(Adapter):
    """Gates before ``attention.output.dense`` and ``output.dense``."""

    name = "electra"
    layers = "encoder.layer"
    attention_output = "attention.output.dense"
    ffn_output = "output.dense"
    attention = "attention.self"
    projections = ("attention.self.query", "attention.self.key", "attention.self.value")
    ffn_inputs = ("intermediate.dense",)
