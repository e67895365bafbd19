"""One window's payments, put down as numbers of a network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from agent_economy.metrics.network import circulation, components, cycle_lengths, triad_scores


def measured(flow_NN: np.ndarray, samples: int, seed: int) -> Iterator[dict[str, Any]]:
    """One row per number: components, flow that goes round, cycle lengths, triads.

    Args:
        flow_NN: credits from payer to payee.
        samples: random networks that triads are compared with.
        seed: of their draws.

    Yields:
        ``measure``, ``value``, and for triads ``expected`` and ``z`` beside the count.
    """
    found = components(flow_NN)
    for name, value in found._asdict().items():
        yield _row(name, value)
    linked = flow_NN > 0
    pairs = max(found.nodes * (found.nodes - 1), 1)
    yield _row("density", linked.sum() / pairs)
    yield _row("reciprocity", (linked & linked.T).sum() / max(linked.sum(), 1))
    yield _row("credits", flow_NN.sum())
    round_ = circulation(flow_NN)
    yield _row("cyclic_share", round_.cyclic_share)
    total = max(flow_NN.sum(), 1e-300)
    for length, flow in cycle_lengths(round_.cyclic_NN).items():
        yield _row(f"cycles of {length}", flow / total)
    for name, triad in triad_scores(linked, samples=samples, seed=seed).items():
        yield _row(f"triad {name}", triad.seen, triad.expected, triad.z)


def _row(measure: str, value: float, expected: float = np.nan, z: float = np.nan) -> dict[str, Any]:
    return {"measure": measure, "value": float(value), "expected": expected, "z": z}
