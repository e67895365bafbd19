"""The adapter of an outside package keeps the contract that the library's own keep."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    ElectraConfig,
    ElectraForSequenceClassification,
    ElectraModel,
    PreTrainedModel,
)

from agent_economy.testing.adapter_contract import AdapterContract


class TestElectra(AdapterContract):
    @pytest.fixture(params=[ElectraModel, ElectraForSequenceClassification])
    def model(self, request: pytest.FixtureRequest) -> PreTrainedModel:
        torch.manual_seed(0)
        config = ElectraConfig(
            vocab_size=61,
            embedding_size=24,  # not the hidden size: a projection between them, a fixed cost
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=40,
            initializer_range=0.3,
        )
        return request.param(config).eval()
