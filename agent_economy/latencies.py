"""Milliseconds instead of FLOPs: the machine's table, fitted to the layers of one model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.console import Console

from agent_economy.config import LatencyConfig
from agent_economy.costs.latency import KINDS, LatencyTariff, Line
from agent_economy.costs.latency_table import from_rows, read_table
from agent_economy.zoo.base import cache_root

if TYPE_CHECKING:
    from agent_economy.adapters import Adapter
    from agent_economy.costs.shape import LayerShape


def default_table() -> Path:
    """Where `agent-economy bench latency` leaves this machine's table: the cache folder."""
    return cache_root() / "latency.json"


def latency_config(
    shape: LayerShape,
    *,
    rows: int,
    length: int,
    device: str = "cpu",
    table: Path | None = None,
) -> LatencyConfig:
    """Measured latencies of layers of one shape, for batches of one size.

    Says so on stderr where they were measured with other threads than this process has.

    Args:
        shape: of every layer.
        rows: of the batches that budgets in milliseconds are stated for.
        length: tokens in each row of theirs.
        device: where.
        table: of readings; None takes ``default_table``.

    Raises:
        EconomyError: there is no table, or nothing about such layers on that device in it.
    """
    found = read_table(default_table() if table is None else table)
    if device == "cpu" and found["threads"] != torch.get_num_threads():
        console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        console.print(
            f"latencies were measured with {found['threads']} threads and this process runs with "
            f"{torch.get_num_threads()}: milliseconds are those of OMP_NUM_THREADS="
            f"{found['threads']}",
            style="yellow",
        )
    fitted = LatencyTariff.fit(from_rows(found["rows"]), shape, device)
    lines = {
        kind: (line.call_ms, line.token_ms, line.pair_ms) for kind, line in fitted.lines.items()
    }
    return LatencyConfig(
        lines=lines,
        device=device,
        threads=found["threads"],
        date=found["date"],
        rows=rows,
        length=length,
    )


def tariff_of(latency: LatencyConfig) -> LatencyTariff:
    """The tariff that a config holds."""
    return LatencyTariff({kind: Line(*latency.lines[kind]) for kind in KINDS}, latency.device)


def charged(shape: LayerShape, latency: LatencyConfig | None) -> LayerShape:
    """The shape with agents charged in milliseconds; in FLOPs where there are no latencies."""
    if latency is None:
        return replace(shape, rates=None)
    rates = tariff_of(latency).rates(shape, latency.rows * latency.length)
    return replace(shape, rates=rates)


def budget_share(
    budget_ms: float, latency: LatencyConfig, adapter: Adapter, *, pooled: bool
) -> float:
    """A budget in milliseconds as the share of what all agents are charged.

    Args:
        budget_ms: for a forward of the layers on a batch of the config's size.
        latency: of the model.
        adapter: the model.
        pooled: whether only the first token is read after the last layer.

    Raises:
        EconomyError: not even a forward without agents is that fast.
    """
    return tariff_of(latency).budget_fraction(
        float(budget_ms),
        adapter.shape,
        len(adapter.sites),
        latency.rows,
        latency.length,
        pooled=pooled,
    )
