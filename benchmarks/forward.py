"""Clearing 1,024 tokens x 144 agents, as a share of MiniLM's dense forward of those tokens.

MiniLM has six layers of 24 agents: six spot clearings of a layer each, or one joint clearing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from agent_economy.errors import EconomyError
from benchmarks.markets import clearer, mechanisms, order
from benchmarks.row import Row, row
from benchmarks.timing import interleaved, median_ratio, note

DENSE = "MiniLM's dense forward"
#: share of the dense forward that a clearing may take; iterative mechanisms have more
TARGET, ITERATIVE_TARGET = 0.03, 0.10
ITERATIVE = ("fisher_market", "sparse_softmax")


def rows(*, quick: bool = False) -> list[Row]:
    """The dense forward, and every mechanism and scope: six layers, and jointly."""
    model = _minilm()
    batch = {"input_ids": torch.randint(1000, 20000, (8, 128))}
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    layer, joint = order(8, 128, 1), order(8, 128, 6)

    @torch.no_grad()
    def forward() -> None:
        model(**batch)

    candidates: dict[str, Callable[[], object]] = {DENSE: forward}
    for name, mechanism in mechanisms().items():
        candidates[f"{name}, six layers"] = clearer(mechanism, layer, 6)
        candidates[f"{name}, joint"] = clearer(mechanism, joint)
    readings = interleaved(
        candidates,
        rounds=2 if quick else 15,
        warm_up=1 if quick else 2,
        say="clearing against the dense forward",
    )
    return [
        row(
            "forward",
            name,
            joint.bids,
            times,
            ratio=median_ratio(readings, name, DENSE),
            to=DENSE,
        )
        for name, times in readings.items()
    ]


def target(name: str) -> float:
    """The share of the dense forward that a mechanism (``name/scope``) may take."""
    return ITERATIVE_TARGET if name.startswith(ITERATIVE) else TARGET


def _minilm() -> torch.nn.Module:
    """MiniLM; with random weights, which take as long, where the real ones are not installed."""
    from transformers import BertConfig, BertModel

    from agent_economy.zoo import load

    try:
        return load("minilm").model
    except EconomyError as error:
        note(f"timing MiniLM's shape with random weights ({error})")
        config = BertConfig(
            hidden_size=384,
            num_hidden_layers=6,
            num_attention_heads=12,
            intermediate_size=1536,
        )
        return BertModel(config).eval()
