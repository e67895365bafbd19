"""A workshop around a tiny random model, and a recorded run made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from models import write_tiny
from recorded import write_recorded
from transformers import BertModel

from agent_economy.dashboard.setting import Setting
from agent_economy.dashboard.workshop import Workshop

SENTENCE = "a debt is paid"


@pytest.fixture(scope="session")
def tiny_setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    folder = write_tiny(tmp_path_factory.mktemp("page-bert"), BertModel)
    return Setting.model_validate(
        {
            "model": folder,
            "block_size": 32,
            "batch_size": 2,
            "max_tokens": 20,
            "calibration_texts": 4,
            "pool_texts": 6,
            "sentence": SENTENCE,
            "wallet": {"endowment_credits": 400.0, "income": {"name": "revenue"}},
        }
    )


@pytest.fixture(scope="session")
def workshop(tiny_setting: Setting) -> Workshop:
    return Workshop(tiny_setting)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    return write_recorded(tmp_path / "run")
