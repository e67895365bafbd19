"""Every architecture, bare and with task heads, keeps the adapter contract."""

from __future__ import annotations

import pytest
from models import ARCHITECTURES, BLOCK_SIZE, HEADS, tiny_model
from transformers import PreTrainedModel

from agent_economy.testing.adapter_contract import AdapterContract


class TestAdapters(AdapterContract):
    block_size = BLOCK_SIZE

    @pytest.fixture(params=[(a, h) for a in ARCHITECTURES for h in HEADS], ids="-".join)
    def model(self, request: pytest.FixtureRequest) -> PreTrainedModel:
        return tiny_model(*request.param)
