"""Where gates enter an architecture: one declarative file each.

``docs/adapters.md`` adds one step by step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_economy.adapters.base import Adapter, Sites
from agent_economy.errors import EconomyError
from agent_economy.registry import Registry

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ADAPTERS: Registry[Adapter] = Registry("architecture", "agent_economy.adapters", Adapter)


def adapter_for(model: PreTrainedModel, block_size: int) -> Adapter:
    """The adapter for a model's architecture.

    Raises:
        EconomyError: there is none; the message names the nearest and the guide.
    """
    model_type = model.config.model_type
    try:
        member = ADAPTERS.get(model_type)
    except EconomyError as error:
        raise EconomyError(f"{error}; docs/adapters.md says how to add one") from error
    return member(model, block_size)


__all__ = ["ADAPTERS", "Adapter", "Sites", "adapter_for"]
