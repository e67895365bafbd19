"""RoBERTa: BERT's modules under another name."""

from __future__ import annotations

from agent_economy.adapters.bert import BertAdapter


class RobertaAdapter(BertAdapter):
    """BERT's sites."""

    name = "roberta"
