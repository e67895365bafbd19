"""A tiny BERT in a folder, with a tokenizer that knows letters."""

from __future__ import annotations

import pytest
from models import write_tiny
from transformers import BertModel

from simulations.scarcity.config import ScarcityConfig


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny(tmp_path_factory.mktemp("tiny-bert"), BertModel)


@pytest.fixture(scope="session")
def tiny_study(tiny_folder: str) -> ScarcityConfig:
    return ScarcityConfig.model_validate(
        {
            "model": tiny_folder,
            "steps": 2,
            "batch_size": 3,
            "max_tokens": 24,
            "calibration_texts": 6,
            "block_size": 32,
            "budgets": [1.0, 0.5],
            "seeds": [0],
            "showcase": "a short sentence",
            "markets": [
                {"mechanism": "uniform_price", "policies": ["taylor", "random"]},
                {"mechanism": "uniform_price", "scope": "token"},
                {"mechanism": "posted_price"},
                {"mechanism": "uniform"},
            ],
        }
    )
