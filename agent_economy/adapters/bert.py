"""BERT: post-norm encoder; its FFN has no module of its own."""

from __future__ import annotations

from agent_economy.adapters.base import Adapter


class BertAdapter(Adapter):
    """Gates before ``attention.output.dense`` and ``output.dense``."""

    name = "bert"
    layers = "encoder.layer"
    attention_output = "attention.output.dense"
    ffn_output = "output.dense"
    attention = "attention.self"
    projections = ("attention.self.query", "attention.self.key", "attention.self.value")
    ffn_inputs = ("intermediate.dense",)
