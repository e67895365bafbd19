"""The masked reference that compacted models are compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from models import BLOCK_SIZE
from torch import Tensor
from transformers import PreTrainedModel

from agent_economy.adapters import adapter_for
from agent_economy.executors.masked import MaskedExecutor
from agent_economy.testing.adapter_contract import Gates

Masked = Callable[[PreTrainedModel, Tensor, dict[str, Any]], Tensor]


@pytest.fixture(scope="session")
def masked() -> Masked:
    """(model, plan, batch) -> its first output where the plan's agents serve every token."""

    def run(model: PreTrainedModel, plan_YN: Tensor, batch: dict[str, Any]) -> Tensor:
        rows, length = batch["input_ids"].shape
        gates = {
            layer: plan_N.float().expand(rows, length, -1) for layer, plan_N in enumerate(plan_YN)
        }
        executor = MaskedExecutor(adapter_for(model, BLOCK_SIZE))
        with torch.no_grad():
            first: Tensor = executor.run(batch, Gates(gates))[0][0]
        return first

    return run
