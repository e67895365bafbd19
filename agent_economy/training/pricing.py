"""What a training's agents are charged: FLOPs, or milliseconds of a machine that was measured."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch

from agent_economy.latencies import budget_share, charged, latency_config, tariff_of
from agent_economy.training.batches import Rows
from agent_economy.training.settings import TrainSettings

if TYPE_CHECKING:
    from agent_economy.adapters import Adapter
    from agent_economy.config import LatencyConfig


class Priced(NamedTuple):
    """Settings whose budget is a share of what all agents are charged.

    Attributes:
        settings: with the budget in milliseconds, if there is one, as that share.
        latency: what agents take on a clock; None where FLOPs are charged.
        about: what to record of it.
    """

    settings: TrainSettings
    latency: LatencyConfig | None
    about: dict[str, Any]

    @classmethod
    def of(
        cls,
        settings: TrainSettings,
        adapter: Adapter,
        rows: Rows,
        device: torch.device,
        *,
        pooled: bool,
    ) -> Self:
        """Look latencies up where the settings ask for them; the adapter's shape takes them on.

        Raises:
            EconomyError: there are none for this model here, or the budget is less than what layers
                take without any agent.
        """
        asked = settings.latency
        if asked is None:
            return cls(settings, None, {})
        latency = latency_config(
            adapter.shape,
            rows=asked.rows,
            length=asked.length or max(1, round(float(rows.lengths_B.mean()))),
            device=device.type,
            table=None if asked.table is None else Path(asked.table),
        )
        adapter.shape = charged(adapter.shape, latency)
        if asked.budget_ms is not None:
            share = budget_share(asked.budget_ms, latency, adapter, pooled=pooled)
            settings = settings.model_copy(update={"budget": share})
        size = len(adapter.sites), latency.rows, latency.length
        tariff = tariff_of(latency)
        dense_ms = tariff.dense_ms(adapter.shape, *size, pooled=pooled)
        rest_ms = tariff.rest_ms(*size)
        about = {
            **{key: getattr(latency, key) for key in ("device", "threads", "date")},
            **{key: getattr(latency, key) for key in ("rows", "length")},
            "budget_ms": rest_ms + settings.budget * (dense_ms - rest_ms),
            "dense_ms": dense_ms,
            "digest": _digest(latency),
        }
        return cls(settings, latency, {"latency": about})


def _digest(latency: LatencyConfig) -> str:
    """SHA-256 of what the machine's table came to: a resumed training must pay the same prices."""
    lines = json.dumps(latency.model_dump(mode="json")["lines"], sort_keys=True)
    return hashlib.sha256(lines.encode()).hexdigest()
